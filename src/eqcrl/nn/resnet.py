"""The residual network of the paper, from 4 to 1024 layers and beyond."""

from typing import Annotated, Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl import registry
from eqcrl.errors import ConfigError
from eqcrl.nn.activations import ACTIVATIONS, ActivationName
from eqcrl.nn.base import AbstractArch, AbstractLayer, AbstractStack, AbstractStreamBlock, AbstractTrunk, Remat
from eqcrl.nn.blocks import DenseNormActivation, DenseNormSwish, Residual
from eqcrl.nn.fused_stack import FusedStack
from eqcrl.nn.layers import Dense, LayerNorm, RMSNorm
from eqcrl.nn.norms import NormName, make_norm
from eqcrl.nn.stacked import saved_floats_per_row, stack
from eqcrl.nn.sweeps import Swept
from eqcrl.settings import Meta
from eqcrl.types import Key

# From this depth on, keeping block inputs only (a quarter of "dots") is worth running the forward pass twice.
BLOCK_REMAT_DEPTH = 256

# So many blocks add whole branches under the recipe `calm`, which so is the paper's up to depth 16.
WHOLE_BRANCHES = 4


Depth = Annotated[int, Meta(ge=1, description="Dense layers inside the blocks", extra={"unit": "layers"})]
Width = Annotated[int, Meta(ge=1, description="units of every layer", extra={"unit": "units"})]
Recipe = Annotated[
    Literal["paper", "calm"],
    Meta(description="paper: each block adds its whole branch; calm: 4 / blocks of it, and the whole up to depth 16"),
]
RematChoice = Annotated[
    Literal["auto", "none", "dots", "block", "nested"],
    Meta(description="what the backward pass keeps; auto: dots, and block from depth 256 on"),
]


