"""One call for a whole batch, from code that is written for one simulation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array


def over_leading_axes(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, made so that each `jax.vmap` around it adds a leading axis to all of its arguments and results.

    `call` takes arrays and treats all axes but the last of each as simulations; so it is called once for all of
    them, and knows how many they are, whatever number of maps stands around it.
    """

    @custom_vmap
    def mapped(*arrays: Array) -> Any:
        return call(*arrays)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: Any, *arrays: Array) -> Any:
        spread = [
            x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
            for x, batched in zip(arrays, in_batched, strict=True)
        ]
        out = mapped(*spread)
        return out, jax.tree.map(lambda _: True, out)

    return mapped
