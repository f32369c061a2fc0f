"""Linear algebra of many small matrices in plain XLA, for CPUs.

XLA calls LAPACK for Cholesky factors and for solves with triangles, and that call waits in one thread of XLA's pool for
others of it: two such calls at once stop a pool of two threads for good (jaxlib 0.10.2). Here nothing waits. It is
faster, too: with all simulations along the fastest axis, a loop over columns takes half of LAPACK's time, and a sum of
three products costs less than calling a library for it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.physics.batching import over_leading_axes

BLOCK = 6
"""Columns of a loop: each loop works on those parts alone that its columns reach. The fastest of 4, 6, 8 and 12."""


def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower triangle L with L L^T = matrix, zeros above; of a positive definite matrix, else NaN.

    Batches of matrices by `jax.vmap`, any number of them around one another.
    """
    n = matrix.shape[-1]
    return _of_all(partial(_cholesky, n))(matrix.reshape(n * n)).reshape(n, n)


def triangular_solve(
    triangle: Float[Array, "n n"], right: Float[Array, "n m"], *, lower: bool, transpose: bool
) -> Float[Array, "n m"]:
    """x with triangle x = right, or triangle^T x = right; the other half of `triangle` must be finite.

    Batches by `jax.vmap`, as for `cholesky`.
    """
    n, m = right.shape
    call = _of_all(partial(_solve, n, lower, transpose))
    return call(triangle.reshape(n * n), right.reshape(n * m)).reshape(n, m)


def product(
    a: Float[Array, "..."], b: Float[Array, "..."], axes: tuple[int, int], batch: tuple[Sequence[int], Sequence[int]]
) -> Float[Array, "..."]:
    """sum_k a_k b_k over one axis of each, term by term, as `jax.lax.dot_general` orders axes.

    Those of the batch, then what is left of `a`, then of `b`.
    """
    rest_a = [i for i in range(a.ndim) if i not in (axes[0], *batch[0])]
    rest_b = [i for i in range(b.ndim) if i not in (axes[1], *batch[1])]
    a = jax.lax.expand_dims(a.transpose(axes[0], *batch[0], *rest_a), range(a.ndim, a.ndim + len(rest_b)))
    b = jax.lax.expand_dims(b.transpose(axes[1], *batch[1], *rest_b), range(b.ndim - len(rest_b), a.ndim - len(rest_b)))
    return sum(a[k] * b[k] for k in range(1, a.shape[0])) + a[0] * b[0]


def _of_all(call: Callable[..., Array]) -> Callable[..., Array]:
    """`call`, of rows in one batch, for as many leading axes as there are."""

    def flat(*arrays: Array) -> Array:
        out = call(*(x.reshape(-1, x.shape[-1]) for x in arrays))
        return out.reshape(*arrays[0].shape[:-1], -1)

    return over_leading_axes(flat)


def _cholesky(n: int, matrices: Float[Array, "batch nn"]) -> Float[Array, "batch nn"]:
    a = matrices.T.reshape(n, n, -1)
    upper = jnp.zeros_like(a)
    for first in range(0, n, BLOCK):
        end = min(n, first + BLOCK)

        def row(j: Array, upper: Array, first: int = first, end: int = end) -> Array:
            """Row j of L^T, from its diagonal on: (a_j - sum_k<j u_kj u_k) / sqrt of its first number."""
            above = jax.lax.dynamic_index_in_dim(upper[:end], j, 1)
            rest = jax.lax.dynamic_index_in_dim(a, j, 0, keepdims=False)[first:] - (upper[:end, first:] * above).sum(0)
            # Else XLA works the sum out twice, for the diagonal and for the row.
            rest = jax.lax.optimization_barrier(rest)
            scale = jax.lax.rsqrt(jax.lax.dynamic_index_in_dim(rest, j - first, 0))
            right_of = (jnp.arange(first, n) >= j)[:, None]
            return jax.lax.dynamic_update_slice(upper, jnp.where(right_of, rest * scale, 0.0)[None], (j, first, 0))

        upper = jax.lax.fori_loop(first, end, row, upper)
    return upper.transpose(2, 1, 0).reshape(-1, n * n)


def _solve(
    n: int, lower: bool, transpose: bool, triangles: Float[Array, "batch nn"], right: Float[Array, "batch nm"]
) -> Float[Array, "batch nm"]:
    t, b = triangles.T.reshape(n, n, 1, -1), right.T.reshape(n, -1, right.shape[0])
    inverse = 1.0 / t[jnp.arange(n), jnp.arange(n)]
    axis, forward = int(transpose), lower != transpose

    def element(i: Array, x: Array) -> Array:
        """x_k = (b_k - sum_j t_kj x_j) / t_kk, where all x_j that are still to come are zero."""
        k = i if forward else n - 1 - i
        known = (jax.lax.dynamic_index_in_dim(t, k, axis, keepdims=False) * x).sum(0)
        at = partial(jax.lax.dynamic_index_in_dim, index=k, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(x, (at(b) - known) * at(inverse), k, 0)

    return jax.lax.fori_loop(0, n, element, jnp.zeros_like(b)).reshape(-1, b.shape[-1]).T
