"""What trained networks of contrastive RL hold: the critic over the plane, phi along trajectories, what blocks add.

Every function takes a run, acts with its deterministic policy in its evaluation, and computes in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.agents.crl import CRL
from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.errors import UsageError
from eqcrl.nn.base import AbstractStack
from eqcrl.nn.precision import products
from eqcrl.nn.watch import Watched, watched
from eqcrl.programs import compiler_options
from eqcrl.run import Run

# Rows that go through a network at a time, which bounds the memory whatever is asked for.
CHUNK = 2048
# Resets by which the goal's coordinates are looked for in the observation.
PROBES = 16


@dataclass(frozen=True)
class ValueMap:
    """The critic over the plane: entry (i, j) is its value at the position (first[i], second[j]), NaN in walls.

    Positions, goal and start are in the units of the goal; the first coordinate points down.
    """

    values: Float[np.ndarray, "rows columns"]
    first: Float[np.ndarray, "rows"]
    second: Float[np.ndarray, "columns"]
    goal: Float[np.ndarray, "2"]
    start: Float[np.ndarray, "2"]
    """Where the state whose other numbers are used stands."""
    success_radius: float
    view: TopView


@dataclass(frozen=True)
class Embeddings:
    """Trajectories in the plane of the two principal components of phi."""

    points: Float[np.ndarray, "moments episodes 2"]
    """phi(s_t, pi(s_t, g)); NaN after the last step of an episode."""
    goals: Float[np.ndarray, "episodes 2"]
    """psi(g), in the same plane."""
    success: Bool[np.ndarray, "episodes"]
    explained: Float[np.ndarray, "2"]
    """Share of phi's variance along each component."""


@dataclass(frozen=True)
class BlockUpdates:
    """What each block adds to the stream: mean over `rows` states of ||x_l - x_{l-1}||_2, block by block.

    By network: actor, phi, psi. A network that repeats no blocks is left out.
    """

    rows: int
    networks: dict[str, Float[np.ndarray, "blocks"]]


def value_map(
    run: Run, *, goal: Float[np.ndarray, "goal"] | None = None, resolution: int = 96, seed: int = 0
) -> ValueMap:
    """f(phi(s, pi(s, g)), psi(g)) for states s that differ from a start of the evaluation in their position only.

    `resolution` positions along the longer side of the plane. `goal` is by default that of the evaluation's reset with
    this seed, which also gives the start.
    Raises: UsageError for an agent that is not of the class CRL, a task without a plane or whose observation does not
    hold its position in it, a goal of another size, or a resolution below 2. Source: Wang et al. 2025, figure 9.
    """
    agent, env = _crl(run), run.system.eval_env
    view = env.top_view()
    if view is None:
        raise UsageError(f"{run.config.env.name!r} has no top view: its task does not live in a plane to draw.")
    if resolution < 2:
        raise UsageError(f"A map of {resolution} positions shows nothing.", mend="Use a resolution of 2 or more.")
    columns = _plane_columns(run)
    start, drawn, at = _first_moment(env, seed)
    if goal is not None and goal.shape != drawn.shape:
        raise UsageError(f"The goal has {len(goal)} numbers, and those of this task {len(drawn)}.")
    goal = drawn if goal is None else np.asarray(goal, np.float32)
    low, high = np.array(view.low, float), np.array(view.high, float)
    step = float((high - low).max()) / resolution
    counts = np.maximum(np.round((high - low) / step), 1).astype(int)
    first, second = (low[k] + (np.arange(n) + 0.5) * (high[k] - low[k]) / n for k, n in enumerate(counts))
    positions = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    observations = np.tile(start, (len(positions), 1))
    for coordinate, places in enumerate(columns):
        observations[:, places] = positions[:, coordinate, None]

    def value(state: Any, observation: Float[Array, "rows observation"]) -> Float[Array, "rows"]:
        goals = jnp.broadcast_to(goal, (len(observation), len(goal)))
        action = agent.act_deterministic(state, observation, goals)
        with products(agent.precision):
            return agent.energy(state.critic.phi(observation, action), state.critic.psi(goals))

    values = _in_chunks(value, run.agent_state, observations).astype(float)
    values[_in_walls(positions, view)] = np.nan
    shape = (len(first), len(second))
    at_goal = np.asarray(goal, float)[:2]
    return ValueMap(values.reshape(shape), first, second, at_goal, at, float(env.success_radius), view)


