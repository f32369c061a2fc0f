"""Residual blocks that are trained by the fused kernels where these exist, and scanned everywhere else."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractLayer, AbstractStack, Remat
from eqcrl.nn.blocks import DenseNormSwish
from eqcrl.nn.stacked import Stacked


class FusedStack(AbstractStack):
    """The same parameters and, called as a function, the same scan as `Stacked`.

    The schedule `abreast` walks such stacks by `eqcrl.nn.fused`, two launches a network and direction.
    """

    blocks: AbstractLayer
    count: int = eqx.field(static=True)
    remat: Remat = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = block_l(x_l) for l = 0..count-1; returns the last."""
        return Stacked(self.blocks, self.count, self.remat)(x)

    def streams(self, x: Float[Array, "*batch width"]) -> Float[Array, "streams *batch width"]:
        """x_0 to x_count."""
        return Stacked(self.blocks, self.count, self.remat).streams(x)


def refused(branch: DenseNormSwish, rows: int, device: Any) -> str | None:
    """Why the kernels cannot train this stack of branches with so many rows on this device; None if they can."""
    # The kernels are made of parts of JAX that move; who does not ask for them does not depend on these.
    from eqcrl.nn.fused import unsupported, unsupported_device

    blocks, layers, width = branch.weight.shape[:3]
    return unsupported(width, rows, blocks * layers) or unsupported_device(device)
