"""Rows over the devices of a mesh, for code that is written as if there were one device.

A run on several devices is traced inside of a mesh with the axis `AXIS`. Outside of one every function here returns
what it was given, so the program for one device has no trace of it. Inside, XLA divides the work by itself (GSPMD) but
where it divides badly it is told how: what treats rows one by one is computed by each device for its own rows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int, Shaped

AXIS = "rows"
"""Of environments, of the environments in the replay, and of a batch."""


def devices() -> int:
    """Over how many devices rows are spread here; 1 outside of a mesh, and where each device is on its own."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[AXIS] if AXIS in mesh.auto_axes else 1


def divides(tree: Any) -> bool:
    """Whether there are several devices, and each of them can have as many rows of every array."""
    count = devices()
    return count > 1 and all(leaf.ndim > 0 and leaf.shape[0] % count == 0 for leaf in jax.tree.leaves(tree))


def split(tree: Any) -> Any:
    """The same arrays, each with its rows (the first axis) over the devices."""
    return _constrained(tree, PartitionSpec(AXIS)) if divides(tree) else tree


def whole(tree: Any) -> Any:
    """The same arrays, all of each on every device."""
    return _constrained(tree, PartitionSpec()) if devices() > 1 else tree


def _constrained(tree: Any, spec: PartitionSpec) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def by_rows(function: Callable[..., Any], *rows: Any) -> Any:
    """`function(*rows)`, which treats each row by itself; computed by every device for its own rows.

    Nothing is exchanged, not even where a loop goes on until all rows are done.
    """
    if not divides(rows):
        return function(*rows)
    return _mapped(function, PartitionSpec(AXIS), PartitionSpec(AXIS))(*rows)


def by_columns(function: Callable[..., Any], *columns: Any) -> Any:
    """The same where the second axis is that of the rows, as in the replay."""
    if not divides([leaf[0] for leaf in jax.tree.leaves(columns)]):
        return function(*columns)
    return _mapped(function, PartitionSpec(None, AXIS), PartitionSpec(None, AXIS))(*columns)


def everywhere(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function(*arrays)`, all of it on every device: for what is small, and moves rows to other places.

    Not to be differentiated.
    """
    if devices() == 1:
        return function(*arrays)
    return _mapped(function, PartitionSpec(), PartitionSpec())(*arrays)


def at(ring: Shaped[Array, "time rows *rest"], time: Int[Array, "*batch"], row: Int[Array, "..."]) -> Array:
    """ring[time, row], on every device, where each has its rows of the ring and keeps them.

    Each looks up what it has, and the finds are added up: as much is sent as is found, whatever the size of the ring.
    """
    if not divides(ring[0]):
        return ring[time, row]

    def look(ring: Array, time: Array, row: Array) -> Array:
        found, dtype = _own(ring, time, row), ring.dtype
        return jax.lax.psum(found, AXIS).astype(dtype)

    return _mapped(look, (PartitionSpec(None, AXIS), PartitionSpec(), PartitionSpec()), PartitionSpec())(
        ring, time, row
    )


def batch_at(ring: Shaped[Array, "time rows *rest"], time: Int[Array, "*batch"], row: Int[Array, "..."]) -> Array:
    """The same, of which every device is given its rows alone: half as much is sent."""
    if not divides([ring[0], time]):
        return at(ring, time, row)

    def look(ring: Array, time: Array, row: Array) -> Array:
        found, dtype = _own(ring, time, row), ring.dtype
        return jax.lax.psum_scatter(found, AXIS, tiled=True).astype(dtype)

    specs = (PartitionSpec(None, AXIS), PartitionSpec(), PartitionSpec())
    return _mapped(look, specs, PartitionSpec(AXIS))(ring, time, jnp.broadcast_to(row, time.shape))


def _own(ring: Array, time: Array, row: Array) -> Array:
    """What of it this device has, and zeros."""
    here = row - jax.lax.axis_index(AXIS) * ring.shape[1]
    mine = (here >= 0) & (here < ring.shape[1])
    found = ring[time, jnp.clip(here, 0, ring.shape[1] - 1)]
    found = found.astype(jnp.int32) if found.dtype == bool else found
    return jnp.where(mine.reshape(mine.shape + (1,) * (found.ndim - mine.ndim)), found, 0)


def through(apply: Callable[..., Any], network: Any, *rows: Any) -> Any:
    """`apply(network, *rows)` for a network that treats each row by itself, by every device for its own rows.

    Going back, each device sums up the gradients of its own rows over the whole walk, and only then they are added
    between devices: once for each array of the network. Left to itself, XLA adds those of every layer inside the loop
    over layers.
    """
    if not divides(rows) or any(leaf.ndim < 2 for leaf in jax.tree.leaves(rows)):
        return apply(network, *rows)
    specs = (PartitionSpec(), *[PartitionSpec(AXIS)] * len(rows))
    return _mapped(apply, specs, PartitionSpec(AXIS))(network, *rows)


def along(axis: int, walk: Callable[[Any, Array], tuple[Array, Any]], networks: Any, x: Array) -> tuple[Array, Any]:
    """`walk(networks, x)` with rows along that axis of `x` and of the first result, by every device for its own rows.

    The second result is for `back_along` alone: each device keeps what it made, and the whole is a pile of that.
    """
    if devices() == 1 or x.shape[axis] % devices():
        return walk(networks, x)
    rows = PartitionSpec(*[None] * axis, AXIS)
    return _mapped(walk, (PartitionSpec(), rows), (rows, PartitionSpec(AXIS)))(networks, x)


def back_along(
    axis: int, walk: Callable[[Any, Any, Array], tuple[Array, Any]], networks: Any, kept: Any, grad: Array
) -> tuple[Array, Any]:
    """`walk(networks, kept, grad)`, the way back of `along`: the gradient to `x`, and those to the networks.

    The latter are added between devices after the walk, if they are used.
    """
    if devices() == 1 or grad.shape[axis] % devices():
        return walk(networks, kept, grad)

    def own(networks: Any, kept: Any, grad: Array) -> tuple[Array, Any]:
        to_x, to_networks = walk(networks, kept, grad)
        return to_x, jax.lax.psum(to_networks, AXIS)

    rows = PartitionSpec(*[None] * axis, AXIS)
    specs = (PartitionSpec(), PartitionSpec(AXIS), rows)
    return _mapped(own, specs, (rows, PartitionSpec()))(networks, kept, grad)


def _mapped(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    # Not checked for what varies between devices: such a check would have every loop of a network say so of its carry,
    # and would add gradients between devices where they arise.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)
