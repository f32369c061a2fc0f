"""What an architecture is: a small record of hyper-parameters that builds a trunk of any input size."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from eqcrl.types import Key

SMALL = "small"
"""Name for `jax.ad_checkpoint.checkpoint_name`: of what is cheap to keep for the backward pass, such as the statistics
of a norm."""


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


class AbstractTrunk(eqx.Module):
    """A network without its head: features of `width` from an input vector. All leaves are arrays."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""


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
