"""What an architecture is: a small record of hyper-parameters that builds a trunk of any input size."""

import abc
from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float

from eqcrl.types import Key

SMALL = "small"
"""Name for `jax.ad_checkpoint.checkpoint_name`: of what is cheap to keep for the backward pass, such as the statistics
of a norm."""

Remat = Literal["none", "dots", "block", "nested"]
"""What a stack of blocks keeps for the backward pass; see `eqcrl.nn.stacked`."""


class AbstractLayer(eqx.Module):
    """A map from width to width with array leaves only, so that any number of them stack."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Apply to the last axis."""


class AbstractBlock(AbstractLayer):
    """What an architecture repeats; built by `Block(width, key=key)`, registered in `eqcrl.blocks`."""

    @staticmethod
    @abc.abstractmethod
    def dense_layers() -> int:
        """Dense layers inside, which is what the depth of an architecture counts."""


class AbstractStack(eqx.Module):
    """Equal blocks applied in order: `blocks` is one block whose every leaf has a leading axis of `count`."""

    blocks: eqx.AbstractVar[AbstractLayer]
    count: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """What leaves the last block."""

    @abc.abstractmethod
    def streams(self, x: Float[Array, "*batch width"]) -> Float[Array, "streams *batch width"]:
        """x, and what leaves each of the blocks, for looking into networks."""


class AbstractTrunk(eqx.Module):
    """A network without its head: features of `width` from an input vector. All leaves are arrays.

    Rows of a batch do not see each other: on several devices each is given some of them.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""


class AbstractStreamBlock(AbstractBlock):
    """A block that says itself what becomes of the stream, and so which network is made of it. Optional.

    `resnet` adds no identity around such a block; it hands over its sizes. Norm, activation, residual and depth solver
    are then no settings of the network.
    """

    @classmethod
    @abc.abstractmethod
    def trunk(cls, input_size: int, width: int, count: int, scale: float, remat: Remat, *, key: Key) -> AbstractTrunk:
        """A network of `count` blocks. `scale` is what the recipe multiplies each of their additions with; a block that
        adds nothing has no use for it.
        """

    @classmethod
    @abc.abstractmethod
    def saved_floats_per_row(cls, width: int, count: int, remat: Remat) -> int:
        """Floats that the backward pass of that network keeps for each row of a batch."""


class AbstractArch(eqx.Module):
    """Hyper-parameters of a family of networks; `build` makes one.

    Raises (when constructed): ConfigError for hyper-parameters that no network has.
    """

    width: eqx.AbstractVar[int]

    @abc.abstractmethod
    def build(self, input_size: int, *, key: Key) -> AbstractTrunk:
        """A freshly initialized trunk."""

    @abc.abstractmethod
    def saved_floats_per_row(self) -> int:
        """Floats that the backward pass keeps for each row of a batch, for memory estimates."""
