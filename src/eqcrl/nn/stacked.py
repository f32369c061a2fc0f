"""Any number of equal blocks, stacked along a leading axis and applied by one `scan`.

Compile time and program size do not depend on how many there are. What the backward pass keeps is the remat policy:

| policy | kept per block and row | recomputed |
|---|---|---|
| none | every intermediate that autodiff asks for | nothing |
| dots | outputs of matrix products | norms and activations |
| block | the block's input | the block's forward pass |
"""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractLayer
from eqcrl.types import Key

Remat = Literal["none", "dots", "block"]


class Stacked(eqx.Module):
    """`blocks` is one block whose every leaf has a leading axis of `count`; calling applies them in order."""

    blocks: AbstractLayer
    count: int = eqx.field(static=True)
    remat: Remat = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = block_l(x_l) for l = 0..count-1; returns the last."""
        if self.count == 0:
            return x

        def body(x: Array, block: AbstractLayer) -> tuple[Array, None]:
            return block(x), None

        # CSE cannot undo the recomputation across a scan's forward and backward loop, so guarding against it
        # with barriers (prevent_cse) would only cost time.
        if self.remat == "dots":
            body = jax.checkpoint(body, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
        elif self.remat == "block":
            body = jax.checkpoint(body, prevent_cse=False)
        return jax.lax.scan(body, x, self.blocks)[0]


def stack(make_block: Callable[[Key], AbstractLayer], count: int, remat: Remat, *, key: Key) -> Stacked:
    """`count` independently initialized blocks. All leaves of a block must be arrays.

    Raises: TypeError for a block with a leaf that is not an array.
    """
    blocks = jax.vmap(make_block)(jax.random.split(key, max(count, 1)))
    if count == 0:
        blocks = jax.tree.map(lambda leaf: leaf[:0], blocks)
    return Stacked(blocks, count, remat)
