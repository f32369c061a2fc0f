"""The residual network of the paper, from 4 to 1024 layers and beyond."""

from typing import Annotated, Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl import registry
from eqcrl.errors import ConfigError
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.blocks import Residual
from eqcrl.nn.layers import Dense, LayerNorm
from eqcrl.nn.stacked import Remat, Stacked, stack
from eqcrl.settings import Meta
from eqcrl.types import Key

# From this depth on, keeping block inputs only (a quarter of "dots") is worth running the forward pass twice.
BLOCK_REMAT_DEPTH = 256


class ResNetTrunk(AbstractTrunk):
    """Stem Dense -> LayerNorm -> Swish, then residual blocks; no norm at the end."""

    stem: Dense
    norm: LayerNorm
    blocks: Stacked

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""
        return self.blocks(jax.nn.swish(self.norm(self.stem(x))))


class ResNet(AbstractArch):
    """Residual network: x_0 = swish(LN(W x + b)), x_{l+1} = x_l + block_l(x_l), l < depth / 4.

    `depth` counts the Dense layers inside the blocks; stem and head are extra.
    Source: Wang et al. 2025 (arXiv 2503.14858), section 3 and figure 2.
    Raises: ConfigError for a depth that is not a positive multiple of the block's layers.
    """

    depth: Annotated[int, Meta(ge=1, description="Dense layers inside the blocks", extra={"unit": "layers"})] = (
        eqx.field(default=8, static=True)
    )
    width: Annotated[int, Meta(ge=1, description="units of every layer", extra={"unit": "units"})] = eqx.field(
        default=256, static=True
    )
    block: Annotated[str, Meta(description="what the identity is added to; `eqcrl list block`")] = eqx.field(
        default="dense-norm-swish", static=True
    )
    remat: Annotated[
        Literal["auto", "none", "dots", "block"],
        Meta(description="what the backward pass keeps; auto: dots, and block from depth 256 on"),
    ] = eqx.field(default="auto", static=True)

    def __check_init__(self) -> None:
        layers = self.block_class().dense_layers()
        if self.depth < layers or self.depth % layers:
            below = max(self.depth, 0) // layers * layers
            near = [d for d in (below, below + layers) if d > 0]
            raise ConfigError(
                f"A resnet of depth {self.depth} does not exist: its blocks have {layers} layers each.",
                mend=f"Use depth {' or '.join(map(str, near))}.",
            )

    def block_class(self) -> Any:
        """The registered block that is repeated, a subclass of AbstractBlock."""
        return registry.load("block", self.block)

    def remat_policy(self) -> Remat:
        """The policy that `auto` stands for at this depth."""
        if self.remat != "auto":
            return self.remat
        return "block" if self.depth >= BLOCK_REMAT_DEPTH else "dots"

    def build(self, input_size: int, *, key: Key) -> ResNetTrunk:
        """A freshly initialized trunk."""
        stem_key, blocks_key = jax.random.split(key)
        block = self.block_class()
        blocks = stack(
            lambda k: Residual(block(self.width, key=k)),
            self.depth // block.dense_layers(),
            self.remat_policy(),
            key=blocks_key,
        )
        return ResNetTrunk(Dense(input_size, self.width, key=stem_key), LayerNorm(self.width), blocks)

    def saved_floats_per_row(self) -> int:
        """Per layer: 1/4 of a row under `block`, 1 and the block's input under `dots`, about 5 without remat."""
        blocks = self.depth // self.block_class().dense_layers()
        per_row = {"block": blocks, "dots": self.depth + blocks, "none": 5 * self.depth + blocks}
        return self.width * (per_row[self.remat_policy()] + 3)
