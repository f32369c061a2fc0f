"""Collecting: what a rollout records, against the environment's own step and the resets it must see."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.actor_goals import Future
from eqcrl.agents.crl import CRL
from eqcrl.energies import L2
from eqcrl.envs.base import spec_of
from eqcrl.envs.point import PointMaze, PointState
from eqcrl.envs.wrap import BatchedEnv, BatchState
from eqcrl.losses import InfoNCE
from eqcrl.nn.mlp import MLP
from eqcrl.rollout import rollout, walk
from eqcrl.types import Transition

ENVS, EPISODE = 6, 5
AGENT = CRL(MLP(1, 8), MLP(1, 8), L2(), InfoNCE(), Future(), representation_size=4)


def make(env: Any) -> tuple[BatchedEnv, Any, BatchState]:
    """The batched environment, fresh networks for it, and its first state."""
    batched = BatchedEnv(env, ENVS)
    return batched, AGENT.init(spec_of(env), key=jax.random.key(0)), batched.reset(jax.random.key(1))


@eqx.filter_jit
def collect(env: BatchedEnv, agent_state: Any, state: BatchState, length: int, key: jax.Array) -> Any:
    return rollout(env, AGENT, agent_state, state, length, key=key)


@pytest.fixture(scope="module")
def maze_steps() -> tuple[BatchedEnv, BatchState, BatchState, Transition]:
    """Twelve steps of a maze whose episodes have five: (environment, before, after, steps)."""
    env, agent_state, before = make(PointMaze(episode_length=EPISODE))
    after, steps = collect(env, agent_state, before, 12, jax.random.key(2))
    return env, before, after, steps


Case = tuple[BatchedEnv, BatchState, BatchState, Transition]


def test_leaves_are_time_by_envs(maze_steps: Case) -> None:
    *_, steps = maze_steps
    shapes = (steps.observation.shape, steps.action.shape, steps.next_achieved_goal.shape, steps.episode.shape)
    assert shapes == ((12, ENVS, 4), (12, ENVS, 2), (12, ENVS, 2), (12, ENVS))
    assert float(jnp.abs(steps.action).max()) <= 1.0


def test_episodes_are_counted_and_the_clock_goes_on(maze_steps: Case) -> None:
    _, before, after, steps = maze_steps
    expected = np.repeat([0] * 5 + [1] * 5 + [2] * 2, ENVS).reshape(12, ENVS)
    np.testing.assert_array_equal(steps.episode, expected)
    np.testing.assert_array_equal(after.episode, np.full(ENVS, 2))
    np.testing.assert_array_equal(after.elapsed, np.full(ENVS, 2))
    np.testing.assert_array_equal(steps.observation[0, :, :2], before.physics.position)


def test_next_achieved_goal_is_where_the_step_led_before_any_reset(maze_steps: Case) -> None:
    env, _, after, steps = maze_steps
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), (steps.observation, steps.action))
    led_to = jax.jit(
        jax.vmap(lambda o, a: env.env.achieved_goal(env.env.step(PointState(o[:2], o[2:]), a, jax.random.key(0))))
    )(*rows).reshape(12, ENVS, 2)
    np.testing.assert_allclose(steps.next_achieved_goal, led_to, atol=1e-5)
    # Within an episode the next observation stands there; after its last step it stands at a fresh start.
    seen_next = jnp.concatenate([steps.observation[1:, :, :2], after.physics.position[None]])
    last = np.isin(np.arange(12), [4, 9])
    np.testing.assert_array_equal(seen_next[~last], steps.next_achieved_goal[~last])
    assert np.all(np.linalg.norm(seen_next[last] - steps.next_achieved_goal[last], axis=-1) > 0)
    np.testing.assert_array_equal(steps.observation[5, :, 2:], np.zeros((ENVS, 2)))  # at rest again


def test_a_fall_ends_the_episode_early_and_its_last_state_is_recorded(plank: type) -> None:
    env, agent_state, before = make(plank(wind=0.2))
    _, steps = collect(env, agent_state, before, 40, jax.random.key(3))
    where = np.asarray(steps.next_achieved_goal)[..., 0]
    episode = np.asarray(steps.episode)
    fell = np.abs(where) >= 1.0
    elapsed = np.zeros((40, ENVS), int)
    for t, i in np.ndindex(39, ENVS):
        ended = bool(fell[t, i]) or elapsed[t, i] == env.env.episode_length - 1
        assert episode[t + 1, i] == episode[t, i] + ended
        elapsed[t + 1, i] = 0 if ended else elapsed[t, i] + 1
    assert np.any(fell)
    # Observations never show a fallen state: the reset came in between.
    assert np.all(np.abs(steps.observation) < 1.0)


def test_the_policy_acts_on_the_commanded_goal_with_noise_of_the_key(maze_steps: Case) -> None:
    env, agent_state, before = make(PointMaze(episode_length=EPISODE))
    same = collect(env, agent_state, before, 12, jax.random.key(2))[1]
    other = collect(env, agent_state, before, 12, jax.random.key(4))[1]
    assert eqx.tree_equal(same, maze_steps[-1])
    assert not np.any(same.action == other.action)
    elsewhere = eqx.tree_at(lambda s: s.desired_goal, before, before.desired_goal + 3.0)
    assert not np.any(collect(env, agent_state, elsewhere, 12, jax.random.key(2))[1].action[0] == same.action[0])


@pytest.mark.parametrize("length", [1, 2, 3, 7, 9])
def test_a_chunk_is_decided_on_once_and_taken_to_its_end(length: int) -> None:
    """The state counts steps; decisions are the step they were made at, then numbered through the chunk."""

    def decide(step: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.stack([step * 10.0, step * 10.0 + 1.0, step * 10.0 + 2.0])[None]

    def advance(step: jax.Array, action: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return step + 1.0, action[0, 0]

    steps, taken = walk(decide, advance, jnp.zeros(()), jax.random.split(jax.random.key(0), length), 3)
    assert float(steps) == length
    np.testing.assert_array_equal(taken, [30.0 * (t // 3) + t % 3 for t in range(length)])


def test_steps_of_a_chunk_have_randomness_of_their_own() -> None:
    def decide(state: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (1, 3))

    def advance(state: jax.Array, action: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return state, (action[0, 0], jax.random.normal(key))

    _, drawn = walk(decide, advance, jnp.zeros(()), jax.random.split(jax.random.key(0), 8), 3)
    assert len(np.unique(np.concatenate(drawn))) == 16


def test_it_records_what_was_commanded_and_what_terminated(maze_steps: Case) -> None:
    """Mazes terminate nothing; goals change with the episode, not within it."""
    _, before, after, steps = maze_steps
    assert not bool(steps.terminated.any())
    np.testing.assert_array_equal(steps.desired_goal[:5], np.broadcast_to(before.desired_goal, (5, ENVS, 2)))
    np.testing.assert_array_equal(steps.desired_goal[-1], after.desired_goal)
    assert not np.array_equal(steps.desired_goal[4], steps.desired_goal[5])
