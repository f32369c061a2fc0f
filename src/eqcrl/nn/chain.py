"""Dense -> norm -> activation several times over, with a backward pass that keeps the minimum.

Autodiff keeps every intermediate of the norm and of the activation, about five arrays a layer. Here the outputs of the
matrix products are all that is kept beside the input, and at most two numbers a row; the rest is worked out again,
which costs next to nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from eqcrl.nn.activations import ACTIVATIONS, ActivationName
from eqcrl.nn.base import SMALL
from eqcrl.nn.norms import NORMS, NormName, Statistics
from eqcrl.nn.precision import over_rows, product

Layers = tuple[
    Float[Array, "layers width width"],
    Float[Array, "layers width"],
    Float[Array, "layers width"] | None,
    Float[Array, "layers width"] | None,
]
"""Weights, biases, and gains and shifts of the norms, None where a norm has none."""

Kept = list[tuple[Array, Statistics]]
"""Of each layer: x W, and the statistics of each row of x W + b."""


def chain(
    layers: Layers, x: Float[Array, "rows width"], norm: NormName = "layer", activation: ActivationName = "swish"
) -> Float[Array, "rows width"]:
    """h_k = activation(norm(h_{k-1} W_k + b_k)), h_0 = x; returns the last h."""
    return _chain(norm, activation, layers, x)  # type: ignore[return-value]  (custom_vjp hides it)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chain(norm: NormName, activation: ActivationName, layers: Layers, x: Array) -> Array:
    return _forward(norm, activation, layers, x)[0]


def _forward(
    norm: NormName, activation: ActivationName, layers: Layers, x: Array
) -> tuple[Array, tuple[Layers, Array, Kept]]:
    h, kept = x, []
    for weight, bias, gain, shift in _each(layers):
        of_weight = product(h, weight, (((1,), (0,)), ((), ())))
        known = tuple(checkpoint_name(value, SMALL) for value in NORMS[norm].statistics(of_weight + bias))
        kept.append((of_weight, known))
        normal = NORMS[norm].normal(of_weight + bias, known)
        h = ACTIVATIONS[activation].value(_affine(normal, gain, shift))
    return h, (layers, x, kept)


def _each(layers: Layers) -> list[tuple[Array, Array, Array | None, Array | None]]:
    """Parameters layer by layer."""
    count = layers[0].shape[0]
    leaves = [[None] * count if leaf is None else list(leaf) for leaf in layers]
    return list(zip(*leaves, strict=True))  # type: ignore[return-value]


def _affine(normal: Array, gain: Array | None, shift: Array | None) -> Array:
    scaled = normal if gain is None else normal * gain
    return scaled if shift is None else scaled + shift


def _backward(
    norm: NormName, activation: ActivationName, saved: tuple[Layers, Array, Kept], grad: Array
) -> tuple[Layers, Array]:
    layers, x, kept = saved
    each = _each(layers)
    inputs, normals, of_slopes = [x], [], []
    for (of_weight, known), (_, bias, gain, shift) in zip(kept, each, strict=True):
        normals.append(NORMS[norm].normal(of_weight + bias, known))
        value, of_slope = ACTIVATIONS[activation].again(_affine(normals[-1], gain, shift))
        inputs.append(value)
        of_slopes.append(of_slope)
    to_layers = []
    for k, (weight, _, gain, shift) in reversed(list(enumerate(each))):
        to_before = grad * ACTIVATIONS[activation].slope(inputs[k + 1], of_slopes[k])
        to_normal = to_before if gain is None else to_before * gain
        to_product = NORMS[norm].back(to_normal, normals[k], kept[k][1])
        to_layers.append(
            (
                over_rows(inputs[k], to_product),
                jnp.sum(to_product, axis=0),
                None if gain is None else jnp.sum(to_before * normals[k], axis=0),
                None if shift is None else jnp.sum(to_before, axis=0),
            )
        )
        grad = product(to_product, weight, (((1,), (1,)), ((), ())))
    leaves = zip(*reversed(to_layers), strict=True)
    stacked = tuple(None if of_layers[0] is None else jnp.stack(of_layers) for of_layers in leaves)
    return stacked, grad  # type: ignore[return-value]


_chain.defvjp(_forward, _backward)
