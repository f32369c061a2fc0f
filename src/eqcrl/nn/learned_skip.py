"""Learned skip connections: every block takes a learned mixture of all streams before it instead of the last one.

With f_l the branch of four times Dense -> LayerNorm -> Swish and c what the recipe multiplies it with,

    x_{l+1} = sum_{k <= l} w_{l,k} x_k + c f_l(x_l)
    w_l = (1 - s_l) e_l + s_l softmax(t_l / 0.1)

where e_l is the identity of the plain residual network (1 for k = l, else 0), the softmax runs over k = 0..l, and both
the row t_l and the share s_l are learned, from 0. So the weights of a row always add up to 1; with all shares 0, as
they begin, the network is the plain one exactly; with shares of 1 it is a routing by softmax alone.

After ANCRe (Zhang et al. 2026, arXiv 2602.09009): from there come a learned coefficient for every pair of blocks, and
their softmax with a temperature. Ours are the share, which makes the start exact and lets depth begin calmly, the
temperature, and that each block mixes what it is handed (it may be that ANCRe arranges that otherwise).

The streams of all blocks are kept, in the forward pass as well: (blocks + 1) rows of the width for every row of a
batch, three times that while differentiating. Every block reads all of them, so the work beside the matrix products
grows with the square of the depth.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractLayer, AbstractStack, AbstractStreamBlock, Remat
from eqcrl.nn.blocks import LAYERS, DenseNormSwish
from eqcrl.nn.layers import Dense, LayerNorm
from eqcrl.nn.resnet import Depth, Recipe, RematChoice, ResNet, ResNetTrunk, Width
from eqcrl.nn.stacked import rematerialized, saved_floats_per_row, stack
from eqcrl.types import Key

TEMPERATURE = 0.1
"""Adam moves a logit by its step size; divided by this, a few hundred steps that agree choose between streams."""
EXACT = jax.lax.Precision.HIGHEST


class LearnedSkip(AbstractStreamBlock):
    """A branch as in `dense-norm-swish`, added to a learned mixture of all streams before it, x_0 to x_l.

    Block l uses the first l + 1 of its `logits`. A whole network of them and its source: `eqcrl.nn.learned_skip`.
    """

    branch: DenseNormSwish
    logits: Float[Array, "blocks"]
    share: Float[Array, ""]
    scale: float = eqx.field(static=True)

    def __init__(self, width: int, blocks: int = 1, scale: float = 1.0, *, key: Key):
        self.branch = DenseNormSwish(width, key=key)
        self.logits = jnp.zeros(blocks)
        self.share = jnp.zeros(())
        self.scale = scale

    @staticmethod
    def dense_layers() -> int:
        """Four."""
        return LAYERS

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """What the block adds to its mixture."""
        return self.scale * self.branch(x)

    @classmethod
    def trunk(cls, input_size: int, width: int, count: int, scale: float, remat: Remat, *, key: Key) -> ResNetTrunk:
        """The stem of `resnet`, and this block `count` times. Initial weights are those of the plain network."""
        stem_key, blocks_key = jax.random.split(key)
        blocks = stack(lambda k: cls(width, count, scale, key=k), count, remat, key=blocks_key)
        skips = LearnedSkips(blocks.blocks, count, remat)
        return ResNetTrunk(Dense(input_size, width, key=stem_key), LayerNorm(width), skips)

    @classmethod
    def saved_floats_per_row(cls, width: int, count: int, remat: Remat) -> int:
        """What the branches keep, all streams, the gradients to them (on a CPU twice, once transposed for the product
        that gives the weights' gradients), and about three rows of the stem.
        """
        branches = saved_floats_per_row(lambda k: cls(width, count, key=k), count, width, _policy(remat))
        return branches + 3 * (count + 1) * width + 3 * width


class LearnedSkips(AbstractStack):
    """A stack of `LearnedSkip`. Every policy keeps all streams, so `nested` is the same as `block`."""

    blocks: AbstractLayer
    count: int = eqx.field(static=True)
    remat: Remat = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = sum_k w_{l,k} x_k + block_l(x_l) for l = 0..count-1; returns the last."""
        return self.streams(x)[-1]

    def streams(self, x: Float[Array, "*batch width"]) -> Float[Array, "streams *batch width"]:
        """x_0 to x_count."""
        rows = x.reshape(-1, x.shape[-1])
        streams: Any = _walk(_policy(self.remat), self.weights(), self.blocks, rows)
        return streams.reshape(-1, *x.shape)

    def weights(self) -> Float[Array, "blocks blocks"]:
        """w_{l,k}; 0 where k > l."""
        blocks: Any = self.blocks
        before = jnp.tril(jnp.ones((self.count, self.count), bool))
        routed = jax.nn.softmax(jnp.where(before, blocks.logits / TEMPERATURE, -jnp.inf), axis=-1)
        identity = jnp.eye(self.count, dtype=routed.dtype)
        return identity + blocks.share[:, None] * (routed - identity)


def _policy(remat: Remat) -> Remat:
    """Every input of a block is kept anyway, so there is nothing to nest."""
    return "block" if remat == "nested" else remat


Branch = Callable[[Array, AbstractLayer], Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _walk(remat: Remat, weights: Array, blocks: AbstractLayer, x: Array) -> Array:
    return _scan(remat, weights, blocks, _begun(weights, x), x)


def _walk_forward(remat: Remat, weights: Array, blocks: AbstractLayer, x: Array) -> tuple[Array, Any]:
    streams, back = jax.vjp(lambda blocks, begun: _scan(remat, weights, blocks, begun, x), blocks, _begun(weights, x))
    return streams, (streams, back)


def _walk_backward(remat: Remat, saved: Any, grad: Array) -> tuple[Array, AbstractLayer, Array]:
    streams, back = saved
    to_blocks, to_streams = back(grad)
    # All at once. Autodiff of a mixture would keep all streams for every block, to differentiate by its weights.
    between = jnp.einsum("lrw,krw->lk", to_streams, streams, precision=EXACT)
    return jnp.tril(between[1:, :-1]), to_blocks, to_streams[0]


_walk.defvjp(_walk_forward, _walk_backward)


def _begun(weights: Array, x: Array) -> Array:
    """Room for all streams, with the first in its place."""
    return jnp.zeros((weights.shape[0] + 1, *x.shape), x.dtype).at[0].set(x)


def _scan(remat: Remat, weights: Array, blocks: AbstractLayer, begun: Array, x: Array) -> Array:
    """All streams. The gradient to `begun` is the one to each of them; there is none to `x` and `weights`."""
    count = weights.shape[0]
    body = rematerialized(lambda x, block: (block(x), None), remat)
    # From every stream to the next, and from every stream to where it was mixed into.
    rows = jnp.pad(weights, ((0, 0), (0, 1)))
    columns = jnp.pad(weights, ((1, 0), (0, 0))).T

    def step(carry: tuple[Array, Array], given: tuple[Array, Array, Array, AbstractLayer]) -> Any:
        return _step(lambda x, block: body(x, block)[0], *carry, *given), None

    given = (jnp.arange(count), rows, columns, blocks)
    return jax.lax.scan(step, (begun, x), given)[0][0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _step(
    branch: Branch, streams: Array, x: Array, index: Array, row: Array, column: Array, block: AbstractLayer
) -> tuple[Array, Array]:
    """The next stream, among the others and by itself. `x` is the stream at `index`."""
    return _step_forward(branch, streams, x, index, row, column, block)[0]


def _step_forward(
    branch: Branch, streams: Array, x: Array, index: Array, row: Array, column: Array, block: AbstractLayer
) -> tuple[tuple[Array, Array], Any]:
    added, back = jax.vjp(branch, x, block)
    after = _mixed(row, streams) + added
    return (_with(streams, after, index + 1), after), (index, column, back)


def _step_backward(branch: Branch, saved: Any, grads: tuple[Array, Array]) -> tuple[Any, ...]:
    # The gradients to the streams from `index` + 1 on are complete, that to the stream at `index` is completed here. It
    # stays where it is instead of being passed on with `x`: XLA then works in place, without copies of all streams.
    index, column, back = saved
    to_streams, _ = grads
    to_x, to_block = back(_at(to_streams, index + 1))
    complete = _at(to_streams, index) + to_x + _mixed(column, to_streams)
    return _with(to_streams, complete, index), jnp.zeros_like(to_x), None, None, None, to_block


_step.defvjp(_step_forward, _step_backward)


def _mixed(weights: Array, streams: Array) -> Array:
    """Exact whatever the precision of the networks' products: this is the stream itself."""
    return jnp.tensordot(weights, streams, 1, precision=EXACT)


def _at(streams: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(streams, index, keepdims=False)


def _with(streams: Array, stream: Array, index: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(streams, stream, index, 0)


def learned_skip(depth: Depth = 8, width: Width = 256, recipe: Recipe = "calm", remat: RematChoice = "auto") -> ResNet:
    """A residual network whose skip connections are learned: each block takes a mixture of all streams before it.

    x_{l+1} = sum_{k<=l} w_{l,k} x_k + c f_l(x_l), the plain `resnet` exactly as it begins. The same as `resnet` with
    `block = "learned-skip"`, without the settings that have no meaning for it. After ANCRe, Zhang et al. 2026
    (arXiv 2602.09009); what is known of it and what is ours is told in `eqcrl.nn.learned_skip`.
    Raises: ConfigError for a depth that is not a positive multiple of four.
    """
    return ResNet(depth, width, "learned-skip", recipe=recipe, remat=remat)
