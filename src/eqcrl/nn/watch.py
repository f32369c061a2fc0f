"""Looking into stacks of equal blocks, whatever network holds them, without the network passing anything on.

Along a stack, with x_l the stream that leaves block l and f the loss that is differentiated:

| statistic of block l | what it shows |
|---|---|
| rms(x_l) | growth of the stream |
| rms(x_l - mean of x_l over rows) | how much of it still depends on the input |
| rms(x_l - x_{l-1}) / rms(x_{l-1}) | what one block adds |
| norm of df / d(parameters of block l) | whether learning reaches it |
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractStack


class Watched(eqx.Module):
    """A stack that also measures the stream after each of its blocks.

    What it measures leaves by the backward pass, as the gradient of `slots`: so it comes out of any trunk, whatever
    transformations of JAX a third party puts around the stack.
    """

    stacked: AbstractStack
    slots: Float[Array, "blocks 4"]

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """As the stack does."""
        streams = self.stacked.streams(x)
        seen = jax.lax.stop_gradient(streams)
        return _leave(streams[-1], self.slots, jax.vmap(_measured)(seen[:-1], seen[1:]))


@jax.custom_vjp
def _leave(x: Array, slots: Array, found: Array) -> Array:
    return x


_leave.defvjp(lambda x, slots, found: (x, found), lambda found, grad: (grad, found, jnp.zeros_like(found)))


def _measured(before: Array, after: Array) -> Float[Array, "4"]:
    """Stream, varying part, change, and 1, by which their sum over calls is divided."""
    # A stream of zeros changes by infinitely much of itself; a number that large says so too.
    change = rms(after - before) / jnp.maximum(rms(before), jnp.finfo(before.dtype).tiny)
    return jnp.stack([rms(after), rms(varying(after)), change, jnp.ones(())])


def watched(network: Any) -> Any:
    """The same network with every stack in it watched; its gradient is what the functions below take.

    Left as they are: stacks of no blocks, and those with an axis in front of that of the blocks (an ensemble).
    """

    def watch(node: Any) -> Any:
        return Watched(node, jnp.zeros((node.count, 4))) if _is_plain_stack(node) else node

    return jax.tree.map(watch, network, is_leaf=_is_plain_stack)


def gradient_norm(gradient: Any) -> Float[Array, ""]:
    """Norm over all parameters; what was measured does not count."""
    bare = jax.tree.map(lambda node: node.stacked if _is_watched(node) else node, gradient, is_leaf=_is_watched)
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(bare)))


def stack_statistics(gradient: Any) -> list[Float[Array, "blocks 5"]]:
    """For each stack, in the order in which the network holds them, the four statistics of this module's table and
    how often the stack was called; statistics of several calls are averages. Zeros for a stack that was not called.
    """
    nodes = jax.tree.leaves(gradient, is_leaf=_is_watched)
    return [_statistics(node) for node in nodes if _is_watched(node)]


def _statistics(gradient: Watched) -> Float[Array, "blocks 5"]:
    leaves = [leaf.reshape(gradient.stacked.count, -1) for leaf in jax.tree.leaves(gradient.stacked)]
    norm = jnp.sqrt(sum(jnp.sum(leaf**2, axis=1) for leaf in leaves))
    calls = gradient.slots[:, 3]
    return jnp.column_stack([gradient.slots[:, :3] / jnp.maximum(calls, 1.0)[:, None], norm, calls])


def rms(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Root of the mean square over everything."""
    return jnp.sqrt(jnp.mean(x**2))


def varying(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """What differs between rows: x minus its mean over all axes but the last."""
    return x - jnp.mean(x, axis=tuple(range(x.ndim - 1)), keepdims=True)


def _is_watched(node: Any) -> bool:
    return isinstance(node, Watched)


def _is_plain_stack(node: Any) -> bool:
    if not isinstance(node, AbstractStack) or node.count == 0:
        return False
    return all(leaf.ndim and leaf.shape[0] == node.count for leaf in jax.tree.leaves(node.blocks))
