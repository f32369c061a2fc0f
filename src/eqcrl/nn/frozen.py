"""Networks in which some rows of a batch teach the parameters and the others only carry gradients to their inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractPartlyFrozen, AbstractSharedWalk


def partly_frozen(
    layer: Callable[[Array], Array] | Any, x: Float[Array, "rows input"], learning: int
) -> Float[Array, "rows output"]:
    """layer(x), where only the first `learning` rows add to the gradient of the layer's parameters.

    The same as concatenating layer(x[:learning]) and stop_gradient(layer)(x[learning:]), which it is for layers
    that do not know better.
    """
    if isinstance(layer, AbstractPartlyFrozen):
        return layer.partly_frozen(x, learning)
    return jnp.concatenate([layer(x[:learning]), jax.lax.stop_gradient(layer)(x[learning:])])


def shared_walk(
    network: Callable[[Array], Array] | Any, x: Float[Array, "rows input"], frozen: Float[Array, "others input"]
) -> Float[Array, "both output"]:
    """The outputs for `x` and then for `frozen`; only the former add to the gradient of the network's parameters.

    One walk through a deep network then serves a loss that trains it and a loss that looks through it. The same as
    concatenating network(x) and stop_gradient(network)(frozen), which it is for networks that do not know better.
    """
    if isinstance(network, AbstractSharedWalk):
        return network.shared_walk(x, frozen)
    return jnp.concatenate([network(x), jax.lax.stop_gradient(network)(frozen)])
