"""Several networks of equal shape walked side by side, in as few kernels as XLA makes of it: two a layer.

On a GPU a layer is cheap and a launch is not. So: one batched product a layer for all networks; in the backward pass
all that does not depend on the incoming gradient (norms, gates) is worked out for a group of blocks at once before the
walk through the group, and the gradients of the parameters for the group at once after it. Weights come in one leaf of
a block's layers, in one slice a group. Kept for the backward pass: the outputs of the matrix products and the inputs of
the groups.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.blocks import DenseNormSwish
from eqcrl.nn.layers import Dense, LayerNorm, normalize
from eqcrl.nn.precision import matmul, product

GROUP = 4
"""Blocks walked by one trip of the loop, at most. Each trip costs about 32 launches beside those of its layers; more
blocks make the program longer to compile (twice as long at 8) and need more memory at a time."""


class Kept(NamedTuple):
    """What the backward pass needs."""

    inputs: Float[Array, "groups nets rows width"]
    products: Float[Array, "groups group layers nets rows width"]


def times(x: Float[Array, "nets rows i"], weight: Float[Array, "nets i o"]) -> Float[Array, "nets rows o"]:
    """x W, net by net."""
    return product(x, weight, (((2,), (1,)), ((0,), (0,))))


def times_transposed(x: Float[Array, "nets rows o"], weight: Float[Array, "nets i o"]) -> Float[Array, "nets rows i"]:
    """x W^T, net by net."""
    return product(x, weight, (((2,), (2,)), ((0,), (0,))))


def _grouped(branches: list[DenseNormSwish]) -> tuple[tuple[Array, ...], Array]:
    """Weights (groups, group, layers, width, width) of each net as they lie in memory, and the small parameters of all,
    (groups, group, layers, 3, nets, 1, width)."""
    blocks = branches[0].weight.shape[0]
    size = max(d for d in range(1, GROUP + 1) if blocks % d == 0)
    small = jnp.stack([jnp.stack([b.bias, b.scale, b.shift], axis=2) for b in branches], axis=3)[..., None, :]
    weights = tuple(b.weight.reshape(blocks // size, size, *b.weight.shape[1:]) for b in branches)
    return weights, small.reshape(blocks // size, size, *small.shape[1:])


def forward(
    branches: list[DenseNormSwish], scale: float, x: Float[Array, "nets rows width"]
) -> tuple[Float[Array, "nets rows width"], Kept]:
    """x_{l+1} = x_l + scale * branch_l(x_l) in every net."""

    def trip(x: Array, parameters: tuple[tuple[Array, ...], Array]) -> tuple[Array, tuple[Array, Array]]:
        weight, small = jnp.stack(parameters[0], axis=2), parameters[1]
        start, products = x, []
        for g in range(weight.shape[0]):
            h, of_block = x, []
            for k in range(weight.shape[1]):
                bias, gain, shift = small[g, k]
                product = times(h, weight[g, k])
                of_block.append(product)
                h = jax.nn.swish(normalize(product + bias)[0] * gain + shift)
            products.append(jnp.stack(of_block))
            x = x + scale * h
        return x, (start, jnp.stack(products))

    out, kept = jax.lax.scan(trip, x, _grouped(branches))
    return out, Kept(*kept)


def backward(
    branches: list[DenseNormSwish], scale: float, kept: Kept, grad: Float[Array, "nets rows width"]
) -> tuple[Float[Array, "nets rows width"], list[DenseNormSwish]]:
    """From the gradient to the output those to the input and to the parameters. XLA drops the latter if not used."""

    def trip(grad: Array, given: tuple[tuple[tuple[Array, ...], Array], Kept]) -> tuple[Array, tuple[Array, Array]]:
        (weights, small), (start, products) = given
        weight = jnp.stack(weights, axis=2)
        bias, gain, shift = small[:, :, 0], small[:, :, 1], small[:, :, 2]
        normal, inverse = normalize(products + bias)
        before = normal * gain + shift
        gate = jax.nn.sigmoid(before)
        h = before * gate
        slope = gate + h * (1.0 - gate)  # of swish
        through = slope * gain
        # Without this XLA works them out again in the kernel of every layer.
        normal, inverse, through, slope, h = jax.lax.optimization_barrier((normal, inverse, through, slope, h))
        blocks, layers = weight.shape[:2]
        to_h: list[list[Array]] = [[grad] * layers for _ in range(blocks)]
        to_product: list[list[Array]] = [[grad] * layers for _ in range(blocks)]
        for g in reversed(range(blocks)):
            inner = scale * grad
            for k in reversed(range(layers)):
                to_h[g][k] = inner
                to_normal = inner * through[g, k]
                mean = jnp.mean(to_normal, axis=-1, keepdims=True)
                along = jnp.mean(to_normal * normal[g, k], axis=-1, keepdims=True)
                to_product[g][k] = inverse[g, k] * (to_normal - mean - normal[g, k] * along)
                inner = times_transposed(to_product[g][k], weight[g, k])
            grad = grad + inner
        incoming = jnp.stack([jnp.stack(row) for row in to_h])
        outgoing = jnp.stack([jnp.stack(row) for row in to_product])
        steps = jnp.concatenate([jnp.zeros_like(start)[None], scale * jnp.cumsum(h[:-1, -1], axis=0)])
        inputs = jnp.concatenate([(start + steps)[:, None], h[:, :-1]], axis=1)
        to_weight = product(inputs, outgoing, (((3,), (3,)), ((0, 1, 2), (0, 1, 2))))
        to_before = incoming * slope
        sums = [jnp.sum(term, axis=-2) for term in (outgoing, to_before * normal, to_before)]
        return grad, (to_weight, jnp.stack(sums, axis=2))

    grad, (to_weight, to_small) = jax.lax.scan(trip, grad, (_grouped(branches), kept), reverse=True)
    to_weight = to_weight.reshape(-1, *to_weight.shape[2:])
    to_small = to_small.reshape(-1, *to_small.shape[2:])

    def of_net(i: int, branch: DenseNormSwish) -> DenseNormSwish:
        leaves = (to_weight[:, :, i], *(to_small[:, :, j, i] for j in range(3)))
        return eqx.tree_at(lambda b: (b.weight, b.bias, b.scale, b.shift), branch, leaves)

    return grad, [of_net(i, branch) for i, branch in enumerate(branches)]


def stems(
    parts: list[tuple[Dense, LayerNorm]], inputs: list[Float[Array, "rows _"]]
) -> Float[Array, "nets rows width"]:
    """swish(LN(x W + b)) of every net in one batched product; the inputs are padded with zeros to one size."""
    size = -(-max(x.shape[-1] for x in inputs) // 8) * 8
    x = jnp.stack([jnp.pad(x, ((0, 0), (0, size - x.shape[-1]))) for x in inputs])
    weight = jnp.stack([jnp.pad(dense.weight, ((0, size - dense.weight.shape[0]), (0, 0))) for dense, _ in parts])
    rows = [(dense.bias, norm.scale, norm.shift) for dense, norm in parts]
    bias, gain, shift = (jnp.stack(leaves)[:, None] for leaves in zip(*rows, strict=True))
    return jax.nn.swish(normalize(jax.vmap(matmul)(x, weight) + bias)[0] * gain + shift)
