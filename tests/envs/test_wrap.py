"""Batching, time limit and auto-reset, on an environment that can end its own episodes.

The plank: x moves by 0.25 m per unit of action, starts in [-0.5, 0.5] and falls off at |x| >= 1.
"""

from collections.abc import Callable
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.envs.base import AbstractEnv
from eqcrl.envs.wrap import BatchedEnv, BatchState, StepResult, not_a_number, select

LIMIT, STEPS = 4, 40
ACTIONS = jnp.array([[0.0], [4.0], [0.2], [8.0]])
"""Stays; falls with its first or second step; wanders; falls with every step."""
MakeEnv = Callable[..., AbstractEnv]


@pytest.fixture
def env(plank: MakeEnv) -> BatchedEnv:
    return BatchedEnv(plank(episode_length=LIMIT), 4)


@cache
def play(env: BatchedEnv) -> list[tuple[BatchState, StepResult, BatchState]]:
    """Before, what happened, after; for each of the steps."""
    step = jax.jit(env.step)
    state, found = env.reset(jax.random.key(0)), []
    for t in range(STEPS):
        after, result = step(state, ACTIONS, jax.random.key(1000 + t))
        found.append((state, result, after))
        state = after
    return found


def test_termination_and_truncation_are_kept_apart(env: BatchedEnv) -> None:
    played = play(env)
    terminated = np.array([result.terminated for _, result, _ in played])
    truncated = np.array([result.truncated for _, result, _ in played])
    assert not np.any(terminated & truncated)
    every_limit = (np.arange(STEPS) % LIMIT) == LIMIT - 1
    for copy in (0, 2):
        np.testing.assert_array_equal(truncated[:, copy], every_limit)
        assert not terminated[:, copy].any()
    assert terminated[:, 3].all()
    assert STEPS // 2 <= terminated[:, 1].sum() < STEPS
    assert not truncated[:, [1, 3]].any()


@pytest.mark.parametrize(("falls", "start"), [(True, 0.3), (False, 0.1)])
def test_the_last_step_allowed_terminates_or_truncates_never_both(env: BatchedEnv, falls: bool, start: float) -> None:
    """Four steps of 0.2 m: from 0.3 over the edge with the fourth, from 0.1 not."""
    step = jax.jit(env.step)
    state = eqx.tree_at(lambda s: s.physics, env.reset(jax.random.key(0)), jnp.full(4, start))
    for t in range(LIMIT):
        assert int(state.elapsed[0]) == t
        state, result = step(state, jnp.full((4, 1), 0.8), jax.random.key(t))
    np.testing.assert_array_equal(result.terminated, falls)
    np.testing.assert_array_equal(result.truncated, not falls)
    np.testing.assert_array_equal(state.episode, 1)
    np.testing.assert_array_equal(state.elapsed, 0)


def test_counters_count_steps_and_episodes(env: BatchedEnv) -> None:
    elapsed, episode = np.zeros(4, int), np.zeros(4, int)
    for before, result, after in play(env):
        np.testing.assert_array_equal(before.elapsed, elapsed)
        np.testing.assert_array_equal(before.episode, episode)
        done = np.asarray(result.terminated | result.truncated)
        elapsed = np.where(done, 0, elapsed + 1)
        episode = episode + done
        np.testing.assert_array_equal(after.elapsed, elapsed)
        np.testing.assert_array_equal(after.episode, episode)
    assert episode[0] == STEPS // LIMIT
    assert episode[3] == STEPS


def test_the_achieved_goal_is_that_before_the_reset(env: BatchedEnv) -> None:
    resets = 0
    for before, result, after in play(env):
        moved = before.physics[:, None] + 0.25 * ACTIONS
        np.testing.assert_allclose(result.next_achieved_goal, moved, rtol=1e-6)
        done = np.asarray(result.terminated | result.truncated)
        resets += done.sum()
        np.testing.assert_array_equal(after.physics[~done], result.next_achieved_goal[~done, 0])
        np.testing.assert_array_equal(after.desired_goal[~done], before.desired_goal[~done])
        assert np.all(np.abs(after.physics[done]) <= 0.5), "not at a start"
    assert resets > STEPS


def test_the_observation_of_a_finished_copy_is_that_of_its_new_start(env: BatchedEnv) -> None:
    for _, _, after in play(env)[:8]:
        np.testing.assert_array_equal(env.observation(after), after.physics[:, None])


def starts_and_goals(env: BatchedEnv) -> list[list[tuple[float, float]]]:
    """Start and goal of each episode of each copy."""
    found: list[list[tuple[float, float]]] = [[] for _ in range(env.num_envs)]
    for before, _, _ in play(env):
        for copy in np.flatnonzero(np.asarray(before.elapsed) == 0):
            found[copy].append((float(before.physics[copy]), float(before.desired_goal[copy, 0])))
    return found


def test_every_episode_has_a_fresh_start_and_a_fresh_goal(env: BatchedEnv) -> None:
    found = [pair for copy in starts_and_goals(env) for pair in copy]
    assert len(found) > 2 * STEPS
    assert len({start for start, _ in found}) == len(found)
    assert len({goal for _, goal in found}) == len(found)


