"""The laws of the goal offset against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from eqcrl.relabel import AbstractRelabeller, Geometric, Uniform, geometric_offset

# Steps of 2^-16, plus the ends of what a float32 generator returns.
ENDS = [2.0**-23, 1 - 2.0**-23, 1 - 2.0**-24]
GRID = np.unique(np.append(np.arange(2**16) / 2**16, ENDS)).astype(np.float32)
offset_of = jax.jit(geometric_offset)


def brute_force_cdf(gamma: float, horizon: int) -> np.ndarray:
    """F(0), F(1), ..., F(horizon) by summing the probabilities; no closed form."""
    mass = gamma ** np.arange(1, horizon + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(mass) / mass.sum()])


@pytest.mark.parametrize("gamma", [0.01, 0.5, 0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("horizon", [1, 2, 3, 62, 1000, 100_000])
def test_geometric_offset_is_the_inverse_cdf(gamma: float, horizon: int) -> None:
    offset = np.asarray(offset_of(jnp.asarray(GRID), jnp.full(GRID.shape, horizon), gamma))
    assert offset.min() >= 1
    assert offset.max() <= horizon
    # What the program sees is the float32 nearest to gamma; against that law it is right to rounding of u.
    cdf = brute_force_cdf(float(np.float32(gamma)), horizon)
    u = GRID.astype(np.float64)
    assert np.all(cdf[offset - 1] <= u + 1e-6), "an offset too large"
    assert np.all(u <= cdf[offset] + 1e-6), "an offset too small"
    exact = np.maximum(np.searchsorted(cdf, u, side="left"), 1)
    # Where every step of the CDF is wider than that rounding, nothing but points on a step may differ.
    wide = cdf[exact] - cdf[exact - 1] > 1e-5
    inside = wide & (u - cdf[exact - 1] > 1e-6) & (cdf[exact] - u > 1e-6)
    np.testing.assert_array_equal(offset[inside], exact[inside])
    assert np.all(np.diff(offset) >= 0), "not monotone in u"


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.999, 0.9999])
def test_the_mean_offset_of_a_long_episode_is_the_discount_horizon(gamma: float) -> None:
    centers = (np.arange(2**18) + 0.5) / 2**18
    uniform, horizon = jnp.asarray(centers, jnp.float32), jnp.full(centers.shape, 1_000_000)
    offset = np.asarray(offset_of(uniform, horizon, gamma))
    assert offset.mean() == pytest.approx(1 / (1 - gamma), rel=1e-3)


def test_gamma_may_be_traced_and_mapped() -> None:
    u, horizon = jnp.asarray(GRID[::997]), jnp.full(GRID[::997].shape, 50)
    gammas = jnp.array([0.5, 0.9, 0.99])
    mapped = jax.vmap(lambda gamma: geometric_offset(u, horizon, gamma))(gammas)
    for row, gamma in zip(mapped, gammas, strict=True):
        np.testing.assert_array_equal(row, geometric_offset(u, horizon, gamma))


@settings(max_examples=80)
@given(
    st.floats(0.0, 1.0, exclude_max=True, width=32),
    st.integers(1, 2**24),
    st.floats(2.0**-20, 1.0, exclude_max=True, width=32),
)
def test_geometric_offset_lies_in_range_for_all_inputs(u: float, horizon: int, gamma: float) -> None:
    offset = offset_of(jnp.array([u]), jnp.array([horizon]), gamma)
    assert 1 <= int(offset[0]) <= horizon
    assert offset.dtype == jnp.int32


@pytest.mark.parametrize("relabeller", [Geometric(0.01), Geometric(0.9999), Uniform()])
def test_one_future_leaves_no_choice(relabeller: AbstractRelabeller) -> None:
    offsets = relabeller.offsets(jnp.ones(1000, jnp.int32), key=jax.random.key(0))
    np.testing.assert_array_equal(offsets, 1)


@pytest.mark.parametrize("relabeller", [Geometric(0.9), Uniform()])
def test_each_row_has_its_own_horizon(relabeller: AbstractRelabeller) -> None:
    horizon = jnp.tile(jnp.arange(1, 41, dtype=jnp.int32), 5000)
    offsets = np.asarray(relabeller.offsets(horizon, key=jax.random.key(1)))
    for h in range(1, 41):
        mine = offsets[np.asarray(horizon) == h]
        assert mine.min() == 1
        assert mine.max() <= h
        mass = 0.9 ** np.arange(1, h + 1, dtype=float) if isinstance(relabeller, Geometric) else np.ones(h)
        expected = len(mine) * mass / mass.sum()
        if h > 1:
            assert chisquare(np.bincount(mine, minlength=h + 1)[1:], expected).pvalue > 1e-4, h


def test_uniform_draws_every_offset_of_a_huge_horizon_alike() -> None:
    horizon = 1_000_000
    offsets = np.asarray(Uniform().offsets(jnp.full(400_000, horizon, jnp.int32), key=jax.random.key(4)))
    counts, _ = np.histogram(offsets, bins=100, range=(1, horizon + 1))
    assert chisquare(counts).pvalue > 1e-3