class ResNetTrunk(AbstractTrunk):
    """Stem Dense -> norm -> activation, then the blocks; no norm at the end."""

    stem: Dense
    norm: LayerNorm | RMSNorm | None
    blocks: AbstractStack
    activation: ActivationName = eqx.field(default="swish", static=True)

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""
        return self.blocks(self.first(x))

    def first(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """The stem's output, which the blocks are given."""
        before = self.stem(x)
        return ACTIVATIONS[self.activation].value(before if self.norm is None else self.norm(before))


class ResNet(AbstractArch):
    """Residual network: x_0 = swish(LN(W x + b)), x_{l+1} = x_l + c block_l(x_l), l < L = depth / 4.

    c = 1 is the recipe `paper`, c = min(1, 4 / L) the recipe `calm`: the same network up to depth 16. `depth` counts
    the Dense layers inside the blocks; stem and head are extra. `norm` and `activation` are those of stem and blocks
    alike; without `residual` x_{l+1} = block_l(x_l), and nothing is left for the recipe to scale. A block that owns
    its stream (`hyperspherical`, `learned-skip`) brings its own network. Source: Wang et al. 2025 (arXiv 2503.14858),
    section 3 and figures 2, 5 and 16; for a factor in 1 / L under Adam, Dey et al. 2025 (arXiv 2505.01618).
    Raises: ConfigError for a depth that is not a positive multiple of the block's layers, and for a setting that the
    block or the depth solver does not have.
    """

    depth: Depth = eqx.field(default=8, static=True)
    width: Width = eqx.field(default=256, static=True)
    block: Annotated[str, Meta(description="what the identity is added to; `eqcrl list block`")] = eqx.field(
        default="dense-norm-swish", static=True
    )
    recipe: Recipe = eqx.field(default="calm", static=True)
    remat: RematChoice = eqx.field(default="auto", static=True)

    depth_solver: Annotated[
        Literal["scan", "sweeps", "fused"],
        Meta(
            description="scan: block after block; sweeps: all at once until nothing changes; fused: gradient steps by "
            "one kernel for all blocks (Hopper GPUs, products in bf16); the last two are experimental"
        ),
    ] = eqx.field(default="scan", static=True)
    norm: Annotated[NormName, Meta(description="after every Dense layer of stem and dense-norm-swish blocks")] = (
        eqx.field(default="layer", static=True)
    )
    activation: Annotated[ActivationName, Meta(description="after every norm of stem and dense-norm-swish blocks")] = (
        eqx.field(default="swish", static=True)
    )
    residual: Annotated[bool, Meta(description="add the identity around each block; false: blocks alone")] = eqx.field(
        default=True, static=True
    )

    def __check_init__(self) -> None:
        layers = self.block_class().dense_layers()
        if self.depth < layers or self.depth % layers:
            below = max(self.depth, 0) // layers * layers
            near = [d for d in (below, below + layers) if d > 0]
            raise ConfigError(
                f"A resnet of depth {self.depth} does not exist: its blocks ({self.block}) have {layers} layers each.",
                mend=f"Use depth {' or '.join(map(str, near))}.",
            )
        self._check_switches()

    def _check_switches(self) -> None:
        switched = [
            f"{name} = {value!r}"
            for name, value, plain in (("norm", self.norm, "layer"), ("activation", self.activation, "swish"))
            if value != plain
        ]
        if switched and self.block_class() is not DenseNormSwish:
            raise ConfigError(
                f"{' and '.join(switched)} does not fit block = {self.block!r}, which has its own.",
                mend="norm and activation are settings of the block dense-norm-swish; leave them out here.",
            )
        if self.owns_stream() and not self.residual:
            raise ConfigError(
                f"residual = false does not fit block = {self.block!r}: how it changes the stream is the block itself.",
                mend="Leave residual out, or use the block dense-norm-swish.",
            )
        if self.depth_solver == "scan":
            return
        if self.owns_stream() or not self.residual:
            why = f"block = {self.block!r}" if self.owns_stream() else "residual = false"
            raise ConfigError(
                f"depth_solver = {self.depth_solver!r} solves x + f(x) for all blocks, which {why} does not have.",
                mend="Use depth_solver = 'scan'.",
            )
        if self.depth_solver == "fused" and switched:
            raise ConfigError(
                f"depth_solver = 'fused' has kernels for LayerNorm and Swish, not for {' and '.join(switched)}.",
                mend="Use depth_solver = 'scan'.",
            )

    def block_class(self) -> Any:
        """The registered block that is repeated, a subclass of AbstractBlock."""
        return registry.load("block", self.block)

    def owns_stream(self) -> bool:
        """Whether the block says itself what becomes of the stream."""
        return isinstance(self.block_class(), type) and issubclass(self.block_class(), AbstractStreamBlock)

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

    def build(self, input_size: int, *, key: Key) -> AbstractTrunk:
        """A freshly initialized trunk."""
        if self.owns_stream():
            block, count, scale = self.block_class(), self.count(), self.branch_scale()
            return block.trunk(input_size, self.width, count, scale, self.remat_policy(), key=key)
        stem_key, blocks_key = jax.random.split(key)
        stacked = stack(self._block, self.count(), self.remat_policy(), key=blocks_key)
        blocks: AbstractStack = stacked
        if self.depth_solver == "sweeps":
            blocks = Swept(stacked.blocks, stacked.count)
        if self.depth_solver == "fused":
            blocks = FusedStack(stacked.blocks, stacked.count, stacked.remat)
        stem, norm = Dense(input_size, self.width, key=stem_key), make_norm(self.norm, self.width)
        return ResNetTrunk(stem, norm, blocks, self.activation)

    def saved_floats_per_row(self) -> int:
        """Those of the blocks, and about three rows of the stem."""
        if self.owns_stream():
            return self.block_class().saved_floats_per_row(self.width, self.count(), self.remat_policy())
        blocks = saved_floats_per_row(self._block, self.count(), self.width, self.remat_policy())
        if self.depth_solver == "sweeps":
            # What one block's backward pass keeps, for all of them, and about twenty streams of the sweeps themselves.
            kept = saved_floats_per_row(self._block, self.count(), self.width, "none")
            blocks = kept + 20 * self.count() * self.width
        return blocks + 3 * self.width

    def _block(self, key: Key) -> AbstractLayer:
        branch = self._branch(key)
        return Residual(branch, self.branch_scale()) if self.residual else branch

    def _branch(self, key: Key) -> AbstractLayer:
        # The plain block has a class of its own, by which the schedules for accelerators know it.
        if (self.norm, self.activation) != ("layer", "swish"):
            return DenseNormActivation(self.width, self.norm, self.activation, key=key)
        return self.block_class()(self.width, key=key)
