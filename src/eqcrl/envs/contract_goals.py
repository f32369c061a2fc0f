"""The environment contract as checks, part two: goals, and what eqcrl builds on an environment."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from eqcrl.envs.base import AbstractEnv, State, TopView, spec_of
from eqcrl.envs.probe import RESETS, Check, Probe, Violation, check, constant, numbers, over, scalar, short
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.types import Key

COPIES = 8
LONGEST_EPISODE = 1000  # steps; of a longer episode only the end is run


# --------------------------------------------------------------------------------------------------- goals


@check("jit")
def zero_distance(probe: Probe) -> None:
    """goal_distance(g, g) is 0."""
    _, goal, _ = probe.starts
    distance = np.asarray(over(probe.env.goal_distance, goal, goal))
    worst = int(np.argmax(np.abs(distance)))
    if not abs(distance[worst]) <= min(1e-3, probe.env.success_radius / 10):
        raise Violation(
            f"The distance from goal {short(np.asarray(goal[worst]))} to itself is {distance[worst]:.4g}.",
            "Measure the difference of the two goals, without offset.",
        )


@check("jit")
def nonnegative_distance(probe: Probe) -> None:
    """goal_distance is never negative."""
    _, goal, achieved = probe.starts
    for one, other in ((achieved, goal), (goal, jnp.roll(goal, 1, axis=0))):
        distance = np.asarray(over(probe.env.goal_distance, one, other))
        row = int(np.argmin(distance))
        if distance[row] < 0:
            raise Violation(
                f"The distance from {short(np.asarray(one[row]))} to {short(np.asarray(other[row]))} is "
                f"{distance[row]:.4g}.",
                "Return a length, e.g. `jnp.linalg.norm` of the difference.",
            )


@check("jit")
def reachable(probe: Probe) -> None:
    """Every desired goal can be reached from its start, by goal_reachable."""
    state, goal, _ = probe.starts
    _all_reachable(probe.env, state, goal, "goal of `reset`", "Draw goals only from what a start can reach.")


@check("reachable")
def start_reachable(probe: Probe) -> None:
    """The goal that a start achieves counts as reachable from it."""
    state, _, achieved = probe.starts
    _all_reachable(
        probe.env,
        state,
        achieved,
        "goal that its start achieves already",
        "Let `achieved_goal` and `goal_reachable` use one goal space, with room for rounding.",
    )


def _all_reachable(env: AbstractEnv, state: State, goal: Float[Array, "resets goal"], what: str, mend: str) -> None:
    reach = over(env.goal_reachable, state, goal)
    scalar(reach[0], "goal_reachable", jnp.bool_)
    lost = ~np.asarray(reach)
    if lost.any():
        row = int(np.argmax(lost))
        raise Violation(
            f"In {int(lost.sum())} of {len(lost)} resets the {what} is not reachable, e.g. "
            f"{short(np.asarray(goal[row]))}.",
            mend,
        )


@check("jit")
def starts_alive(probe: Probe) -> None:
    """No episode is terminated where it starts."""
    dead = np.asarray(over(probe.env.terminated, probe.starts[0]))
    if dead.any():
        raise Violation(
            f"{int(dead.sum())} of {RESETS} starts are terminated.",
            "Draw starts that `terminated` accepts, or loosen it.",
        )


@check("zero-distance", "nonnegative-distance")
def starts_away(probe: Probe) -> None:
    """Fewer than half of the starts are already at their goal."""
    _, goal, achieved = probe.starts
    there = np.asarray(over(probe.env.goal_distance, achieved, goal)) < probe.env.success_radius
    if there.mean() >= 0.5:
        raise Violation(
            f"{there.mean():.0%} of the starts lie within the success radius "
            f"{probe.env.success_radius:g} of their goal.",
            "Spread starts and goals, or make `success_radius` smaller.",
        )


@check("starts-away")
def goal_hidden(probe: Probe) -> None:
    """The desired goal stands neither in the state nor in the observation."""
    state, goal, achieved = (jax.tree.map(numbers, x) for x in probe.starts)
    if constant(goal):
        return  # a constant can stand anywhere by chance
    observed = np.asarray(over(probe.env.observation, probe.starts[0]))
    places = {"the observation": observed}
    for path, leaf in jax.tree.leaves_with_path(state):
        places[f"state{jax.tree_util.keystr(path)}"] = leaf.reshape(RESETS, -1)
    for secret, name in (
        (goal, "desired goal"),
        (goal - achieved, "way to the goal"),
        (achieved - goal, "way to the goal"),
    ):
        for place, rows in places.items():
            at = _slice_of(rows, secret)
            if at is not None:
                raise Violation(
                    f"The goal leaks into the state: {place} holds the {name} at [{at}:{at + goal.shape[1]}] "
                    "in every reset.",
                    "Leave it out: eqcrl gives the goal to the policy itself, and relabels it.",
                )


def _slice_of(rows: Shaped[np.ndarray, "resets numbers"], secret: Float[np.ndarray, "resets goal"]) -> int | None:
    """Where the secret stands in every row, as consecutive numbers."""
    size = secret.shape[1]
    for at in range(rows.shape[1] - size + 1):
        if np.allclose(rows[:, at : at + size], secret, rtol=1e-5, atol=1e-6):
            return at
    return None


# ------------------------------------------------------------------------------------- what is built on it


@check("vmap", "starts-alive", "actions-matter")
def auto_reset(probe: Probe) -> None:
    """In a batch, time ends an episode without termination, and a fresh start and goal follow."""
    env = probe.env
    batch, steps = BatchedEnv(env, COPIES), min(env.episode_length, LONGEST_EPISODE)
    act_key, reset_key, step_key = probe.keys("auto-reset", 3)
    actions = jax.random.uniform(act_key, (steps, COPIES, env.action_size), minval=-1.0)

    def advance(state: BatchState, xs: tuple[Array, Key]) -> tuple[BatchState, dict[str, Bool[Array, "envs"]]]:
        after, result = batch.step(state, *xs)
        began = result.terminated | result.truncated
        return after, {
            "terminated": result.terminated,
            "truncated": result.truncated,
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
        raise Violation(
            f"`terminated` is true in all of {COPIES} copies at step episode_length = "
            f"{env.episode_length} and in none before: it reports the time limit.",
            "Leave time to eqcrl, which truncates; let `terminated` tell falls and the like only.",
        )
    if seen["dead"].any():
        raise Violation(
            "A copy that was reset is terminated at its new start.", "Draw starts that `terminated` accepts."
        )
    if not constant(probe.starts[1]) and (seen["same goal"] == began).all():
        raise Violation("No copy got a fresh goal when it was reset.", "Draw the goal from the key of `reset`.")
    if steps > 1 and (seen["same state"] == began).all():
        raise Violation("No copy left its last state when it was reset.", "Draw the start from the key of `reset`.")


def _rows_equal(one: State, other: State) -> Bool[Array, "envs"]:
    def equal(a: Array, b: Array) -> Array:
        return jnp.all((a == b).reshape(COPIES, -1), axis=1)

    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(equal, one, other))), axis=0)


@check("jit")
def evaluation(probe: Probe) -> None:
    """evaluation gives an environment of the same sizes whose goals can be reached."""
    other = probe.env.evaluation()
    if not isinstance(other, AbstractEnv):
        raise Violation(f"`evaluation` gave a {type(other).__name__}.", "Return an AbstractEnv, or `self`.")
    here, there = spec_of(probe.env), spec_of(other)
    if here != there:
        raise Violation(
            f"`evaluation` gave an environment of other sizes: {there}, not {here}.",
            "Evaluate on the same robot: only layout, starts and goals may differ.",
        )
    if other is not probe.env:
        state, goal = over(other.reset, probe.keys("evaluation", RESETS))
        _all_reachable(other, state, goal, "goal of `evaluation().reset`", "Ask only for what a start can reach.")


@check("jit")
def top_view(probe: Probe) -> None:
    """top_view is None, or a plane that holds every start and goal outside its walls."""
    view = probe.env.top_view()
    if view is None:
        return
    if not isinstance(view, TopView):
        raise Violation(f"`top_view` gave a {type(view).__name__}.", "Return a TopView or None.")
    low, high, walls = np.asarray(view.low, float), np.asarray(view.high, float), np.asarray(view.walls)
    if low.shape != (2,) or high.shape != (2,) or not (np.isfinite([low, high]).all() and (low < high).all()):
        raise Violation(
            f"`top_view` spans from {view.low} to {view.high}.",
            "Give two finite pairs, the lower corner first.",
        )
    if walls.ndim != 2 or walls.shape[1] != 4 or not np.isfinite(walls).all() or (walls[:, :2] > walls[:, 2:]).any():
        raise Violation(
            f"The walls of `top_view` have shape {list(walls.shape)} or corners out of order.",
            "Give rows (low, low, high, high); `np.zeros((0, 4))` for none.",
        )
    _, goal, achieved = probe.starts
    for points, what in ((achieved, "start"), (goal, "goal")):
        points = np.asarray(points)[:, :2]
        if points.shape[1] < 2:
            raise Violation("`top_view` needs goals with two coordinates; they have one.", "Return None.")
        inside = ((points >= low) & (points <= high)).all(axis=1)
        between = (points[:, None] > walls[:, :2]) & (points[:, None] < walls[:, 2:])
        wrong = ~inside | np.any(np.all(between, axis=2), axis=1)
        if wrong.any():
            raise Violation(
                f"The {what} {short(points[np.argmax(wrong)])} lies outside `top_view` or in one of its walls.",
                "Give bounds and walls in the units and order of `achieved_goal[:2]`.",
            )


CHECKS: tuple[Check, ...] = (
    zero_distance, nonnegative_distance, reachable, start_reachable, starts_alive, starts_away, goal_hidden,
    auto_reset, evaluation, top_view,
)  # fmt: skip
