"""Activations by name, with what a hand-written backward pass has to know of each.

| name | value | slope | source |
|---|---|---|---|
| swish | x s, s = sigmoid(x) | s + x s (1 - s) | Ramachandran et al. 2017 (arXiv 1710.05941) |
| relu | max(x, 0) | 1 where x > 0, else 0 | |
| gelu | x P, P = P(N(0, 1) <= x) | P + x density(x) | Hendrycks and Gimpel 2016 (arXiv 1606.08415) |

gelu is the exact one, not its approximation by tanh.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

ActivationName = Literal["swish", "relu", "gelu"]


class Activation(NamedTuple):
    """One of the table above."""

    value: Callable[[Array], Array]
    again: Callable[[Array], tuple[Array, Any]]
    """The value, worked out again in a backward pass, and what the slope is made of."""
    slope: Callable[[Array, Any], Array]
    """From the value and that."""


def _swish_again(x: Array) -> tuple[Array, Array]:
    gate = jax.nn.sigmoid(x)
    return x * gate, gate


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _gelu_slope(value: Array, x: Array) -> Array:
    below = 0.5 * jax.lax.erfc(-x * math.sqrt(0.5))
    return below + x * jnp.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


ACTIVATIONS: dict[ActivationName, Activation] = {
    "swish": Activation(jax.nn.swish, _swish_again, lambda value, gate: gate + value * (1.0 - gate)),
    "relu": Activation(
        jax.nn.relu, lambda x: (jax.nn.relu(x), None), lambda value, _: (value > 0.0).astype(value.dtype)
    ),
    "gelu": Activation(_gelu, lambda x: (_gelu(x), x), _gelu_slope),
}
