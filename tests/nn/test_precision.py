"""Rounded operands, exact sums: each precision against its definition in float64, forward and backward."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array

from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.precision import Precision, matmul, over_rows, products
from eqcrl.nn.stacked import stack

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
MANTISSA = {"tf32": 10, "bf16": 7}


def rounded(x: Any, precision: Precision) -> np.ndarray:
    """To the nearest number with so many bits after the first, ties to even, by integers; float64 out."""
    if precision == "fp32":
        return np.asarray(x, np.float64)
    dropped = 23 - MANTISSA[precision]
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    odd = (bits >> dropped) & 1
    bits = (bits + (1 << (dropped - 1)) - 1 + odd) >> dropped << dropped
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


@given(
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 999),
    batch=st.sampled_from([(), (3,), (2, 3)]),
)
def test_products_round_their_operands_and_nothing_else(
    precision: Precision, seed: int, batch: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    x, weight, grad = (rng.normal(size=s).astype(np.float32) for s in ((*batch, 17), (17, 5), (*batch, 5)))
    with products(precision):
        value, back = jax.vjp(matmul, jnp.asarray(x), jnp.asarray(weight))
        to_x, to_weight = back(jnp.asarray(grad))
    assert value.dtype == to_x.dtype == to_weight.dtype == jnp.float32
    r = lambda a: rounded(a, precision)  # noqa: E731
    np.testing.assert_allclose(value, r(x) @ r(weight), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_x, r(grad) @ r(weight).T, rtol=1e-5, atol=1e-5)
    rows = r(x).reshape(-1, 17).T @ r(grad).reshape(-1, 5)
    np.testing.assert_allclose(to_weight, rows, rtol=1e-5, atol=1e-5)


def gradients(precision: Precision, blocks: int) -> Any:
    """Of a sum over the outputs of a residual stack, in one compiled program."""
    layers = stack(
        lambda key: Residual(DenseNormSwish(16, key=key), 1.0 / blocks), blocks, "dots", key=jax.random.key(0)
    )
    x, grad = jax.random.normal(jax.random.key(1), (2, 32, 16))

    def loss(layers: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(grad * layers(x))

    with products(precision):
        return jax.jit(jax.grad(loss, argnums=(0, 1)))(layers, x)


def cosine(one: Any, other: Any) -> float:
    a, b = (np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(t)]) for t in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_gradients_of_a_deep_stack_keep_their_direction(precision: Precision) -> None:
    """At 256 layers; the residual stream stays float32, so errors do not add up along it."""
    exact, found = gradients("fp32", 64), gradients(precision, 64)
    assert 0.9999 < cosine(exact, found) < 1.0  # rounded, but hardly


def test_compiled_programs_follow_the_precision() -> None:
    """JAX's caches tell them apart."""
    found = {p: np.asarray(jax.tree.leaves(gradients(p, 1))[0]) for p in (*PRECISIONS, *PRECISIONS)}
    assert len({v.tobytes() for v in found.values()}) == 3


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere nothing is transposed")
def test_what_is_transposed_for_a_product_is_worked_out_once() -> None:
    """XLA would fuse what is cheap into the transposition, and compute it there in columns once more."""

    def gated(x: Array, y: Array) -> tuple[Array, Array]:
        gate = jax.nn.sigmoid(x)
        return gate, over_rows(x * gate, y)

    x, y = jax.random.normal(jax.random.key(0), (2, 64, 64))
    program = jax.jit(gated).lower(x, y).compile()
    fused = [part for part in program.as_text().split("\n\n") if " transpose(" in part and " multiply(" in part]
    assert not fused
    np.testing.assert_allclose(program(x, y)[1], jax.nn.swish(x).T @ y, rtol=1e-4, atol=1e-5)
