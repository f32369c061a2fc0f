"""What an architecture is: a small record of hyper-parameters that builds a trunk of any input size."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from eqcrl.types import Key


class AbstractLayer(eqx.Module):
    """A map from width to width with array leaves only, so that any number of them stack."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Apply to the last axis."""


class AbstractPartlyFrozen(eqx.Module):
    """A layer that can leave rows out of the gradient to its parameters for less than the price of two calls.

    Optional: `eqcrl.nn.frozen.partly_frozen` does it for any other layer, in two calls.
    """

    @abc.abstractmethod
    def partly_frozen(self, x: Float[Array, "rows width"], learning: int) -> Float[Array, "rows width"]:
        """The layer itself; in the backward pass only the first `learning` rows add to the gradient of the parameters.

        The gradient to `x` is that of every row.
        """


class AbstractSharedWalk(eqx.Module):
    """A network that takes a second input along, on which its parameters do not learn.

    Optional: `eqcrl.nn.frozen.shared_walk` does it for any other network, in two calls.
    """

    @abc.abstractmethod
    def shared_walk(
        self, x: Float[Array, "rows input"], frozen: Float[Array, "others input"]
    ) -> Float[Array, "both output"]:
        """The outputs for `x`, then those for `frozen`, whose rows add nothing to the gradient of the parameters."""


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