def test_without_fresh_resets_every_copy_repeats_its_first_episode(plank: MakeEnv) -> None:
    found = starts_and_goals(BatchedEnv(plank(episode_length=LIMIT), 4, fresh_resets=False))
    assert all(len(copy) >= STEPS // LIMIT for copy in found)
    assert all(len(set(copy)) == 1 for copy in found)
    assert len({copy[0] for copy in found}) == 4, "the copies differ from one another"


def test_both_ways_to_reset_start_alike(plank: MakeEnv) -> None:
    fresh, fixed = (BatchedEnv(plank(), 4, fresh_resets=f).reset(jax.random.key(5)) for f in (True, False))
    np.testing.assert_array_equal(fresh.physics, fixed.physics)
    np.testing.assert_array_equal(fresh.desired_goal, fixed.desired_goal)
    assert fresh.first is None
    assert fixed.first is not None


@pytest.mark.parametrize("fresh_resets", [True, False])
def test_the_state_can_be_donated(plank: MakeEnv, fresh_resets: bool) -> None:
    env = BatchedEnv(plank(episode_length=LIMIT), 4, fresh_resets=fresh_resets)
    step, donating = jax.jit(env.step), jax.jit(env.step, donate_argnums=0)
    kept, given = env.reset(jax.random.key(0)), env.reset(jax.random.key(0))
    for t in range(9):
        kept, _ = step(kept, ACTIONS, jax.random.key(t))
        given, _ = donating(given, ACTIONS, jax.random.key(t))
    np.testing.assert_array_equal(given.physics, kept.physics)
    np.testing.assert_array_equal(given.desired_goal, kept.desired_goal)


def test_stochastic_steps_of_the_copies_differ(plank: MakeEnv) -> None:
    env = BatchedEnv(plank(wind=0.01), 8)
    step, start = jax.jit(env.step), env.reset(jax.random.key(0))
    still = jnp.zeros((8, 1))
    after = [step(start, still, jax.random.key(k))[0] for k in (1, 1, 2)]
    one, again, other = (state.physics - start.physics for state in after)
    assert len(np.unique(one)) == 8
    np.testing.assert_array_equal(one, again)
    assert not np.any(np.asarray(one) == np.asarray(other))


def test_select_takes_rows_of_any_rank() -> None:
    which = jnp.array([True, False, True])
    yes = {"a": jnp.ones(3), "b": jnp.ones((3, 2, 2))}
    no = {"a": jnp.zeros(3), "b": jnp.zeros((3, 2, 2))}
    chosen = select(which, yes, no)
    np.testing.assert_array_equal(chosen["a"], [1, 0, 1])
    np.testing.assert_array_equal(chosen["b"][:, 1, 0], [1, 0, 1])


def test_a_copy_that_is_no_number_begins_anew_and_nothing_of_it_is_seen(plank: MakeEnv) -> None:
    env = BatchedEnv(plank(episode_length=LIMIT), 4)
    before = env.reset(jax.random.key(0))
    wild = ACTIONS.at[0, 0].set(jnp.nan) * 0.01
    step = jax.jit(env.step)
    after, result = step(before, wild, jax.random.key(1))
    _, calm = step(before, ACTIONS * 0.01, jax.random.key(1))
    np.testing.assert_array_equal(result.truncated, [True, False, False, False])
    assert not np.any(result.terminated)
    # The goal that it achieved last stands for the one that is no number.
    np.testing.assert_array_equal(result.next_achieved_goal[0], jax.vmap(env.env.achieved_goal)(before.physics)[0])
    np.testing.assert_array_equal(result.next_achieved_goal[1:], calm.next_achieved_goal[1:])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, result)))
    np.testing.assert_array_equal(after.episode, [1, 0, 0, 0])
    np.testing.assert_array_equal(after.elapsed, [0, 1, 1, 1])
    assert int(after.broken) == 1
    for k in range(2, 4):
        after, _ = step(after, wild, jax.random.key(k))
    assert int(after.broken) == 3


def test_not_a_number_sees_every_float_of_a_row_and_lets_infinity_pass() -> None:
    rows = {
        "a": jnp.zeros((4, 2, 2)).at[1, 0, 1].set(jnp.nan),
        "b": jnp.array([0.0, 1.0, jnp.nan, jnp.inf]),
        "n": jnp.arange(4),
    }
    np.testing.assert_array_equal(not_a_number(rows), [False, True, True, False])
    np.testing.assert_array_equal(not_a_number({"n": jnp.arange(4)}), [False] * 4)


def test_drawing_only_when_an_episode_ends_gives_the_same_as_drawing_always(plank: MakeEnv) -> None:
    """On a CPU a branch skips the draw; other backends, and a vmap around it, take the selection."""
    env = BatchedEnv(plank(episode_length=LIMIT), 4)
    state = env.reset(jax.random.key(3))
    stacked = jax.tree.map(lambda x: x[None], state)
    step, mapped = jax.jit(env.step), jax.jit(jax.vmap(env.step, in_axes=(0, None, None)))
    for t in range(2 * LIMIT):
        state, result = step(state, ACTIONS, jax.random.key(t))
        stacked, others = mapped(stacked, ACTIONS, jax.random.key(t))
        for one, other in zip(jax.tree.leaves((state, result)), jax.tree.leaves((stacked, others)), strict=True):
            np.testing.assert_array_equal(one, other[0])
