"""Losses against float64 NumPy: values and gradients by formula, and for logits that overflow an exponential."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqcrl.losses import (
    BinaryNCE,
    InfoNCE,
    InfoNCEBackward,
    InfoNCESymmetric,
    categorical_accuracy,
    logsumexp_penalty,
)

LOSSES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "infonce": InfoNCE(),
    "infonce-backward": InfoNCEBackward(),
    "infonce-symmetric": InfoNCESymmetric(),
    "nce-binary": BinaryNCE(),
    "penalty": logsumexp_penalty,
}
each_loss = pytest.mark.parametrize("name", sorted(LOSSES))


def softmax_rows(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """logsumexp of every row, and the softmax that is its gradient."""
    top = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - top)
    total = weights.sum(axis=1, keepdims=True)
    return (top + np.log(total))[:, 0], weights / total


def reference(name: str, logits: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss in float64 and its gradient."""
    batch = len(logits)
    diagonal = np.eye(batch)
    if name == "infonce":
        total, softmax = softmax_rows(logits)
        return float(np.mean(total - np.diag(logits))), (softmax - diagonal) / batch
    if name == "infonce-backward":
        value, gradient = reference("infonce", logits.T)
        return value, gradient.T
    if name == "infonce-symmetric":
        (value, gradient), (back, back_gradient) = (reference(n, logits) for n in ("infonce", "infonce-backward"))
        return (value + back) / 2, (gradient + back_gradient) / 2
    if name == "nce-binary":
        cross_entropy = np.where(diagonal, np.logaddexp(0, -logits), np.logaddexp(0, logits))
        sigmoid = np.exp(-np.logaddexp(0, -logits))
        return float(cross_entropy.mean()), (sigmoid - diagonal) / batch**2
    total, softmax = softmax_rows(logits + 1e-6)
    return float(np.mean(total**2)), 2 * total[:, None] * softmax / batch


def check(name: str, logits: np.ndarray) -> None:
    value, gradient = reference(name, logits)
    actual, actual_gradient = jax.value_and_grad(LOSSES[name])(jnp.asarray(logits, jnp.float32))
    assert np.all(np.isfinite(actual))
    assert np.all(np.isfinite(actual_gradient))
    # One rounding of the largest logit is what fp32 can know; the penalty squares it.
    size = float(np.abs(logits).max()) + 1.0
    slack = 2e-6 * (size**2 if name == "penalty" else size)
    assert float(actual) == pytest.approx(value, rel=2e-6, abs=slack)
    np.testing.assert_allclose(actual_gradient, gradient, rtol=1e-5, atol=slack / len(logits))


# Multiples of 1/64 below 2^17 are exact in fp32.
def square(bound: int) -> st.SearchStrategy[np.ndarray]:
    numbers = st.integers(-64 * bound, 64 * bound).map(lambda n: n / 64)
    return st.sampled_from([1, 2, 5]).flatmap(lambda n: hnp.arrays(float, (n, n), elements=numbers))


@each_loss
@given(square(20))
def test_matches_numpy(name: str, logits: np.ndarray) -> None:
    check(name, logits)


@each_loss
@given(square(100_000))
def test_matches_numpy_for_logits_far_beyond_the_range_of_exp(name: str, logits: np.ndarray) -> None:
    check(name, logits)


@each_loss
def test_matches_numpy_on_a_batch_of_the_usual_size(name: str) -> None:
    logits = 3 * np.random.default_rng(0).normal(size=(64, 64)) - 10 + 8 * np.eye(64)
    value, gradient = reference(name, logits.astype(np.float32).astype(float))
    actual, actual_gradient = jax.value_and_grad(LOSSES[name])(jnp.asarray(logits, jnp.float32))
    assert float(actual) == pytest.approx(value, rel=1e-6)
    assert np.linalg.norm(actual_gradient - gradient) < 2e-6 * np.linalg.norm(gradient)


@each_loss
def test_the_gradient_is_the_slope(name: str, slope: Callable[..., float]) -> None:
    """The formula of the reference itself, against central differences of its value."""
    rng = np.random.default_rng(1)
    logits, direction = rng.normal(size=(2, 6, 6))
    _, gradient = reference(name, logits)
    numeric = slope(lambda x: reference(name, x)[0], logits, direction)
    assert numeric == pytest.approx(float((gradient * direction).sum()), rel=1e-7)


@pytest.mark.parametrize("name", ["infonce", "infonce-backward", "infonce-symmetric"])
def test_infonce_of_indifferent_logits_is_log_batch(name: str) -> None:
    for batch in (1, 2, 256):
        assert float(LOSSES[name](jnp.full((batch, batch), -7.0))) == pytest.approx(np.log(batch), abs=4e-6)


def test_forward_and_backward_differ_by_the_axis_they_normalize() -> None:
    """A goal that every state finds likely costs the forward loss, and not the backward one."""
    logits = jnp.array([[0.0, 50.0], [0.0, 50.0]])
    assert float(InfoNCE()(logits)) == pytest.approx(25.0, rel=1e-5)
    assert float(InfoNCEBackward()(logits)) == pytest.approx(np.log(2), rel=1e-5)
    assert float(InfoNCESymmetric()(logits)) == pytest.approx((25.0 + np.log(2)) / 2, rel=1e-5)


def test_forward_infonce_does_not_see_a_shift_of_a_row_but_the_penalty_does() -> None:
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4)), jnp.float32)
    shifted = logits + jnp.array([[5.0], [-5.0], [0.0], [1.0]])
    assert float(InfoNCE()(shifted)) == pytest.approx(float(InfoNCE()(logits)), abs=1e-5)
    assert abs(float(logsumexp_penalty(shifted)) - float(logsumexp_penalty(logits))) > 1.0


def test_the_penalty_adds_one_millionth_inside() -> None:
    assert float(logsumexp_penalty(jnp.zeros((1, 1)))) == pytest.approx(1e-12, rel=1e-3)


@given(square(20))
def test_accuracy_counts_rows_whose_largest_logit_is_the_positive(logits: np.ndarray) -> None:
    expected = np.mean([int(np.argmax(row)) == i for i, row in enumerate(logits)])
    assert float(categorical_accuracy(jnp.asarray(logits, jnp.float32))) == pytest.approx(expected)
