"""How exactly matrix products of networks are computed.

| name | operands | sums, parameters, residual stream, statistics of norms |
|---|---|---|
| fp32 | float32 | float32 |
| tf32 | rounded to 10 bits of mantissa, exponents of float32 | float32 |
| bf16 | rounded to 7 bits of mantissa, exponents of float32 | float32 |

A GPU's tensor cores multiply tf32 and bf16 many times faster. On a CPU both are exact emulations, for studying what
they do; they are slower there. The choice is JAX's own `jax_default_matmul_precision`, so compiled programs and
products that third parties write as `x @ w` follow it on a GPU; on a CPU only `product` and `matmul` do, since JAX
computes every other product of float32 exactly.
"""

from contextlib import AbstractContextManager
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float

Precision = Literal["fp32", "tf32", "bf16"]

JAX_NAMES: dict[Precision, str] = {"fp32": "float32", "tf32": "tensorfloat32", "bf16": "BF16_BF16_F32"}

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]
"""Contracting dimensions of both operands, then batch dimensions of both, as `jax.lax.dot_general` has them."""


def products(precision: Precision) -> AbstractContextManager[None]:
    """Within it, what is traced multiplies matrices with this precision."""
    return jax.default_matmul_precision(JAX_NAMES[precision])


def in_force() -> Precision:
    """The precision of the surrounding `products`; fp32 outside of one."""
    wanted = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    named: dict[str, Precision] = {known: name for name, known in JAX_NAMES.items()}
    return named.get(wanted, "fp32")


def product(x: Float[Array, "..."], y: Float[Array, "..."], dimensions: Dimensions) -> Float[Array, "..."]:
    """`jax.lax.dot_general` with the precision of the surrounding `products`; not meant to be differentiated."""
    if in_force() == "bf16":
        operands = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
        exact = jax.lax.Precision.DEFAULT
        return jax.lax.dot_general(*operands, dimensions, precision=exact, preferred_element_type=x.dtype)
    if in_force() == "tf32":
        return jax.lax.platform_dependent(
            x,
            y,
            cpu=lambda x, y: jax.lax.dot_general(_to_tf32(x), _to_tf32(y), dimensions),
            default=lambda x, y: jax.lax.dot_general(x, y, dimensions),
        )
    return jax.lax.dot_general(x, y, dimensions)


def over_rows(x: Float[Array, "rows i"], y: Float[Array, "rows o"]) -> Float[Array, "i o"]:
    """x^T y, with the precision of the surrounding `products`; not meant to be differentiated."""

    def on_cpu(x: Array, y: Array) -> Array:
        # XLA's fast product there wants rows times columns, and is worth a copy. A call that is not inlined keeps it
        # from folding the transposition into the product, and from working x out once more, in columns.
        with set_xla_metadata(inlineable="false"):
            transposed = jax.jit(jnp.transpose)(x)
        return product(jax.lax.optimization_barrier(transposed), y, (((1,), (0,)), ((), ())))

    def anywhere(x: Array, y: Array) -> Array:
        return product(x, y, (((0,), (0,)), ((), ())))

    return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=anywhere)


def _to_tf32(x: Array) -> Array:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)


@jax.custom_vjp
def _matmul(x: Array, weight: Array) -> Array:
    return product(x, weight, (((x.ndim - 1,), (0,)), ((), ())))


def _matmul_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, weight = saved
    to_x = product(grad, weight, (((grad.ndim - 1,), (1,)), ((), ())))
    return to_x, over_rows(x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1]))


_matmul.defvjp(lambda x, weight: (_matmul(x, weight), (x, weight)), _matmul_backward)


def matmul(x: Float[Array, "*batch i"], weight: Float[Array, "i o"]) -> Float[Array, "*batch o"]:
    """x W over the last axis, differentiable in reverse mode.

    The backward pass rounds the operands of its own products, not their results, and has the fast product of
    `over_rows`.
    """
    return _matmul(x, weight)  # type: ignore[return-value]  (custom_vjp hides it)
