"""A scan over stacked blocks with a backward pass that says itself where its arrays begin.

`jax.lax.scan` lets what it is about to fill begin as zeros. XLA sees that they are the same zeros everywhere, writes
them once and copies them for each array: at depth 1024 those copies were half of an update's temporaries on a CPU. Here
every array begins as another number of the input, which is no zero to XLA, so each is written once and when it is
needed. What is kept, and the gradients, are those of a scan over the same body.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Body = Callable[[Array, Any], Array]
"""From what enters a block and the block's parameters to what leaves it."""


class Kept(NamedTuple):
    """What the backward pass is handed: all parameters, and of each block what its own backward pass needs besides."""

    blocks: Any
    rest: list[Array]


def walk(body: Body, x: Float[Array, "..."], blocks: Any) -> Float[Array, "..."]:
    """x_{l+1} = body(x_l, blocks_l) for all l; returns the last. Differentiable in reverse mode only.

    What `jax.vjp` of the body keeps beside the block's parameters is kept of every block, so `jax.checkpoint` around
    the body is how to keep less. The body must not close over arrays that are differentiated.
    """
    return _walk(body, jax.config.jax_default_matmul_precision, x, blocks)  # type: ignore[attr-defined, return-value]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _walk(body: Body, precision: Any, x: Array, blocks: Any) -> Array:
    return jax.lax.scan(lambda x, block: (body(x, block), None), x, blocks)[0]


def _forward(body: Body, precision: Any, x: Array, blocks: Any) -> tuple[Array, Kept]:
    count = jax.tree.leaves(blocks)[0].shape[0]
    shapes = jax.eval_shape(lambda x, block: _parts(body, x, block)[1], x, _at(blocks, 0))
    room = _room(shapes, count, x)

    def step(i: Array, carried: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
        x, kept = carried
        x, rest, _ = _parts(body, x, _at(blocks, i))
        return x, _put(kept, i, rest)

    x, rest = jax.lax.fori_loop(0, count, step, (x, room))
    return x, Kept(blocks, rest)


def _backward(body: Body, precision: Any, kept: Kept, grad: Array) -> tuple[Array, Any]:
    count = jax.tree.leaves(kept.blocks)[0].shape[0]
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), kept.blocks)
    room = _room(one, count, grad)

    def step(j: Array, carried: tuple[Array, Any]) -> tuple[Array, Any]:
        grad, to_blocks = carried
        i = count - 1 - j
        block = _at(kept.blocks, i)
        with jax.default_matmul_precision(precision):
            back = _rebuilt(body, grad, block, _at(kept.rest, i))
            grad, to_block = back(grad)
        return grad, _put(to_blocks, i, to_block)

    return jax.lax.fori_loop(0, count, step, (grad, room))


_walk.defvjp(_forward, _backward)


def _parts(body: Body, x: Array, block: Any) -> tuple[Array, list[Array], Callable[[list[Array], Any], Any]]:
    """What leaves the block, what its backward pass keeps beside its parameters, and how to put that together again."""
    out, back = jax.vjp(body, x, block)
    leaves, structure = jax.tree.flatten(back)
    own = {id(leaf): number for number, leaf in enumerate(jax.tree.leaves(block))}
    places = [own.get(id(leaf)) for leaf in leaves]

    def together(rest: list[Array], block: Any) -> Any:
        remaining, parameters = iter(rest), jax.tree.leaves(block)
        filled = [next(remaining) if place is None else parameters[place] for place in places]
        return jax.tree.unflatten(structure, filled)

    return out, [leaf for leaf, place in zip(leaves, places, strict=True) if place is None], together


def _rebuilt(body: Body, like: Array, block: Any, rest: list[Array]) -> Any:
    """The backward pass of one block from what was kept of it."""
    found: list[Callable[[list[Array], Any], Any]] = []

    def probe(x: Array, block: Any) -> Array:
        out, _, together = _parts(body, x, block)
        found.append(together)
        return out

    jax.eval_shape(probe, jax.ShapeDtypeStruct(like.shape, like.dtype), block)
    return found[0](rest, block)


def _at(tree: Any, i: int | Array) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), tree)


def _put(tree: Any, i: Array, one: Any) -> Any:
    return jax.tree.map(lambda every, new: jax.lax.dynamic_update_index_in_dim(every, new, i, 0), tree, one)


def _room(shapes: Any, count: int, near: Array) -> Any:
    """Arrays of `count` times these shapes, to be overwritten; each is full of another number of `near`."""
    leaves, structure = jax.tree.flatten(shapes)
    numbers = near.reshape(-1) if near.size else jnp.zeros(1)
    made = [
        jnp.broadcast_to(numbers[k % numbers.size].astype(leaf.dtype), (count, *leaf.shape))
        for k, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, made)
