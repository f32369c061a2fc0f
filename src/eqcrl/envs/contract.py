"""The environment contract as checks, part one: shapes, transformations, dynamics.

Each check is a small function whose first line says what must hold. It returns nothing, or a remark; it raises
`Violation`, or crashes inside the environment, where the contract is broken. It names the checks that it builds on:
on a broken one it is not run, so a report shows causes and not their consequences.
"""

import copy
import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqcrl.envs.base import AbstractEnv, State
from eqcrl.envs.probe import (
    RESETS,
    STEPS,
    Check,
    Probe,
    Violation,
    check,
    compare,
    constant,
    difference,
    kind,
    one_step,
    over,
    scalar,
    short,
    vector,
)
from eqcrl.types import Key

TOLERANCE = 1e-3  # between compilations of one step: they may fuse and reorder sums


# ------------------------------------------------------------------------------------- shapes, not compiled


@check()
def fields(probe: Probe) -> None:
    """action_size and episode_length are whole numbers >= 1, success_radius is finite and positive."""
    env = probe.env
    for name in ("action_size", "episode_length"):
        value = getattr(env, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Violation(f"`{name}` is {value!r}.", "Make it a Python int of at least 1, in a static field.")
    radius = env.success_radius
    if not isinstance(radius, (int, float)) or not (math.isfinite(radius) and radius > 0):
        raise Violation(
            f"`success_radius` is {radius!r}.",
            "Make it a positive Python float in the unit of `goal_distance`.",
        )


@check()
def reset(probe: Probe) -> None:
    """reset gives (state, goal): a pytree of arrays and a one-dimensional float32 array."""
    pair = probe.start
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise Violation(f"`reset` gave a {type(pair).__name__}.", "Return the two-tuple (state, desired_goal).")
    state, goal = pair
    leaves = jax.tree.leaves_with_path(state)
    if not leaves:
        raise Violation("The state that `reset` gave holds no arrays.", "Return a pytree of arrays.")
    for path, leaf in leaves:
        if not eqx.is_array(leaf):
            raise Violation(
                f"state{jax.tree_util.keystr(path)} from `reset` is a {type(leaf).__name__}.",
                "Wrap it in `jnp.asarray`, with the dtype that `step` keeps.",
            )
    vector(goal, "reset (its goal)")


@check("reset")
def observation(probe: Probe) -> None:
    """observation gives a one-dimensional float32 array."""
    vector(probe.env.observation(probe.start[0]), "observation")


@check("reset")
def achieved_goal(probe: Probe) -> None:
    """achieved_goal gives a float32 array of the desired goal's shape."""
    state, goal = probe.start
    achieved = probe.env.achieved_goal(state)
    vector(achieved, "achieved_goal")
    if achieved.shape != goal.shape:
        raise Violation(
            f"`achieved_goal` has {achieved.size} numbers, the goal of `reset` has {goal.size}.",
            "Both are points of one goal space: give them the same coordinates in the same order.",
        )


@check("achieved-goal")
def goal_distance(probe: Probe) -> None:
    """goal_distance gives a scalar float32."""
    state, goal = probe.start
    scalar(probe.env.goal_distance(probe.env.achieved_goal(state), goal), "goal_distance", jnp.float32)


@check("reset")
def terminated(probe: Probe) -> None:
    """terminated gives a scalar bool array."""
    scalar(probe.env.terminated(probe.start[0]), "terminated", jnp.bool_)


# The state decides the shapes of observation and goal, so where it keeps its form they keep theirs.
@check("fields", "reset")
def step(probe: Probe) -> None:
    """step keeps the structure, shapes and dtypes of the state, so that lax.scan can carry it."""
    state = probe.start[0]
    after = probe.env.step(state, probe.actions[0], probe.key)
    if jax.tree.structure(after) != jax.tree.structure(state):
        raise Violation(
            f"`step` turned the state {jax.tree.structure(state)} into {jax.tree.structure(after)}.",
            "Return the same pytree, with the same static fields, that `reset` returns.",
        )
    for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(after), strict=True):
        if not eqx.is_array(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
            raise Violation(
                f"state{jax.tree_util.keystr(path)} is {kind(a)} after `reset` and {kind(b)} after `step`.",
                "Give it one shape and dtype in both.",
            )


DYNAMICS = ("observation", "achieved-goal", "goal-distance", "terminated", "step")

# ----------------------------------------------------------------------------------------- transformations


@check(*DYNAMICS)
def deterministic(probe: Probe) -> None:
    """The same key, state and action give the same bits."""
    compare(
        one_step(probe, probe.env),
        one_step(probe, probe.env),
        "gave two results for the same arguments",
        "Draw every random number from the key argument, by `jax.random`, and keep nothing between calls.",
        0.0,
    )


@check("deterministic")
def jit(probe: Probe) -> None:
    """jax.jit runs every method and agrees with the plain call."""
    compiled = jax.jit(lambda: one_step(probe, probe.env))()
    compare(
        one_step(probe, probe.env),
        compiled,
        "differs with and without `jax.jit`",
        "Let results depend on the arguments alone, not on Python state or on whether they are traced.",
        TOLERANCE,
    )


@check("jit")
def vmap(probe: Probe) -> None:
    """jax.vmap runs every method and agrees with single calls."""
    keys, actions = probe.keys("vmap", 4), probe.actions[-4:]

    def advance(key: Key, action: Array) -> dict[str, Any]:
        state, goal = probe.env.reset(key)
        after = probe.env.step(state, action, key)
        achieved = probe.env.achieved_goal(after)
        return {
            "reset": (state, goal),
            "step": after,
            "observation": probe.env.observation(after),
            "goal_distance": probe.env.goal_distance(achieved, goal),
            "terminated": probe.env.terminated(after),
        }

    compare(
        jax.jit(jax.vmap(advance))(keys, actions),
        over(advance, keys, actions),
        "differs with and without `jax.vmap`",
        "Index from the last axis, and give callbacks a `vmap_method`.",
        TOLERANCE,
    )


@check("jit")
def hashable(probe: Probe) -> None:
    """Every field is an array or hashable, and an equal environment is not compiled anew."""
    try:
        _hash_fields(probe.env)
    except TypeError as error:
        raise Violation(
            f"A static field cannot be hashed: {error}.",
            "Keep arrays in fields that are not static, and static data in tuples, strings and numbers.",
        ) from None
    traces = []

    @eqx.filter_jit
    def start(env: AbstractEnv, key: Key) -> Any:
        traces.append(env)
        return env.reset(key)

    for env in (probe.env, copy.deepcopy(probe.env)):
        start(env, probe.key)
    if len(traces) > 1:
        raise Violation(
            "A copy of the environment does not equal it, so everything is compiled twice.",
            "Give the objects in its static fields `__eq__` and `__hash__` by value, e.g. a frozen "
            "dataclass or a tuple.",
        )


def _hash_fields(module: eqx.Module) -> None:
    # The hash of a pytree's structure leaves static fields out, though compiling compares them.
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if field.metadata.get("static", False):
            hash(value)
        elif isinstance(value, eqx.Module):
            _hash_fields(value)
        else:
            hash(tuple(leaf for leaf in jax.tree.leaves(value) if not eqx.is_array(leaf)))


# ------------------------------------------------------------------------------------------------ dynamics


@check("jit")
def finite(probe: Probe) -> None:
    """Values stay finite under random and extreme actions."""
    env = probe.env

    def advance(carry: tuple[Any, Array, Array], xs: tuple[Array, Key]) -> tuple[Any, Any]:
        state, goal, elapsed = carry
        state = env.step(state, xs[0], xs[1])
        achieved = env.achieved_goal(state)
        seen = {
            "observation": env.observation(state),
            "achieved_goal": achieved,
            "goal_distance": env.goal_distance(achieved, goal),
            # Physics engines mark absent contacts by infinity, so a state is only asked to be a number.
            "step": [
                jnp.nan_to_num(x, nan=jnp.nan, posinf=0.0, neginf=0.0)
                for x in jax.tree.leaves(state)
                if jnp.issubdtype(x.dtype, jnp.floating)
            ],
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
                raise Violation(
                    f"`{method}` gave {short(np.asarray(leaf)[row])} at step {row + 1}, after action "
                    f"{short(np.asarray(probe.actions[row]))}.",
                    "Bound velocities, take smaller substeps, and guard divisions and square roots.",
                )


@check("finite")
def actions_matter(probe: Probe) -> None:
    """Other actions lead to other states."""
    state, _ = probe.start

    def drive(actions: Float[Array, "steps action"]) -> State:
        keys = probe.keys("drive", actions.shape[0])
        return jax.lax.scan(lambda s, x: (probe.env.step(s, *x), None), state, (actions, keys))[0]

    drive = jax.jit(drive)
    count = min(probe.env.episode_length, STEPS // 3)
    if difference(drive(probe.actions[:count]), drive(-probe.actions[:count]), 0.0) is None:
        raise Violation(
            f"{count} random actions and their opposites lead from one start to the same state.",
            "Let `step` use its action.",
        )


@check("jit")
def keys_matter(probe: Probe) -> str | None:
    """Other keys give other starts or goals."""
    state, goal, _ = probe.starts
    if all(constant(leaf) for leaf in jax.tree.leaves((state, goal))):
        return f"{RESETS} resets gave one start and one goal: fit for evaluation only. Draw them from the key."
    return None


CHECKS: tuple[Check, ...] = (
    fields, reset, observation, achieved_goal, goal_distance, terminated, step,
    deterministic, jit, vmap, hashable,
    finite, actions_matter, keys_matter,
)  # fmt: skip