def trajectory_embeddings(run: Run, *, episodes: int = 16, seed: int = 0) -> Embeddings:
    """phi along evaluated episodes on its first two principal components, those of all states of all these episodes.

    Raises: UsageError for an agent that is not of the class CRL, or no episodes. Source: Wang et al. 2025, figure 10.
    """
    agent = _crl(run)
    observations, goals, taken, success = _evaluated(run, episodes, seed)
    size = observations.shape[-1]
    rows = np.concatenate([observations, np.broadcast_to(goals, (len(observations), *goals.shape))], axis=-1)

    def phi(state: Any, rows: Float[Array, "rows numbers"]) -> Float[Array, "rows dim"]:
        observation, goal = rows[:, :size], rows[:, size:]
        action = agent.act_deterministic(state, observation, goal)
        with products(agent.precision):
            return state.critic.phi(observation, action)

    def psi(state: Any, goal: Float[Array, "rows goal"]) -> Float[Array, "rows dim"]:
        with products(agent.precision):
            return state.critic.psi(goal)

    of_states = _in_chunks(phi, run.agent_state, rows.reshape(-1, rows.shape[-1]))
    of_states = of_states.astype(float).reshape(*rows.shape[:2], -1)
    of_goals = _in_chunks(psi, run.agent_state, goals).astype(float)
    center, components, explained = principal_components(of_states[taken])
    points = (of_states - center) @ components.T
    points[~taken] = np.nan
    return Embeddings(points, (of_goals - center) @ components.T, success, explained)


def block_updates(run: Run, *, rows: int = 128, episodes: int = 16, seed: int = 0) -> BlockUpdates:
    """L2 norm of what each block adds, mean over `rows` states spread evenly over evaluated episodes.

    Of the actor at (s, g), of phi at (s, pi(s, g)), of psi at g. One forward pass, in which the streams are held.
    Raises: UsageError for an agent that is not of the class CRL, or no episodes or rows. Source: Wang et al. 2025,
    figure 17.
    """
    agent = _crl(run)
    if rows < 1:
        raise UsageError(f"{rows} states say nothing about blocks.", mend="Use at least one.")
    observations, goals, taken, _ = _evaluated(run, episodes, seed)
    moments = np.argwhere(taken)
    chosen = moments[np.unique(np.linspace(0, len(moments) - 1, rows).round().astype(int))]
    observation = jnp.asarray(observations[chosen[:, 0], chosen[:, 1]])
    goal = jnp.asarray(goals[chosen[:, 1]])

    @jax.jit
    def look(state: Any) -> dict[str, list[Float[Array, "blocks 2"]]]:
        action = agent.act_deterministic(state, observation, goal)
        critic = state.critic
        with products(agent.precision):
            return {
                "actor": updates(state.actor, lambda net: net(observation, goal)[0]),
                "phi": updates(critic.state_action, lambda net: net(jnp.concatenate([observation, action], axis=-1))),
                "psi": updates(critic.goal, lambda net: net(goal)),
            }

    networks = {name: _of_called(stacks) for name, stacks in look(run.agent_state).items()}
    return BlockUpdates(len(chosen), {name: norms for name, norms in networks.items() if len(norms)})


def principal_components(
    rows: Float[np.ndarray, "rows dim"], count: int = 2
) -> tuple[Float[np.ndarray, "dim"], Float[np.ndarray, "count dim"], Float[np.ndarray, "count"]]:
    """Mean, orthonormal directions of largest variance, and the share of variance along each.

    The largest coordinate of a direction is positive, so that pictures do not flip. Directions that do not exist (fewer
    dimensions or rows) are zeros.
    """
    center = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - center, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    variance = sizes**2 / max(float(np.sum(sizes**2)), np.finfo(float).tiny)
    have = min(count, len(sizes))
    components, shares = np.zeros((count, rows.shape[1])), np.zeros(count)
    components[:have], shares[:have] = directions[:have], variance[:have]
    return center, components, shares


class Measured(eqx.Module):
    """A stack that also measures what its blocks add; it leaves by the backward pass, as in `eqcrl.nn.watch`."""

    stacked: AbstractStack
    slots: Float[Array, "blocks 2"]

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """As the stack does."""
        streams = self.stacked.streams(x)
        seen = jax.lax.stop_gradient(streams)
        norms = jax.vmap(lambda x, after: jnp.mean(jnp.linalg.norm(after - x, axis=-1)))(seen[:-1], seen[1:])
        return _leave(streams[-1], self.slots, jnp.stack([norms, jnp.ones_like(norms)], axis=-1))


@jax.custom_vjp
def _leave(x: Array, slots: Array, found: Array) -> Array:
    return x


_leave.defvjp(lambda x, slots, found: (x, found), lambda found, grad: (grad, found, jnp.zeros_like(found)))


def updates(network: Any, call: Callable[[Any], Float[Array, "..."]]) -> list[Float[Array, "blocks 2"]]:
    """For each stack that `eqcrl.nn.watch` looks into, in the order in which the network holds them: the mean over rows
    of what its blocks add (summed over calls), and how often it was called.

    Only the slots are differentiated, and what comes out of them depends on no gradient: under `jax.jit` no backward
    pass is left, and nothing is kept for one but the streams that are measured.
    """
    seen = watched(network)
    nodes = [node for node in jax.tree.leaves(seen, is_leaf=_is_watched) if _is_watched(node)]

    def through(slots: list[Array]) -> Array:
        given = iter(slots)

        def measure(node: Any) -> Any:
            return Measured(node.stacked, next(given)) if _is_watched(node) else node

        return jnp.sum(call(jax.tree.map(measure, seen, is_leaf=_is_watched)))

    return jax.grad(through)([jnp.zeros((node.stacked.count, 2)) for node in nodes])


