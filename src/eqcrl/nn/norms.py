"""Norms by name, with what a hand-written backward pass has to know of each.

| name | normal(z) | gain | shift | source |
|---|---|---|---|---|
| layer | (z - mean z) / sqrt(var z + eps) | yes | yes | Ba et al. 2016 (arXiv 1607.06450) |
| rms | z / sqrt(mean z^2 + eps) | yes | no | Zhang and Sennrich 2019 (arXiv 1910.07467) |
| none | z | no | no | |

All over the last axis. Gain and shift are applied by whoever uses the norm.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from eqcrl.nn.layers import EPS, LayerNorm, RMSNorm, statistics

NormName = Literal["layer", "rms", "none"]

Statistics = tuple[Array, ...]
"""A number a row each: cheap to keep for the backward pass."""


class Norm(NamedTuple):
    """One of the table above."""

    statistics: Callable[[Array], Statistics]
    normal: Callable[[Array, Statistics], Array]
    """From z and its statistics."""
    back: Callable[[Array, Array, Statistics], Array]
    """From the gradient to the normal, the normal and the statistics: the gradient to z."""
    gain: bool
    shift: bool


def _rms_statistics(z: Array) -> Statistics:
    return (jax.lax.rsqrt(jnp.mean(z * z, axis=-1, keepdims=True) + EPS),)


def _layer_back(grad: Array, normal: Array, known: Statistics) -> Array:
    mean = jnp.mean(grad, axis=-1, keepdims=True)
    along = jnp.mean(grad * normal, axis=-1, keepdims=True)
    return known[1] * (grad - mean - normal * along)


def _rms_back(grad: Array, normal: Array, known: Statistics) -> Array:
    along = jnp.mean(grad * normal, axis=-1, keepdims=True)
    return known[0] * (grad - normal * along)


NORMS: dict[NormName, Norm] = {
    "layer": Norm(statistics, lambda z, known: (z - known[0]) * known[1], _layer_back, gain=True, shift=True),
    "rms": Norm(_rms_statistics, lambda z, known: z * known[0], _rms_back, gain=True, shift=False),
    "none": Norm(lambda z: (), lambda z, known: z, lambda grad, normal, known: grad, gain=False, shift=False),
}


def make_norm(name: NormName, width: int) -> LayerNorm | RMSNorm | None:
    """The norm as a layer of its own; None for `none`."""
    if name == "none":
        return None
    return LayerNorm(width) if name == "layer" else RMSNorm(width)
