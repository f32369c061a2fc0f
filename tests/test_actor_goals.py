"""Which rows the actor's goals come from."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.actor_goals import Future, Mixed, Random


def goals(batch: int) -> np.ndarray:
    """Goals that all differ, the number of the row in each."""
    return np.stack([np.arange(batch), -np.arange(batch)], axis=1).astype(np.float32)


def source_rows(actor_goals: Future | Random | Mixed, batch: int) -> list[int]:
    """For each row, the row its goal was taken from."""
    chosen = np.asarray(actor_goals(jnp.asarray(goals(batch))))
    assert chosen.shape == (batch, 2)
    np.testing.assert_array_equal(chosen[:, 1], -chosen[:, 0])
    return chosen[:, 0].astype(int).tolist()


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_future_keeps_every_goal(batch: int) -> None:
    assert source_rows(Future(), batch) == list(range(batch))


@pytest.mark.parametrize("batch", [2, 3, 9])
def test_random_leaves_no_row_its_own_goal_and_uses_each_once(batch: int) -> None:
    rows = source_rows(Random(), batch)
    assert sorted(rows) == list(range(batch))
    assert all(row != i for i, row in enumerate(rows))


@given(st.sampled_from([2, 3, 8, 10]), st.floats(0.0, 1.0))
def test_mixed_exchanges_its_share_of_the_rows(batch: int, fraction: float) -> None:
    count = round(fraction * batch)
    expected = [(i + 1) % batch if i < count else i for i in range(batch)]
    assert source_rows(Mixed(fraction), batch) == expected


def test_mixed_ends_at_future_and_random() -> None:
    assert source_rows(Mixed(0.0), 6) == source_rows(Future(), 6)
    assert source_rows(Mixed(1.0), 6) == source_rows(Random(), 6)
    assert sum(row != i for i, row in enumerate(source_rows(Mixed(), 8))) == 4


@pytest.mark.parametrize("actor_goals", [Future(), Random(), Mixed(0.5), Mixed(1.0)], ids=repr)
def test_a_batch_of_one_keeps_its_goal(actor_goals: Future | Random | Mixed) -> None:
    assert source_rows(actor_goals, 1) == [0]


@pytest.mark.parametrize("actor_goals", [Future(), Random(), Mixed(0.3)], ids=repr)
def test_rows_says_what_call_does(actor_goals: Future | Random | Mixed) -> None:
    """Agents that know psi of the batch already exchange rows of it instead of goals."""
    shift, count = actor_goals.rows(10)
    expected = [(i + shift) % 10 if i < count else i for i in range(10)]
    assert source_rows(actor_goals, 10) == expected