def _is_watched(node: Any) -> bool:
    return isinstance(node, Watched)


def _of_called(stacks: list[Array]) -> Float[np.ndarray, "blocks"]:
    """Average over calls, block by block through the stacks that were called."""
    tables = [np.asarray(table, np.float64) for table in stacks]
    norms = [table[:, 0] / table[:, 1] for table in tables if table[:, 1].all()]
    return np.concatenate(norms) if norms else np.zeros(0)


def _crl(run: Run) -> CRL:
    agent = run.system.algorithm.agent
    if not isinstance(agent, CRL):
        raise UsageError(
            f"The networks of an agent of the class {type(agent).__name__} are not known to the analysis.",
            mend="It looks into actor, phi and psi of runs with `--agent crl`, of any architecture.",
        )
    return agent


def _evaluated(
    run: Run, episodes: int, seed: int
) -> tuple[
    Float[np.ndarray, "moments episodes observation"],
    Float[np.ndarray, "episodes goal"],
    Bool[np.ndarray, "moments episodes"],
    Bool[np.ndarray, "episodes"],
]:
    """Observations and goals of evaluated episodes, which moments were lived, and which episodes succeeded."""
    if episodes < 1:
        raise UsageError(f"{episodes} episodes cannot be looked at.", mend="Use at least one.")
    _, ran = run.evaluate(episodes=episodes, seed=seed, record=run.system.eval_env.observation)
    observations, alive = np.asarray(ran.record, np.float32), np.asarray(ran.alive)
    taken = np.concatenate([np.ones((1, alive.shape[1]), bool), alive])
    return observations, np.asarray(ran.desired_goal, np.float32), taken, np.asarray(ran.success())


def _first_moment(
    env: AbstractEnv, seed: int
) -> tuple[Float[np.ndarray, "observation"], Float[np.ndarray, "goal"], Float[np.ndarray, "2"]]:
    """Observation, goal and place in the plane after the reset with this seed."""
    state, goal = jax.jit(env.reset)(jax.random.key(seed))
    start = np.asarray(env.achieved_goal(state), float)[:2]
    return np.asarray(env.observation(state), np.float32), np.asarray(goal, np.float32), start


def _plane_columns(run: Run) -> list[list[int]]:
    """For each coordinate of the plane, the numbers of the observation that are it, in every state that was tried."""
    env = run.system.algorithm.env.env

    def probe(key: Array) -> tuple[Array, Array]:
        reset_key, act_key, step_key = jax.random.split(key, 3)
        action = jax.random.uniform(act_key, (env.action_size,), minval=-1.0, maxval=1.0)
        state = env.step(env.reset(reset_key)[0], action, step_key)
        return env.observation(state), env.achieved_goal(state)

    keys = jax.random.split(jax.random.key(0), PROBES)
    observed, achieved = map(np.asarray, jax.jit(jax.vmap(probe), compiler_options=compiler_options(run.system))(keys))
    found = []
    for coordinate in range(2):
        column = achieved[:, coordinate, None]
        same = np.all(np.abs(observed - column) <= 1e-5 * (1 + np.abs(column)), axis=0)
        found.append([int(i) for i in np.flatnonzero(same)])
        if not found[-1] or np.ptp(column) == 0:
            raise UsageError(
                f"The observation of {run.config.env.name!r} does not hold coordinate {coordinate} of the goal: the "
                "position cannot be moved in it.",
                mend="A map of the critic needs a task whose goal is a position that is observed.",
            )
    return found


def _in_walls(positions: Float[np.ndarray, "rows 2"], view: TopView) -> Bool[np.ndarray, "rows"]:
    inside = np.zeros(len(positions), bool)
    for low_0, low_1, high_0, high_1 in np.asarray(view.walls, float).reshape(-1, 4):
        within = (positions >= (low_0, low_1)) & (positions <= (high_0, high_1))
        inside |= within.all(axis=1)
    return inside


def _in_chunks(function: Callable[[Any, Array], Array], state: Any, rows: Float[np.ndarray, "rows _"]) -> np.ndarray:
    """The function of all rows, a bounded number of them at a time."""
    jitted = jax.jit(function)
    size = min(CHUNK, len(rows))
    padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, axis=0)])
    parts = [np.asarray(jitted(state, jnp.asarray(padded[i : i + size]))) for i in range(0, len(padded), size)]
    return np.concatenate(parts)[: len(rows)]
