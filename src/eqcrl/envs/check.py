"""The environment contract, run: what `eqcrl check env NAME` and the contract test of a plugin call.

Each check is a small function whose first line says what must hold. It returns nothing, or a remark; it raises
`_Violation`, or crashes inside the environment, where the contract is broken. Checks name those they build on:
what stands on a broken one is not run, so the report shows causes and not their consequences.
"""

import copy
import math
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from eqcrl.envs.base import AbstractEnv, State, TopView, spec_of
from eqcrl.envs.wrap import BatchedEnv, BatchState, select
from eqcrl.errors import CheckFailed
from eqcrl.types import Key

RESETS = 256
STEPS = 300
COPIES = 8
LONGEST_EPISODE = 1000  # steps; of a longer episode only the end is run
TOLERANCE = 1e-3  # between compilations of one step: they may fuse and reorder sums


@dataclass(frozen=True)
class CheckResult:
    """What one check found; `message` says what is wrong, where, and how to mend it."""

    name: str
    description: str
    status: Literal["pass", "note", "fail", "not run"]
    message: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What every check found, in the order they ran."""

    env: str
    results: tuple[CheckResult, ...]

    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed; those that were not run for it are not among them."""
        return tuple(r for r in self.results if r.status == "fail")

    def raise_if_failed(self) -> None:
        """Raises: CheckFailed that lists every failure."""
        failed = self.failures()
        if failed:
            lines = [f"{r.name} ({r.description}):\n    {r.message}" for r in failed]
            raise CheckFailed(
                f"{self.env} breaks the environment contract: {len(failed)} of {len(self.results)} checks failed.",
                mend="\n  ".join(lines),
            )


def check_env(env: AbstractEnv, *, seed: int = 0) -> CheckReport:
    """Run the contract of `eqcrl.envs.base.AbstractEnv` on one environment; `seed` draws starts and actions.

    Never raises for what the environment does: a crash in one of its methods is a failed check.
    """
    probe = _Probe(env, seed)
    results: dict[str, CheckResult] = {}
    for check in CHECKS:
        broken = next((n for n in check.needs if results[n].status in ("fail", "not run")), None)
        if broken is not None:
            found = CheckResult(check.name, check.description, "not run", f"It builds on `{broken}`.")
        else:
            found = _run(check, probe)
        results[check.name] = found
    return CheckReport(type(env).__name__, tuple(results.values()))


# ---------------------------------------------------------------------------------------------- machinery


class _Violation(Exception):
    def __init__(self, what: str, mend: str):
        super().__init__(f"{what} {mend}")


