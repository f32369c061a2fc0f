"""Any number of equal blocks, stacked along a leading axis and applied by one `scan`.

Compile time and program size do not depend on how many there are. What the backward pass keeps is the remat policy:

| policy | kept per block and row | recomputed |
|---|---|---|
| none | what the block's own backward pass keeps; without one, every intermediate that autodiff asks for | nothing |
| dots | outputs of matrix products, and what a block names `SMALL` | norms and activations |
| block | the block's input | the block's forward pass |
| nested | the input of every group of about sqrt(blocks) blocks, and those within one group | two forward passes |

A block needs nothing for this: any function of array leaves is scanned and rematerialized. One that cannot be is
refused with the reason, see `eqcrl.nn.scannable`.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import SMALL, AbstractLayer, AbstractStack, Remat
from eqcrl.nn.scannable import check_call, check_leaves
from eqcrl.nn.walk import Body, walk
from eqcrl.types import Key


def rematerialized(body: Callable[[Any, Any], Any], remat: Remat) -> Callable[[Any, Any], Any]:
    """The body of a walk through blocks, keeping what the policy says."""
    # CSE cannot undo the recomputation across a scan's forward and backward loop, so guarding against it
    # with barriers (prevent_cse) would only cost time.
    if remat == "none":
        return body
    if remat == "dots":
        policies = jax.checkpoint_policies
        kept = policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names(SMALL))
        return jax.checkpoint(body, policy=kept, prevent_cse=False)
    return jax.checkpoint(body, prevent_cse=False)


def group_size(count: int) -> int:
    """The divisor of `count` nearest to its square root: blocks in a group of the `nested` policy."""
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / math.sqrt(count))))


class Stacked(AbstractStack):
    """Block after block, by one scan."""

    blocks: AbstractLayer
    count: int = eqx.field(static=True)
    remat: Remat = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = block_l(x_l) for l = 0..count-1; returns the last."""
        if self.count == 0:
            return x

        try:
            return self._walked(rematerialized(lambda x, block: block(x), self.remat), x)
        except Exception:
            # JAX's message is about scans. Whoever wrote the block is told about the block, if that is the reason.
            one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.blocks)
            check_call(one, jax.ShapeDtypeStruct(x.shape, x.dtype))
            raise

    def streams(self, x: Float[Array, "*batch width"]) -> Float[Array, "streams *batch width"]:
        """x_0 to x_count. Nothing else is kept: one may want to look deeper than training has memory for."""

        def body(x: Array, block: AbstractLayer) -> tuple[Array, Array]:
            after = block(x)
            return after, after

        return jnp.concatenate([x[None], jax.lax.scan(jax.checkpoint(body, prevent_cse=False), x, self.blocks)[1]])

    def _walked(self, body: Body, x: Array) -> Array:
        if self.remat == "none":
            return jax.lax.scan(lambda x, block: (body(x, block), None), x, self.blocks)[0]
        if self.remat != "nested":
            return walk(body, x, self.blocks)
        size = group_size(self.count)
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), self.blocks)
        group = jax.checkpoint(lambda x, blocks: walk(body, x, blocks), prevent_cse=False)
        return walk(group, x, groups)


def stack(make_block: Callable[[Key], AbstractLayer], count: int, remat: Remat, *, key: Key) -> Stacked:
    """`count` independently initialized blocks. All leaves of a block must be floating-point arrays.

    Raises: BrokenPlugin for a block with another leaf, or that cannot be made from a key whose value is not known.
    """
    check_leaves(make_block)
    blocks = jax.vmap(make_block)(jax.random.split(key, max(count, 1)))
    if count == 0:
        blocks = jax.tree.map(lambda leaf: leaf[:0], blocks)
    return Stacked(blocks, count, remat)


def saved_floats_per_row(make_block: Callable[[Key], AbstractLayer], count: int, width: int, remat: Remat) -> int:
    """Floats for each row of a batch that the backward pass of such a stack is handed beside the parameters.

    Read off the shapes of one block's; nothing is computed. Raises: BrokenPlugin for a block that cannot be scanned.
    """
    block = check_leaves(make_block)
    check_call(block, jax.ShapeDtypeStruct((2, width), jnp.float32))

    def floats(rows: int) -> int:
        x = jax.ShapeDtypeStruct((rows, width), jnp.float32)
        one = rematerialized(lambda x, block: block(x), "block" if remat == "nested" else remat)
        saved = jax.eval_shape(lambda x, block: jax.vjp(one, x, block)[1], x, block)
        return sum(leaf.size for leaf in jax.tree.leaves(saved))

    per_block = floats(2) - floats(1)
    if remat == "nested":
        size = group_size(count)
        return per_block * (size + count // size)
    return per_block * count
