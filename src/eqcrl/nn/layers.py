"""Dense and norms with the initialization of the paper."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.precision import matmul
from eqcrl.types import Key

EPS = 1e-6
"""Added to the variance or mean square of a norm, as in Flax."""


def init_weight(key: Key, input_size: int, output_size: int) -> Float[Array, "input output"]:
    """Variance scaling 1/3 over fan-in, uniform: U(-b, b) with b = sqrt(3 * (1/3) / input) = 1 / sqrt(input).

    Source: the paper's released code, every kernel including heads; biases start at zero.
    """
    bound = 1.0 / input_size**0.5
    return jax.random.uniform(key, (input_size, output_size), minval=-bound, maxval=bound)


class Dense(eqx.Module):
    """y = x W + b over the last axis."""

    weight: Float[Array, "input output"]
    bias: Float[Array, "output"]

    def __init__(self, input_size: int, output_size: int, *, key: Key):
        self.weight = init_weight(key, input_size, output_size)
        self.bias = jnp.zeros(output_size)

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch output"]:
        """Apply to the last axis."""
        return matmul(x, self.weight) + self.bias


def statistics(z: Float[Array, "*batch width"]) -> tuple[Float[Array, "*batch 1"], Float[Array, "*batch 1"]]:
    """Mean and 1 / sqrt(var + eps) over the last axis."""
    mean = jnp.mean(z, axis=-1, keepdims=True)
    centered = z - mean
    return mean, jax.lax.rsqrt(jnp.mean(centered * centered, axis=-1, keepdims=True) + EPS)


def normalize(z: Float[Array, "*batch width"]) -> tuple[Float[Array, "*batch width"], Float[Array, "*batch 1"]]:
    """(z - mean) / sqrt(var + eps) over the last axis, and that inverse root."""
    mean, inverse = statistics(z)
    return (z - mean) * inverse, inverse


def layer_norm(
    x: Float[Array, "*batch width"], scale: Float[Array, "width"], shift: Float[Array, "width"]
) -> Float[Array, "*batch width"]:
    """scale * (x - mean(x)) / sqrt(var(x) + eps) + shift over the last axis (Ba et al. 2016; eps as in Flax)."""
    return normalize(x)[0] * scale + shift


class LayerNorm(eqx.Module):
    """`layer_norm` with learned scale (from 1) and shift (from 0)."""

    scale: Float[Array, "width"]
    shift: Float[Array, "width"]

    def __init__(self, width: int):
        self.scale = jnp.ones(width)
        self.shift = jnp.zeros(width)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Apply to the last axis."""
        return layer_norm(x, self.scale, self.shift)


class RMSNorm(eqx.Module):
    """scale * x / sqrt(mean(x^2) + eps) over the last axis, with a learned scale (from 1).

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467).
    """

    scale: Float[Array, "width"]

    def __init__(self, width: int):
        self.scale = jnp.ones(width)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Apply to the last axis."""
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPS) * self.scale
