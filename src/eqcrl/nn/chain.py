"""Dense -> LayerNorm -> Swish several times over, with a backward pass that keeps the minimum.

Autodiff keeps every intermediate of the norm and of the activation, about five arrays a layer. Here the outputs of the
matrix products are all that is kept beside the input; the rest is worked out again, which costs next to nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.layers import normalize

Layers = tuple[
    Float[Array, "layers width width"],
    Float[Array, "layers width"],
    Float[Array, "layers width"],
    Float[Array, "layers width"],
]
"""Weights, biases, and scales and shifts of the norms."""


def chain(learning: int, layers: Layers, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """h_k = swish(LN(h_{k-1} W_k + b_k)), h_0 = x; returns the last h.

    In the backward pass the first `learning` rows alone add to the gradient of the layers; all rows have a gradient
    to `x`.
    """
    return _chain(learning, layers, x)  # type: ignore[return-value]  (custom_vjp hides it)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chain(learning: int, layers: Layers, x: Array) -> Array:
    return _forward(learning, layers, x)[0]


def _forward(learning: int, layers: Layers, x: Array) -> tuple[Array, tuple[Layers, Array, list[Array]]]:
    h, products = x, []
    for weight, bias, scale, shift in zip(*layers, strict=True):
        product = h @ weight
        products.append(product)
        normal, _ = normalize(product + bias)
        h = jax.nn.swish(normal * scale + shift)
    return h, (layers, x, products)


def _backward(learning: int, saved: tuple[Layers, Array, list[Array]], grad: Array) -> tuple[Layers, Array]:
    layers, x, products = saved
    weights, biases, scales, shifts = layers
    inputs, normals, inverses, gates = [x], [], [], []
    for product, bias, scale, shift in zip(products, biases, scales, shifts, strict=True):
        normal, inverse = normalize(product + bias)
        before = normal * scale + shift
        gate = jax.nn.sigmoid(before)
        inputs.append(before * gate)
        normals.append(normal)
        inverses.append(inverse)
        gates.append(gate)
    to_layers = []
    for k in reversed(range(len(products))):
        # d swish(u) / du = s + u s (1 - s), with s the sigmoid
        to_before = grad * (gates[k] + inputs[k + 1] * (1.0 - gates[k]))
        to_normal = to_before * scales[k]
        mean = jnp.mean(to_normal, axis=-1, keepdims=True)
        along = jnp.mean(to_normal * normals[k], axis=-1, keepdims=True)
        to_product = inverses[k] * (to_normal - mean - normals[k] * along)
        to_layers.append(
            (
                inputs[k][:learning].T @ to_product[:learning],
                jnp.sum(to_product[:learning], axis=0),
                jnp.sum((to_before * normals[k])[:learning], axis=0),
                jnp.sum(to_before[:learning], axis=0),
            )
        )
        grad = to_product @ weights[k].T
    stacked = tuple(jnp.stack(leaves) for leaves in zip(*reversed(to_layers), strict=True))
    return stacked, grad  # type: ignore[return-value]


_chain.defvjp(_forward, _backward)
