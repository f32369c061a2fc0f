"""All residual blocks at once, in sweeps, instead of one after the other.

x_l = x_0 + sum_{i<l} f_i(x_i) is a fixed point of the inputs of all blocks together. A sweep applies every branch to
the inputs it has so far and sums up (Picard's iteration): after k sweeps the first k inputs are exact, and the others
are nearly so, because residual branches change a stream little. The backward pass has the same form and is linear,
a_l = g + sum_{j>=l} J_j^T a_{j+1}. Sequential layers become a few batched products.

How much the last sweep changed the stream is the check: both directions sweep until that is below a tolerance, and
where it is not after so many sweeps, the exact scan over blocks is done instead.

Work and memory are those of the walk times the number of sweeps: on a CPU this is slower at any depth. Source: the
iteration is Picard's; for residual networks as differential equations, Chen et al. 2018 (arXiv 1806.07366).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqcrl.nn.base import AbstractLayer, AbstractStack
from eqcrl.nn.blocks import Residual
from eqcrl.nn.precision import Precision, in_force
from eqcrl.nn.stacked import Stacked

TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "tf32": 3e-4, "bf16": 3e-3}
"""Of the change by the last sweep, relative to what differs between rows: somewhat more than the rounding of products
changes from sweep to sweep, which never ends."""
MOST = 24
"""Sweeps in one direction before the scan is done instead."""


class Solved(NamedTuple):
    """What the sweeps arrived at."""

    out: Float[Array, "rows width"]
    inputs: Float[Array, "blocks rows width"]
    sweeps: Int[Array, ""]
    change: Float[Array, ""]
    """By the last sweep."""


def contribution(block: Residual, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """What a block adds to the stream."""
    return block.scale * block.branch(x)


def _all(blocks: Residual, inputs: Float[Array, "blocks rows width"]) -> Float[Array, "blocks rows width"]:
    return jax.vmap(contribution)(blocks, inputs)


def relative(change: Float[Array, "rows width"], stream: Float[Array, "rows width"]) -> Float[Array, ""]:
    """rms(change) over the rms of what differs between the rows of the stream."""
    # In a single row nothing differs; there the stream itself is the measure.
    differing = stream - jnp.mean(stream, axis=0) if stream.shape[0] > 1 else stream
    return jnp.sqrt(jnp.sum(change**2) / jnp.maximum(jnp.sum(differing**2), jnp.finfo(stream.dtype).tiny))


def _until(sweep: Callable[[Solved], Solved], x: Array, count: int, tolerance: float, most: int) -> Solved:
    """Sweeps from x everywhere until one changes no more than allowed, or there were enough."""
    unknown = jnp.asarray(jnp.inf, x.dtype)
    start = Solved(x, jnp.broadcast_to(x, (count, *x.shape)), jnp.zeros((), jnp.int32), unknown)
    return jax.lax.while_loop(lambda s: (s.change > tolerance) & (s.sweeps < most), sweep, start)


def forward(blocks: Residual, x: Float[Array, "rows width"], tolerance: float, most: int) -> Solved:
    """Sweeps from inputs that all are x until one changes the output by no more than `tolerance`, at most `most`."""

    def sweep(solved: Solved) -> Solved:
        added = jnp.cumsum(_all(blocks, solved.inputs), axis=0)
        out = x + added[-1]
        inputs = x + jnp.concatenate([jnp.zeros_like(added[:1]), added[:-1]])
        return Solved(out, inputs, solved.sweeps + 1, relative(out - solved.out, out))

    return _until(sweep, x, jax.tree.leaves(blocks)[0].shape[0], tolerance, most)


def one_by_one(blocks: Residual, x: Float[Array, "rows width"]) -> Solved:
    """The same by a scan, exactly."""

    def body(x: Array, block: Residual) -> tuple[Array, Array]:
        return x + contribution(block, x), x

    out, inputs = jax.lax.scan(body, x, blocks)
    return Solved(out, inputs, jnp.asarray(inputs.shape[0], jnp.int32), jnp.zeros((), x.dtype))


def backward(
    blocks: Residual, inputs: Float[Array, "blocks rows width"], grad: Float[Array, "rows width"],
    tolerance: float, most: int,
) -> Solved:  # fmt: skip
    """From the gradient to the output those to the outputs of all blocks (`inputs`) and to the input (`out`)."""
    through = jax.vjp(lambda inputs: _all(blocks, inputs), inputs)[1]

    def sweep(solved: Solved) -> Solved:
        (added,) = through(solved.inputs)
        later = jnp.cumsum(added[::-1], axis=0)[::-1]
        out = grad + later[0]
        outgoing = grad + jnp.concatenate([later[1:], jnp.zeros_like(later[:1])])
        return Solved(out, outgoing, solved.sweeps + 1, relative(out - solved.out, out))

    return _until(sweep, grad, inputs.shape[0], tolerance, most)


def back_one_by_one(
    blocks: Residual, inputs: Float[Array, "blocks rows width"], grad: Float[Array, "rows width"]
) -> Solved:
    """The same by a scan, exactly."""

    def body(grad: Array, given: tuple[Residual, Array]) -> tuple[Array, Array]:
        block, x = given
        (added,) = jax.vjp(lambda x: contribution(block, x), x)[1](grad)
        return grad + added, grad

    out, outgoing = jax.lax.scan(body, grad, (blocks, inputs), reverse=True)
    return Solved(out, outgoing, jnp.asarray(inputs.shape[0], jnp.int32), jnp.zeros((), grad.dtype))


def _checked(solved: Solved, tolerance: float, exact: Any) -> Solved:
    return jax.lax.cond(solved.change <= tolerance, lambda: solved, exact)


@jax.custom_vjp
def _swept(blocks: Residual, x: Array) -> Array:
    return _forward(blocks, x)[0]


def _forward(blocks: Residual, x: Array) -> tuple[Array, tuple[Residual, Array]]:
    tolerance = TOLERANCE[in_force()]
    solved = _checked(forward(blocks, x, tolerance, MOST), tolerance, lambda: one_by_one(blocks, x))
    return solved.out, (blocks, solved.inputs)


def _backward(saved: tuple[Residual, Array], grad: Array) -> tuple[Residual, Array]:
    blocks, inputs = saved
    tolerance = TOLERANCE[in_force()]
    solved = _checked(
        backward(blocks, inputs, grad, tolerance, MOST), tolerance, lambda: back_one_by_one(blocks, inputs, grad)
    )
    (to_blocks,) = jax.vjp(lambda blocks: _all(blocks, inputs), blocks)[1](solved.inputs)
    return to_blocks, solved.out


_swept.defvjp(_forward, _backward)


class Swept(AbstractStack):
    """A stack of residual blocks like `Stacked`, solved by sweeps; values and gradients are close to the scan's."""

    blocks: AbstractLayer
    count: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """x_{l+1} = x_l + scale branch_l(x_l) for l = 0..count-1; returns the last."""
        if self.count == 0:
            return x
        rows = x.reshape(-1, x.shape[-1])
        return _swept(self.blocks, rows).reshape(x.shape)  # type: ignore[union-attr]  (custom_vjp hides it)

    def streams(self, x: Float[Array, "*batch width"]) -> Float[Array, "streams *batch width"]:
        """x_0 to x_count, by the scan: exactly."""
        return Stacked(self.blocks, self.count, "block").streams(x)
