"""Factors and solves in plain XLA, beside NumPy's in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcrl.physics.small_matrices import cholesky, product, triangular_solve


def positive(seed: int, n: int, *batch: int) -> np.ndarray:
    """Well-conditioned: eigenvalues between 1 and a few n."""
    factors = np.random.default_rng(seed).normal(size=(*batch, n, 2 * n))
    return (factors @ factors.swapaxes(-1, -2) / n + np.eye(n)).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 20), batch=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_factors_of_a_batch(n: int, batch: int, seed: int):
    matrices = positive(seed, n, batch)
    found = jax.jit(jax.vmap(cholesky))(matrices)
    np.testing.assert_allclose(found, np.linalg.cholesky(matrices.astype(float)), atol=2e-5)
    assert not np.triu(found, 1).any()


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 20), m=st.integers(1, 3), lower=st.booleans(), transpose=st.booleans(), seed=st.integers(0, 10**6)
)
def test_solves_with_triangles(n: int, m: int, lower: bool, transpose: bool, seed: int):
    halves = np.linalg.cholesky(positive(seed, n, 4).astype(float))
    triangles = halves if lower else halves.swapaxes(-1, -2)
    right = np.random.default_rng(seed).normal(size=(4, n, m)).astype(np.float32)

    def solve(triangle: jax.Array, right: jax.Array) -> jax.Array:
        return triangular_solve(triangle, right, lower=lower, transpose=transpose)

    found = jax.jit(jax.vmap(solve))(triangles.astype(np.float32), right)
    applied = triangles.swapaxes(-1, -2) if transpose else triangles
    np.testing.assert_allclose(found, np.linalg.solve(applied, right.astype(float)), atol=2e-5)


def test_maps_around_one_another_are_one_batch():
    matrices = positive(0, 5, 2, 3)
    found = jax.vmap(jax.vmap(cholesky))(matrices)
    assert np.array_equal(found.reshape(6, 5, 5), jax.vmap(cholesky)(matrices.reshape(6, 5, 5)))
    np.testing.assert_allclose(cholesky(jnp.asarray(matrices[1, 2])), found[1, 2], atol=1e-6)


def test_what_is_not_positive_definite_gives_nan_in_its_own_row_alone():
    matrices = positive(0, 4, 3)
    matrices[1, 2, 2] = -1.0
    found = np.asarray(jax.vmap(cholesky)(matrices))
    assert np.isfinite(found[[0, 2]]).all()
    assert np.isnan(found[1]).any()


@pytest.mark.parametrize(("shapes", "numbers"), [
    (((5, 3), (3,)), (((1,), (0,)), ((), ()))),
    (((3,), (3, 4)), (((0,), (0,)), ((), ()))),
    (((6, 2, 3), (3, 6, 4)), (((2,), (0,)), ((0,), (1,)))),
    (((4, 6, 7), (6, 7, 4)), (((0,), (2,)), ((2, 1), (1, 0)))),
    (((1,), (1,)), (((0,), (0,)), ((), ()))),
])  # fmt: skip
def test_products_order_their_axes_as_dot_general_does(shapes, numbers):
    a, b = (np.random.default_rng(i).normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes))
    (of_a, of_b), batch = numbers
    found = product(jnp.asarray(a), jnp.asarray(b), (of_a[0], of_b[0]), batch)
    expected = jax.lax.dot_general(a, b, numbers, precision="float32")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)
