"""Baseline: one `scan` over blocks that JAX differentiates by itself, keeping all it likes or matrix products only."""

from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from benchmarks.baselines.unrolled import Layer
from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.stacked import Stacked

Keep = Literal["all", "dots"]


class PlainScan(eqx.Module):
    """The residual blocks of a `Stacked`: x_{l+1} = x_l + scale layer_4(...layer_1(x_l)), written without any care."""

    blocks: Layer
    """Every leaf has leading axes (blocks, layers of a block)."""
    scale: float = eqx.field(static=True)
    keep: Keep = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """All blocks in order."""

        def body(x: Array, block: Layer) -> tuple[Array, None]:
            h = x
            for k in range(block.weight.shape[0]):
                h = Layer(block.weight[k], block.bias[k], block.scale[k], block.shift[k])(h)
            return x + self.scale * h, None

        if self.keep == "dots":
            body = jax.checkpoint(body, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
        return jax.lax.scan(body, x, self.blocks)[0]


def plain(tree: Any, keep: Keep) -> Any:
    """The same tree with every `Stacked` replaced. Raises: TypeError for another block than `dense-norm-swish`."""

    def replaced(node: Any) -> Any:
        if not isinstance(node, Stacked):
            return node
        if not (isinstance(node.blocks, Residual) and isinstance(node.blocks.branch, DenseNormSwish)):
            raise TypeError(
                f"the baseline knows residual dense-norm-swish blocks only, not {type(node.blocks).__name__}"
            )
        branch = node.blocks.branch
        layers = Layer(branch.weight, branch.bias, branch.scale, branch.shift)
        return PlainScan(layers, node.blocks.scale, keep)

    return jax.tree.map(replaced, tree, is_leaf=lambda node: isinstance(node, Stacked))
