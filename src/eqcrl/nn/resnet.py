"""The residual network of the paper, from 4 to 1024 layers and beyond."""

from typing import Annotated, Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl import registry
from eqcrl.errors import ConfigError
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.blocks import Residual
from eqcrl.nn.fused_stack import FusedStack
from eqcrl.nn.layers import Dense, LayerNorm
from eqcrl.nn.stacked import Remat, Stacked, saved_floats_per_row, stack
from eqcrl.nn.sweeps import Swept
from eqcrl.settings import Meta
from eqcrl.types import Key

# From this depth on, keeping block inputs only (a quarter of "dots") is worth running the forward pass twice.
BLOCK_REMAT_DEPTH = 256

# So many blocks add whole branches under the recipe `calm`, which so is the paper's up to depth 16.
WHOLE_BRANCHES = 4


class ResNetTrunk(AbstractTrunk):
    """Stem Dense -> LayerNorm -> Swish, then residual blocks; no norm at the end."""

    stem: Dense
    norm: LayerNorm
    blocks: Stacked | Swept | FusedStack

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""
        return self.blocks(self.first(x))

    def first(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """The stem's output, which the blocks are given."""
        return jax.nn.swish(self.norm(self.stem(x)))


class ResNet(AbstractArch):
    """Residual network: x_0 = swish(LN(W x + b)), x_{l+1} = x_l + c block_l(x_l), l < L = depth / 4.

    c = 1 is the recipe `paper`, c = min(1, 4 / L) the recipe `calm`: the same network up to depth 16. `depth` counts
    the Dense layers inside the blocks; stem and head are extra. Source: Wang et al. 2025 (arXiv 2503.14858), section 3
    and figure 2; for a factor in 1 / L under Adam, Dey et al. 2025 (arXiv 2505.01618).
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
    recipe: Annotated[
        Literal["paper", "calm"],
        Meta(
            description="paper: each block adds its whole branch; calm: 4 / blocks of it, and the whole up to depth 16"
        ),
    ] = eqx.field(default="calm", static=True)
    remat: Annotated[
        Literal["auto", "none", "dots", "block", "nested"],
        Meta(description="what the backward pass keeps; auto: dots, and block from depth 256 on"),
    ] = eqx.field(default="auto", static=True)

    depth_solver: Annotated[
        Literal["scan", "sweeps", "fused"],
        Meta(
            description="scan: block after block; sweeps: all at once until nothing changes; fused: gradient steps by "
            "one kernel for all blocks (Hopper GPUs, products in bf16); the last two are experimental"
        ),
    ] = eqx.field(default="scan", static=True)

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

    def count(self) -> int:
        """Blocks."""
        return self.depth // self.block_class().dense_layers()

    def branch_scale(self) -> float:
        """What each branch is multiplied with.

        Swish of a norm has a positive mean, so whole branches add up to a constant that grows with depth; and Adam
        moves all of them by the same step in much the same direction, so one step moves the output by as many steps
        as there are blocks. Over their number, both are what they are for a few blocks.
        """
        return 1.0 if self.recipe == "paper" else min(1.0, WHOLE_BRANCHES / self.count())

    def remat_policy(self) -> Remat:
        """The policy that `auto` stands for at this depth."""
        if self.remat != "auto":
            return self.remat
        return "block" if self.depth >= BLOCK_REMAT_DEPTH else "dots"

    def build(self, input_size: int, *, key: Key) -> ResNetTrunk:
        """A freshly initialized trunk."""
        stem_key, blocks_key = jax.random.split(key)
        stacked = stack(self._block, self.count(), self.remat_policy(), key=blocks_key)
        blocks: Stacked | Swept | FusedStack = stacked
        if self.depth_solver == "sweeps":
            blocks = Swept(stacked.blocks, stacked.count)
        if self.depth_solver == "fused":
            blocks = FusedStack(stacked.blocks, stacked.count, stacked.remat)
        return ResNetTrunk(Dense(input_size, self.width, key=stem_key), LayerNorm(self.width), blocks)

    def saved_floats_per_row(self) -> int:
        """Those of the blocks, and about three rows of the stem."""
        blocks = saved_floats_per_row(self._block, self.count(), self.width, self.remat_policy())
        if self.depth_solver == "sweeps":
            # What one block's backward pass keeps, for all of them, and about twenty streams of the sweeps themselves.
            kept = saved_floats_per_row(self._block, self.count(), self.width, "none")
            blocks = kept + 20 * self.count() * self.width
        return blocks + 3 * self.width

    def _block(self, key: Key) -> Residual:
        return Residual(self.block_class()(self.width, key=key), self.branch_scale())
