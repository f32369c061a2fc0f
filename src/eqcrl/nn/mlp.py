"""A plain multilayer perceptron: no norm, no residual."""

from typing import Annotated

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.blocks import DenseSwish
from eqcrl.nn.layers import Dense
from eqcrl.nn.stacked import Stacked, stack
from eqcrl.settings import Meta
from eqcrl.types import Key


class MLPTrunk(AbstractTrunk):
    """The first layer, then the equal ones by scan."""

    stem: Dense
    layers: Stacked

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""
        return self.layers(jax.nn.swish(self.stem(x)))


class MLP(AbstractArch):
    """`depth` times Dense -> Swish: the baseline that depth does not help."""

    depth: Annotated[int, Meta(ge=1, description="Dense layers before the head", extra={"unit": "layers"})] = eqx.field(
        default=4, static=True
    )
    width: Annotated[int, Meta(ge=1, description="units of every layer", extra={"unit": "units"})] = eqx.field(
        default=256, static=True
    )

    def build(self, input_size: int, *, key: Key) -> MLPTrunk:
        """A freshly initialized trunk."""
        stem_key, layers_key = jax.random.split(key)
        layers = stack(lambda k: DenseSwish(self.width, key=k), self.depth - 1, "none", key=layers_key)
        return MLPTrunk(Dense(input_size, self.width, key=stem_key), layers)

    def saved_floats_per_row(self) -> int:
        """Input and pre-activation of every layer."""
        return 2 * self.width * self.depth
