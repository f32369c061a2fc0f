"""Dense -> LayerNorm -> Swish several times over, with a backward pass that keeps the minimum.

Autodiff keeps every intermediate of the norm and of the activation, about five arrays a layer. Here the outputs of the
matrix products are all that is kept beside the input, and two numbers a row; the rest is worked out again, which costs
next to nothing.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from eqcrl.nn.base import SMALL
from eqcrl.nn.layers import statistics
from eqcrl.nn.precision import over_rows, product

Layers = tuple[
    Float[Array, "layers width width"],
    Float[Array, "layers width"],
    Float[Array, "layers width"],
    Float[Array, "layers width"],
]
"""Weights, biases, and scales and shifts of the norms."""

Kept = list[tuple[Array, Array, Array]]
"""Of each layer: x W, and the mean and the inverse deviation of each row of x W + b."""


def chain(layers: Layers, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """h_k = swish(LN(h_{k-1} W_k + b_k)), h_0 = x; returns the last h."""
    return _chain(layers, x)  # type: ignore[return-value]  (custom_vjp hides it)


@jax.custom_vjp
def _chain(layers: Layers, x: Array) -> Array:
    return _forward(layers, x)[0]


def _forward(layers: Layers, x: Array) -> tuple[Array, tuple[Layers, Array, Kept]]:
    h, kept = x, []
    for weight, bias, scale, shift in zip(*layers, strict=True):
        of_weight = product(h, weight, (((1,), (0,)), ((), ())))
        mean, inverse = (checkpoint_name(value, SMALL) for value in statistics(of_weight + bias))
        kept.append((of_weight, mean, inverse))
        h = jax.nn.swish((of_weight + bias - mean) * inverse * scale + shift)
    return h, (layers, x, kept)


def _backward(saved: tuple[Layers, Array, Kept], grad: Array) -> tuple[Layers, Array]:
    layers, x, kept = saved
    weights, biases, scales, shifts = layers
    inputs, normals, gates = [x], [], []
    for (of_weight, mean, inverse), bias, scale, shift in zip(kept, biases, scales, shifts, strict=True):
        normal = (of_weight + bias - mean) * inverse
        before = normal * scale + shift
        gate = jax.nn.sigmoid(before)
        inputs.append(before * gate)
        normals.append(normal)
        gates.append(gate)
    to_layers = []
    for k in reversed(range(len(kept))):
        # d swish(u) / du = s + u s (1 - s), with s the sigmoid
        to_before = grad * (gates[k] + inputs[k + 1] * (1.0 - gates[k]))
        to_normal = to_before * scales[k]
        mean = jnp.mean(to_normal, axis=-1, keepdims=True)
        along = jnp.mean(to_normal * normals[k], axis=-1, keepdims=True)
        to_product = kept[k][2] * (to_normal - mean - normals[k] * along)
        to_layers.append(
            (
                over_rows(inputs[k], to_product),
                jnp.sum(to_product, axis=0),
                jnp.sum(to_before * normals[k], axis=0),
                jnp.sum(to_before, axis=0),
            )
        )
        grad = product(to_product, weights[k], (((1,), (1,)), ((), ())))
    stacked = tuple(jnp.stack(leaves) for leaves in zip(*reversed(to_layers), strict=True))
    return stacked, grad  # type: ignore[return-value]


_chain.defvjp(_forward, _backward)