class _Probe:
    """The environment under test, and samples of it that several checks share."""

    def __init__(self, env: AbstractEnv, seed: int):
        self.env = env
        self.key = jax.random.key(seed)

    def keys(self, purpose: str, count: int) -> Shaped[Array, "count"]:
        """Random keys of one check, apart from those of every other."""
        return jax.random.split(jax.random.fold_in(self.key, zlib.crc32(purpose.encode())), count)

    @cached_property
    def start(self) -> Any:
        """One reset, not compiled: (state, goal) where `reset` passed."""
        return self.env.reset(self.key)

    @cached_property
    def starts(self) -> tuple[State, Float[Array, "resets goal"], Float[Array, "resets goal"]]:
        """Many resets: states, desired goals, achieved goals."""
        state, goal = _over(self.env.reset, self.keys("starts", RESETS))
        return state, goal, _over(self.env.achieved_goal, state)

    @cached_property
    def actions(self) -> Float[Array, "steps action"]:
        """A third uniform, a third corners of the box held for ten steps, a third a new corner every step."""
        shape, third = (STEPS // 3, self.env.action_size), STEPS // 3
        uniform, held, rapid = self.keys("actions", 3)
        corners = jnp.repeat(_corners(held, (-(-third // 10), shape[1])), 10, axis=0)[:third]
        return jnp.concatenate([jax.random.uniform(uniform, shape, minval=-1.0), corners, _corners(rapid, shape)])


def _corners(key: Key, shape: tuple[int, ...]) -> Array:
    return jnp.where(jax.random.bernoulli(key, shape=shape), 1.0, -1.0)


@dataclass(frozen=True)
class _Check:
    name: str
    description: str
    needs: tuple[str, ...]
    run: Callable[[_Probe], str | None]


def _check(*needs: str) -> Callable[[Callable[[_Probe], str | None]], _Check]:
    def decorate(run: Callable[[_Probe], str | None]) -> _Check:
        return _Check(run.__name__.replace("_", "-"), (run.__doc__ or "").strip().rstrip("."), needs, run)

    return decorate


def _run(check: _Check, probe: _Probe) -> CheckResult:
    try:
        remark = check.run(probe)
    except _Violation as violation:
        return CheckResult(check.name, check.description, "fail", str(violation))
    except Exception as error:  # an environment may raise anything
        text = (str(error).strip().splitlines() or ["no message"])[0]
        return CheckResult(
            check.name, check.description, "fail",
            f"It crashed at {_place(error, probe.env)}: {type(error).__name__}: {text}{_hint(error)}",
        )
    return CheckResult(check.name, check.description, "note" if remark else "pass", remark or "")


def _place(error: Exception, env: AbstractEnv) -> str:
    """The deepest line of the environment's own module in the traceback, else the deepest line."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(f, line) for f, line in frames if f.f_globals.get("__name__") == type(env).__module__]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line} in `{frame.f_code.co_name}`"


def _hint(error: Exception) -> str:
    if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        return " Choose with `jnp.where` or `jax.lax.cond`, and compute with `jnp`, not `np`, on traced values."
    return ""


def _over(function: Callable[..., Any], *stacked: Any) -> Any:
    """The function on each row, compiled once, by a loop: without `vmap`, which has a check of its own."""
    return jax.jit(lambda rows: jax.lax.map(lambda row: function(*row), rows))(stacked)


def _numbers(leaf: Any) -> np.ndarray:
    """Plain numbers of an array, random keys included."""
    keys = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf)


def _difference(one: Any, other: Any, tolerance: float) -> str | None:
    """Where two pytrees of one structure differ by more than the tolerance, absolute and relative."""
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        a, b = _numbers(a), _numbers(b)
        slack = tolerance if np.issubdtype(a.dtype, np.inexact) else 0.0
        if a.shape != b.shape or not np.allclose(a, b, rtol=slack, atol=slack, equal_nan=True):
            return f"{jax.tree_util.keystr(path) or 'it'} was {_short(a)} and {_short(b)}"
    return None


def _short(x: np.ndarray) -> str:
    return np.array2string(x, precision=4, threshold=6).replace("\n", " ")


def _vector(x: Any, method: str) -> None:
    if not eqx.is_array(x) or x.ndim != 1 or x.size == 0 or x.dtype != jnp.float32:
        raise _Violation(f"`{method}` gave {_kind(x)}.", "Return a one-dimensional float32 array with at least one "
                         "number, e.g. by `jnp.concatenate` or `jnp.atleast_1d`.")


def _scalar(x: Any, method: str, dtype: Any) -> None:
    if not eqx.is_array(x) or x.ndim != 0 or x.dtype != dtype:
        name = jnp.dtype(dtype).name
        raise _Violation(f"`{method}` gave {_kind(x)}.", f"Return a scalar {name} array, e.g. `jnp.asarray(...)`; "
                         "for a vector reduce it, e.g. by `jnp.linalg.norm` or `jnp.all`.")


def _kind(x: Any) -> str:
    return f"an array {x.dtype.name}{list(x.shape)}" if eqx.is_array(x) else f"a {type(x).__name__}"


def _one_step(probe: _Probe, env: AbstractEnv) -> dict[str, Any]:
    """What every method of the dynamics gives for one key and action."""
    state, goal = env.reset(probe.key)
    after = env.step(state, probe.actions[0], probe.key)
    achieved = env.achieved_goal(after)
    return {
        "reset": (state, goal), "step": after, "observation": env.observation(after), "achieved_goal": achieved,
        "goal_distance": env.goal_distance(achieved, goal), "terminated": env.terminated(after),
    }


def _compare(one: dict[str, Any], other: dict[str, Any], what: str, mend: str, tolerance: float) -> None:
    for method in one:
        difference = _difference(one[method], other[method], tolerance)
        if difference is not None:
            raise _Violation(f"`{method}` {what}: {difference}.", mend)


# ------------------------------------------------------------------------------------- shapes, not compiled


@_check()
def fields(probe: _Probe) -> None:
    """action_size and episode_length are whole numbers >= 1, success_radius is finite and positive."""
    env = probe.env
    for name in ("action_size", "episode_length"):
        value = getattr(env, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _Violation(f"`{name}` is {value!r}.", "Make it a Python int of at least 1, in a static field.")
    radius = env.success_radius
    if not isinstance(radius, (int, float)) or not (math.isfinite(radius) and radius > 0):
        raise _Violation(f"`success_radius` is {radius!r}.",
                         "Make it a positive Python float in the unit of `goal_distance`.")


@_check()
def reset(probe: _Probe) -> None:
    """reset gives (state, goal): a pytree of arrays and a one-dimensional float32 array."""
    pair = probe.start
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise _Violation(f"`reset` gave a {type(pair).__name__}.", "Return the two-tuple (state, desired_goal).")
    state, goal = pair
    leaves = jax.tree.leaves_with_path(state)
    if not leaves:
        raise _Violation("The state that `reset` gave holds no arrays.", "Return a pytree of arrays.")
    for path, leaf in leaves:
        if not eqx.is_array(leaf):
            raise _Violation(f"state{jax.tree_util.keystr(path)} from `reset` is a {type(leaf).__name__}.",
                             "Wrap it in `jnp.asarray`, with the dtype that `step` keeps.")
    _vector(goal, "reset (its goal)")


@_check("reset")
def observation(probe: _Probe) -> None:
    """observation gives a one-dimensional float32 array."""
    _vector(probe.env.observation(probe.start[0]), "observation")


@_check("reset")
def achieved_goal(probe: _Probe) -> None:
    """achieved_goal gives a float32 array of the desired goal's shape."""
    state, goal = probe.start
    achieved = probe.env.achieved_goal(state)
    _vector(achieved, "achieved_goal")
    if achieved.shape != goal.shape:
        raise _Violation(f"`achieved_goal` has {achieved.size} numbers, the goal of `reset` has {goal.size}.",
                         "Both are points of one goal space: give them the same coordinates in the same order.")


@_check("achieved-goal")
def goal_distance(probe: _Probe) -> None:
    """goal_distance gives a scalar float32."""
    state, goal = probe.start
    _scalar(probe.env.goal_distance(probe.env.achieved_goal(state), goal), "goal_distance", jnp.float32)


@_check("reset")
def terminated(probe: _Probe) -> None:
    """terminated gives a scalar bool array."""
    _scalar(probe.env.terminated(probe.start[0]), "terminated", jnp.bool_)


# The state decides the shapes of observation and goal, so where it keeps its form they keep theirs.
@_check("fields", "reset")
def step(probe: _Probe) -> None:
    """step keeps the structure, shapes and dtypes of the state, so that lax.scan can carry it."""
    state = probe.start[0]
    after = probe.env.step(state, probe.actions[0], probe.key)
    if jax.tree.structure(after) != jax.tree.structure(state):
        raise _Violation(f"`step` turned the state {jax.tree.structure(state)} into {jax.tree.structure(after)}.",
                         "Return the same pytree, with the same static fields, that `reset` returns.")
    for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(after), strict=True):
        if not eqx.is_array(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
            raise _Violation(f"state{jax.tree_util.keystr(path)} is {_kind(a)} after `reset` and {_kind(b)} after "
                             "`step`.", "Give it one shape and dtype in both.")


DYNAMICS = ("observation", "achieved-goal", "goal-distance", "terminated", "step")

# ----------------------------------------------------------------------------------------- transformations


@_check(*DYNAMICS)
def deterministic(probe: _Probe) -> None:
    """The same key, state and action give the same bits."""
    _compare(_one_step(probe, probe.env), _one_step(probe, probe.env), "gave two results for the same arguments",
             "Draw every random number from the key argument, by `jax.random`, and keep nothing between calls.", 0.0)


@_check("deterministic")
def jit(probe: _Probe) -> None:
    """jax.jit runs every method and agrees with the plain call."""
    compiled = jax.jit(lambda: _one_step(probe, probe.env))()
    _compare(_one_step(probe, probe.env), compiled, "differs with and without `jax.jit`",
             "Let results depend on the arguments alone, not on Python state or on whether they are traced.",
             TOLERANCE)


@_check("jit")
def vmap(probe: _Probe) -> None:
    """jax.vmap runs every method and agrees with single calls."""
    keys, actions = probe.keys("vmap", 4), probe.actions[-4:]

    def advance(key: Key, action: Array) -> dict[str, Any]:
        state, goal = probe.env.reset(key)
        after = probe.env.step(state, action, key)
        achieved = probe.env.achieved_goal(after)
        return {
            "reset": (state, goal), "step": after, "observation": probe.env.observation(after),
            "goal_distance": probe.env.goal_distance(achieved, goal), "terminated": probe.env.terminated(after),
        }

    _compare(jax.jit(jax.vmap(advance))(keys, actions), _over(advance, keys, actions),
             "differs with and without `jax.vmap`", "Index from the last axis, and give callbacks a `vmap_method`.",
             TOLERANCE)


@_check("jit")
def hashable(probe: _Probe) -> None:
    """Every field is an array or hashable, and an equal environment is not compiled anew."""
    leaves, structure = jax.tree.flatten(probe.env)
    try:
        hash((structure, *(leaf for leaf in leaves if not eqx.is_array(leaf))))
    except TypeError as error:
        raise _Violation(f"A field is neither an array nor hashable: {error}.", "Keep arrays in fields that are not "
                         "static, and static data in tuples, strings and numbers.") from None
    traces = []

    @eqx.filter_jit
    def start(env: AbstractEnv, key: Key) -> Any:
        traces.append(env)
        return env.reset(key)

    for env in (probe.env, copy.deepcopy(probe.env)):
        start(env, probe.key)
    if len(traces) > 1:
        raise _Violation("A copy of the environment does not equal it, so everything is compiled twice.",
                         "Give the objects in its static fields `__eq__` and `__hash__` by value, e.g. a frozen "
                         "dataclass or a tuple.")


# ------------------------------------------------------------------------------------------------ dynamics


@_check("jit")
def finite(probe: _Probe) -> None:
    """Values stay finite under random and extreme actions."""
    env = probe.env

    def advance(carry: tuple[Any, Array, Array], xs: tuple[Array, Key]) -> tuple[Any, Any]:
        state, goal, elapsed = carry
        state = env.step(state, xs[0], xs[1])
        achieved = env.achieved_goal(state)
        seen = {
            "observation": env.observation(state), "achieved_goal": achieved,
            "goal_distance": env.goal_distance(achieved, goal),
            # Physics engines mark absent contacts by infinity, so a state is only asked to be a number.
            "step": [jnp.nan_to_num(x, nan=jnp.nan, posinf=0.0, neginf=0.0)
                     for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)],
        }
        ended = env.terminated(state) | (elapsed + 1 >= env.episode_length)
        fresh = (*env.reset(xs[1]), jnp.zeros((), jnp.int32))
        carry = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, (state, goal, elapsed + 1))
        return carry, seen

    begin = (*env.reset(probe.key), jnp.zeros((), jnp.int32))
    xs = (probe.actions, probe.keys("finite", STEPS))
    _, seen = jax.jit(lambda: jax.lax.scan(advance, begin, xs))()
    for method, values in seen.items():
        for leaf in jax.tree.leaves(values):
            bad = ~np.isfinite(np.asarray(leaf)).reshape(STEPS, -1).all(axis=1)
            if bad.any():
                row = int(np.argmax(bad))
                raise _Violation(f"`{method}` gave {_short(np.asarray(leaf)[row])} at step {row + 1}, after action "
                                 f"{_short(np.asarray(probe.actions[row]))}.",
                                 "Bound velocities, take smaller substeps, and guard divisions and square roots.")


@_check("finite")
def actions_matter(probe: _Probe) -> None:
    """Other actions lead to other states."""
    state, _ = probe.start

    def drive(actions: Float[Array, "steps action"]) -> State:
        keys = probe.keys("drive", actions.shape[0])
        return jax.lax.scan(lambda s, x: (probe.env.step(s, *x), None), state, (actions, keys))[0]

    drive = jax.jit(drive)
    count = min(probe.env.episode_length, STEPS // 3)
    if _difference(drive(probe.actions[:count]), drive(-probe.actions[:count]), 0.0) is None:
        raise _Violation(f"{count} random actions and their opposites lead from one start to the same state.",
                         "Let `step` use its action.")


@_check("jit")
def keys_matter(probe: _Probe) -> str | None:
    """Other keys give other starts or goals."""
    state, goal, _ = probe.starts
    if all(_constant(leaf) for leaf in jax.tree.leaves((state, goal))):
        return f"{RESETS} resets gave one start and one goal: fit for evaluation only. Draw them from the key."
    return None


def _constant(rows: Array | np.ndarray) -> bool:
    numbers = _numbers(rows)
    return bool(np.array_equal(numbers, np.broadcast_to(numbers[:1], numbers.shape), equal_nan=numbers.dtype.kind == "f"))


# --------------------------------------------------------------------------------------------------- goals


@_check("jit")
def zero_distance(probe: _Probe) -> None:
    """goal_distance(g, g) is 0."""
    _, goal, _ = probe.starts
    distance = np.asarray(_over(probe.env.goal_distance, goal, goal))
    worst = int(np.argmax(np.abs(distance)))
    if not abs(distance[worst]) <= min(1e-3, probe.env.success_radius / 10):
        raise _Violation(f"The distance from goal {_short(np.asarray(goal[worst]))} to itself is {distance[worst]:.4g}.",
                         "Measure the difference of the two goals, without offset.")


@_check("jit")
def nonnegative_distance(probe: _Probe) -> None:
    """goal_distance is never negative."""
    _, goal, achieved = probe.starts
    for one, other in ((achieved, goal), (goal, jnp.roll(goal, 1, axis=0))):
        distance = np.asarray(_over(probe.env.goal_distance, one, other))
        row = int(np.argmin(distance))
        if distance[row] < 0:
            raise _Violation(f"The distance from {_short(np.asarray(one[row]))} to {_short(np.asarray(other[row]))} is "
                             f"{distance[row]:.4g}.", "Return a length, e.g. `jnp.linalg.norm` of the difference.")


@_check("jit")
def reachable(probe: _Probe) -> None:
    """Every desired goal can be reached from its start, by goal_reachable."""
    state, goal, _ = probe.starts
    _all_reachable(probe.env, state, goal, "goal of `reset`", "Draw goals only from what a start can reach.")


@_check("reachable")
def start_reachable(probe: _Probe) -> None:
    """The goal that a start achieves counts as reachable from it."""
    state, _, achieved = probe.starts
    _all_reachable(probe.env, state, achieved, "goal that its start achieves already",
                   "Let `achieved_goal` and `goal_reachable` use one goal space, with room for rounding.")


def _all_reachable(env: AbstractEnv, state: State, goal: Float[Array, "resets goal"], what: str, mend: str) -> None:
    reach = _over(env.goal_reachable, state, goal)
    _scalar(reach[0], "goal_reachable", jnp.bool_)
    lost = ~np.asarray(reach)
    if lost.any():
        row = int(np.argmax(lost))
        raise _Violation(f"In {int(lost.sum())} of {len(lost)} resets the {what} is not reachable, e.g. "
                         f"{_short(np.asarray(goal[row]))}.", mend)


@_check("jit")
def starts_alive(probe: _Probe) -> None:
    """No episode is terminated where it starts."""
    dead = np.asarray(_over(probe.env.terminated, probe.starts[0]))
    if dead.any():
        raise _Violation(f"{int(dead.sum())} of {RESETS} starts are terminated.",
                         "Draw starts that `terminated` accepts, or loosen it.")


@_check("zero-distance", "nonnegative-distance")
def starts_away(probe: _Probe) -> None:
    """Fewer than half of the starts are already at their goal."""
    _, goal, achieved = probe.starts
    there = np.asarray(_over(probe.env.goal_distance, achieved, goal)) < probe.env.success_radius
    if there.mean() >= 0.5:
        raise _Violation(f"{there.mean():.0%} of the starts lie within the success radius "
                         f"{probe.env.success_radius:g} of their goal.",
                         "Spread starts and goals, or make `success_radius` smaller.")


@_check("starts-away")
def goal_hidden(probe: _Probe) -> None:
    """The desired goal stands neither in the state nor in the observation."""
    state, goal, achieved = (jax.tree.map(_numbers, x) for x in probe.starts)
    if _constant(goal):
        return  # a constant can stand anywhere by chance
    observed = np.asarray(_over(probe.env.observation, probe.starts[0]))
    places = {"the observation": observed}
    for path, leaf in jax.tree.leaves_with_path(state):
        places[f"state{jax.tree_util.keystr(path)}"] = leaf.reshape(RESETS, -1)
    for secret, name in ((goal, "desired goal"), (goal - achieved, "way to the goal"), (achieved - goal, "way to the goal")):
        for place, rows in places.items():
            at = _slice_of(rows, secret)
            if at is not None:
                raise _Violation(f"The goal leaks into the state: {place} holds the {name} at [{at}:{at + goal.shape[1]}] "
                                 "in every reset.", "Leave it out: eqcrl gives the goal to the policy itself, and "
                                 "relabels it.")


def _slice_of(rows: Shaped[np.ndarray, "resets numbers"], secret: Float[np.ndarray, "resets goal"]) -> int | None:
    """Where the secret stands in every row, as consecutive numbers."""
    size = secret.shape[1]
    for at in range(rows.shape[1] - size + 1):
        if np.allclose(rows[:, at : at + size], secret, rtol=1e-5, atol=1e-6):
            return at
    return None


# ------------------------------------------------------------------------------------- what is built on it


@_check("vmap", "starts-alive", "actions-matter")
def auto_reset(probe: _Probe) -> None:
    """In a batch, time ends an episode without termination, and a fresh start and goal follow."""
    env = probe.env
    batch, steps = BatchedEnv(env, COPIES), min(env.episode_length, LONGEST_EPISODE)
    act_key, reset_key, step_key = probe.keys("auto-reset", 3)
    actions = jax.random.uniform(act_key, (steps, COPIES, env.action_size), minval=-1.0)

    def advance(state: BatchState, xs: tuple[Array, Key]) -> tuple[BatchState, dict[str, Bool[Array, "envs"]]]:
        after, result = batch.step(state, *xs)
        began = result.terminated | result.truncated
        return after, {
            "terminated": result.terminated, "truncated": result.truncated,
            "same goal": began & jnp.all(after.desired_goal == state.desired_goal, axis=-1),
            "same state": began & _rows_equal(after.physics, state.physics),
            "dead": began & jax.vmap(env.terminated)(after.physics),
        }

    begin = batch.reset(reset_key)
    # Of a very long episode only the end is run.
    begin = eqx.tree_at(lambda s: s.elapsed, begin, begin.elapsed + (env.episode_length - steps))
    xs = (actions, jax.random.split(step_key, steps))
    _, seen = jax.jit(lambda: jax.lax.scan(advance, begin, xs))()
    seen = {name: np.asarray(rows) for name, rows in seen.items()}
    began = seen["terminated"] | seen["truncated"]
    if seen["terminated"][-1].all() and not seen["terminated"][:-1].any():
        raise _Violation(f"`terminated` is true in all of {COPIES} copies at step episode_length = "
                         f"{env.episode_length} and in none before: it reports the time limit.",
                         "Leave time to eqcrl, which truncates; let `terminated` tell falls and the like only.")
    if seen["dead"].any():
        raise _Violation("A copy that was reset is terminated at its new start.", "Draw starts that `terminated` accepts.")
    if not _constant(probe.starts[1]) and (seen["same goal"] == began).all():
        raise _Violation("No copy got a fresh goal when it was reset.", "Draw the goal from the key of `reset`.")
    if steps > 1 and (seen["same state"] == began).all():
        raise _Violation("No copy left its last state when it was reset.", "Draw the start from the key of `reset`.")


def _rows_equal(one: State, other: State) -> Bool[Array, "envs"]:
    def equal(a: Array, b: Array) -> Array:
        return jnp.all((a == b).reshape(COPIES, -1), axis=1)

    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(equal, one, other))), axis=0)


@_check("jit")
def evaluation(probe: _Probe) -> None:
    """evaluation gives an environment of the same sizes whose goals can be reached."""
    other = probe.env.evaluation()
    if not isinstance(other, AbstractEnv):
        raise _Violation(f"`evaluation` gave a {type(other).__name__}.", "Return an AbstractEnv, or `self`.")
    here, there = spec_of(probe.env), spec_of(other)
    if here != there:
        raise _Violation(f"`evaluation` gave an environment of other sizes: {there}, not {here}.",
                         "Evaluate on the same robot: only layout, starts and goals may differ.")
    if other is not probe.env:
        state, goal = _over(other.reset, probe.keys("evaluation", RESETS))
        _all_reachable(other, state, goal, "goal of `evaluation().reset`", "Ask only for what a start can reach.")


@_check("jit")
def top_view(probe: _Probe) -> None:
    """top_view is None, or a plane that holds every start and goal outside its walls."""
    view = probe.env.top_view()
    if view is None:
        return
    if not isinstance(view, TopView):
        raise _Violation(f"`top_view` gave a {type(view).__name__}.", "Return a TopView or None.")
    low, high, walls = np.asarray(view.low, float), np.asarray(view.high, float), np.asarray(view.walls)
    if low.shape != (2,) or high.shape != (2,) or not (np.isfinite([low, high]).all() and (low < high).all()):
        raise _Violation(f"`top_view` spans from {view.low} to {view.high}.",
                         "Give two finite pairs, the lower corner first.")
    if walls.ndim != 2 or walls.shape[1] != 4 or not np.isfinite(walls).all() or (walls[:, :2] > walls[:, 2:]).any():
        raise _Violation(f"The walls of `top_view` have shape {list(walls.shape)} or corners out of order.",
                         "Give rows (low, low, high, high); `np.zeros((0, 4))` for none.")
    _, goal, achieved = probe.starts
    for points, what in ((achieved, "start"), (goal, "goal")):
        points = np.asarray(points)[:, :2]
        if points.shape[1] < 2:
            raise _Violation("`top_view` needs goals with two coordinates; they have one.", "Return None.")
        inside = ((points >= low) & (points <= high)).all(axis=1)
        blocked = ((points[:, None] > walls[:, :2]) & (points[:, None] < walls[:, 2:])).all(axis=2).any(axis=1)
        wrong = ~inside | blocked
        if wrong.any():
            raise _Violation(f"The {what} {_short(points[np.argmax(wrong)])} lies outside `top_view` or in one of its "
                             "walls.", "Give bounds and walls in the units and order of `achieved_goal[:2]`.")


CHECKS: tuple[_Check, ...] = (
    fields, reset, observation, achieved_goal, goal_distance, terminated, step,
    deterministic, jit, vmap, hashable,
    finite, actions_matter, keys_matter,
    zero_distance, nonnegative_distance, reachable, start_reachable, starts_alive, starts_away, goal_hidden,
    auto_reset, evaluation, top_view,
)  # fmt: skip
