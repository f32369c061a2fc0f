"""Baseline for `eqcrl.nn.stacked`: a Python loop over layers, one leaf per parameter and layer.

Autodiff keeps what it likes. This is how deep networks are usually written. The traced program, and with it
compile time, grows with depth.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.layers import layer_norm
from eqcrl.nn.stacked import Stacked


class Layer(eqx.Module):
    """swish(LN(x W + b))."""

    weight: Float[Array, "width width"]
    bias: Float[Array, "width"]
    scale: Float[Array, "width"]
    shift: Float[Array, "width"]

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """One layer."""
        return jax.nn.swish(layer_norm(x @ self.weight + self.bias, self.scale, self.shift))


class UnrolledBlocks(eqx.Module):
    """The residual blocks of a `Stacked`, each a tuple of its layers, applied by a loop in Python."""

    blocks: tuple[tuple[Layer, ...], ...]
    scale: float = eqx.field(default=1.0, static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = x_l + scale block_l(x_l)."""
        for layers in self.blocks:
            h = x
            for layer in layers:
                h = layer(h)
            x = x + self.scale * h
        return x


def unroll(tree: Any) -> Any:
    """The same tree with every `Stacked` taken apart; works on networks, their gradients and Adam's moments alike.

    All leaves are new arrays, so the original may be donated. Raises: TypeError for another block than
    `dense-norm-swish`.
    """
    return jax.tree.map(
        lambda node: _take_apart(node) if isinstance(node, Stacked) else jnp.copy(node),
        tree,
        is_leaf=lambda node: isinstance(node, Stacked),
    )


def _take_apart(stacked: Stacked) -> UnrolledBlocks:
    residual = stacked.blocks
    if not isinstance(residual, Residual) or not isinstance(residual.branch, DenseNormSwish):
        raise TypeError(f"the baseline knows residual dense-norm-swish blocks only, not {residual}")
    branch = residual.branch
    return UnrolledBlocks(
        tuple(
            tuple(
                Layer(branch.weight[b, k], branch.bias[b, k], branch.scale[b, k], branch.shift[b, k])
                for k in range(branch.dense_layers())
            )
            for b in range(stacked.count)
        ),
        residual.scale,
    )
