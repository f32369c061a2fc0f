"""Sparse rewards by hand: the law of the reward, terminations, targets, goals in hindsight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transitions import ENV, SPEC, make_batch

from eqcrl.agents.sparse import (
    SparseReward,
    hindsight,
    outcome_of,
    sometimes_random,
    squared_error,
    towards,
)
from eqcrl.types import Batch


@pytest.mark.parametrize(("scale", "low", "high"), [("-1/0", -1.0, 0.0), ("0/1", 0.0, 1.0)])
def test_targets_written_out(scale: str, low: float, high: float) -> None:
    batch, gamma = make_batch(20), 0.9
    outcome = outcome_of(batch)
    value = jnp.linspace(-3.0, 3.0, 20)
    target, reached = SparseReward(ENV, scale, gamma).target(outcome, batch.goal, value)
    wanted = []
    for i in range(20):
        at_goal = np.linalg.norm(outcome.next_achieved_goal[i] - batch.goal[i]) < ENV.success_radius
        # Never at a goal again: low + gamma low + gamma^2 low + ...
        after = low / (1 - gamma) if bool(outcome.terminated[i]) else float(value[i])
        wanted.append((high if at_goal else low) + gamma * after)
    np.testing.assert_allclose(target, wanted, rtol=1e-6)
    assert float(reached) == pytest.approx(0.5)


def test_falling_at_the_goal_is_worth_less_than_staying_there() -> None:
    """The trap of rewards -1 and 0: the customary value 0 after a termination is the value of staying at the goal."""
    for scale in ("-1/0", "0/1"):
        reward = SparseReward(ENV, scale, 0.99)
        low, high = reward.bounds()
        staying = high / (1 - 0.99)
        batch = make_batch(2, terminated=jnp.array([True, False]))
        target, _ = reward.target(outcome_of(batch), outcome_of(batch).next_achieved_goal, jnp.full(2, staying))
        assert float(target[0]) < float(target[1]) - 0.9 * (high - low) / (1 - 0.99)


def test_possible_values_are_kept_and_others_clipped() -> None:
    reward = SparseReward(ENV, "-1/0", 0.9)
    np.testing.assert_allclose(
        reward.possible(jnp.array([-11.0, -10.0, -3.0, 0.0, 2.0])), [-10, -10, -3, 0, 0], rtol=1e-5
    )


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.8, 16), (1.0, 20)])
def test_that_share_of_the_goals_is_achieved_ones(share: float, count: int) -> None:
    batch = make_batch(20)
    goals = hindsight(batch, share)
    np.testing.assert_array_equal(goals[:count], batch.goal[:count])
    np.testing.assert_array_equal(goals[count:], outcome_of(batch).desired_goal[count:])


def test_rows_whose_next_observation_is_not_known_do_not_count() -> None:
    values = jnp.array([[1.0, 2.0, 100.0], [3.0, 4.0, -100.0]])
    error = squared_error(values, jnp.array([0.0, 1.0, 0.0]), jnp.array([True, True, False]))
    assert float(error) == pytest.approx((1 + 1) / 2 + (9 + 9) / 2)
    assert float(squared_error(values, jnp.zeros(3), jnp.zeros(3, bool))) == 0.0


def test_targets_move_by_tau() -> None:
    assert float(towards(jnp.array(1.0), jnp.array(3.0), 0.25)) == pytest.approx(1.5)


def test_random_actions_come_as_often_as_asked() -> None:
    action = jnp.full((20_000, 2), 5.0)
    mixed = np.asarray(sometimes_random(action, 0.3, key=jax.random.key(0)))
    drawn = mixed[:, 0] != 5.0
    assert np.all((mixed[:, 1] != 5.0) == drawn), "a row is exchanged as a whole"
    assert drawn.mean() == pytest.approx(0.3, abs=0.02)
    assert np.abs(mixed[drawn]).max() <= 1.0
    assert mixed[drawn].mean() == pytest.approx(0.0, abs=0.05)


def test_pairs_alone_are_refused() -> None:
    pairs = Batch(*(jnp.zeros((3, n)) for n in (SPEC.observation_size, SPEC.action_size, SPEC.goal_size)))
    with pytest.raises(ValueError, match="transitions"):
        outcome_of(pairs)
