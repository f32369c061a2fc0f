"""Two GPU kernels that walk through all residual blocks at once: forward, and backward to the input.

Rows do not meet in a Dense layer or a LayerNorm, so one thread block keeps 64 rows of the batch through the whole
depth. Of its up to four warpgroups each owns 64 columns: it multiplies the rows' operand, which all share in bfloat16,
with its columns of the weights on the tensor cores, and holds the residual stream of its columns in registers, in
float32. Three times a layer all warpgroups meet: when the operand is written, when all have multiplied with it, and to
add up the statistics of the norm (backward: the two means of its gradient).

One layer's weights are in shared memory. As soon as all have multiplied with them each warpgroup asks for its slice of
the next layer's, which arrive while norm and activation are worked out. No warpgroup is kept for that alone, which
leaves the four 128 registers a thread. The 96 to 112 that five would have do not suffice.

`interpret` runs the same code on a CPU, with the barriers of a GPU. It looks for races between reads and writes of the
code, not for those with the asynchronous reads of tensor cores and of stores to global memory. The interpreter blocks a
thread of XLA's pool for every warpgroup and waits for ever if there are too few (environment variable NPROC).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, BFloat16, Float

from eqcrl.nn.layers import EPS

TILE = 64
"""Rows of a thread block and columns of a warpgroup: what one tensor core instruction takes."""
WARPGROUPS = 4
"""At most: more have too few registers."""

_SWIZZLED = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))
_BY_ROW = plgpu.Layout.WGMMA.reduce(1)
_BY_COLUMN = plgpu.Layout.WGMMA.reduce(0)

Read = Callable[..., Array]


def _reader(interpret: bool) -> Read:
    """Reads `ref[index]` into registers laid out as said; the interpreter has no registers and no layouts.

    `tiled` says that it lies in shared memory in tiles, and must be read without bank conflicts.
    """
    if interpret:
        return lambda ref, index, layout, tiled=False: ref[index]
    return lambda ref, index, layout, tiled=False: plgpu.load(ref, index, layout=layout, optimized=tiled)


def _interpreter() -> Any:
    # Not public in JAX yet, and needed on machines without a GPU alone.
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams(detect_races=True)


def _of_rows(values: Array) -> Array:
    return lax.broadcast_in_dim(values, (TILE, TILE), (0,))


def _of_columns(values: Array) -> Array:
    return lax.broadcast_in_dim(values, (TILE, TILE), (1,))


def _meet(barrier: Any) -> None:
    plgpu.barrier_arrive(barrier)
    plgpu.barrier_wait(barrier)


@dataclass(frozen=True)
class _Weights:
    """One layer's weights and vectors in shared memory, replaced by the next layer's slice by slice."""

    weight: Any
    vectors: Any
    """Both in global memory: (layers, slices, TILE, width) and (layers, kinds, slices, TILE)."""
    slots: Any
    full: Any
    free: Any
    vector_slots: Any
    vectors_full: Any
    warpgroup: Any
    slices: int

    def start(self, index: Any) -> None:
        """Ask for the own slice of a layer's weights; the first warpgroup also for its vectors."""
        plgpu.copy_gmem_to_smem(
            self.weight.at[index, self.warpgroup], self.slots.at[self.warpgroup], self.full.at[self.warpgroup]
        )
        pl.when(self.warpgroup == 0)(lambda: self._fetch_vectors(index))

    def vectors_of(self, index: Any) -> Any:
        """Wait for the layer's vectors; returns their place."""
        place = lax.rem(index, 2)
        plgpu.barrier_wait(self.vectors_full.at[place])
        return place

    def product(self, operand: Any, following: Any, more: Any) -> Array:
        """operand W for the warpgroup's columns; asks for the weights of layer `following` if there are `more`."""

        def multiply(acc: Any) -> Array:
            columns = pl.ds(self.warpgroup * TILE, TILE)
            for c in range(self.slices):
                plgpu.barrier_wait(self.full.at[c])
                plgpu.wgmma(acc, operand.at[c], self.slots.at[c, :, columns])
            plgpu.wgmma_wait(0)
            _meet(self.free)
            pl.when(more)(lambda: self.start(following))
            return acc[...]

        return pl.run_scoped(multiply, plgpu.WGMMAAccumulatorRef((TILE, TILE), jnp.float32))

    def _fetch_vectors(self, index: Any) -> None:
        # Two places in turn: those of the layer before are still read while this layer's arrive.
        place = lax.rem(index, 2)
        plgpu.copy_gmem_to_smem(self.vectors.at[index], self.vector_slots.at[place], self.vectors_full.at[place])


def _kernel(
    body: Callable[..., None], out_type: Any, *, width: int, vectors: int, grid: tuple[int, int],
    interpret: bool,
) -> Callable[..., Any]:  # fmt: skip
    slices = width // TILE
    tile = plgpu.SMEM((slices, TILE, TILE), jnp.bfloat16, transforms=_SWIZZLED)
    return plgpu.kernel(
        body,
        out_type=out_type,
        scratch_types=(
            plgpu.SMEM((slices, TILE, width), jnp.bfloat16, transforms=_SWIZZLED),
            plgpu.SMEM((2, vectors, slices, TILE), jnp.float32),
            plgpu.SMEM((slices, 2, TILE), jnp.float32),
            plgpu.Barrier(num_barriers=slices),
            plgpu.Barrier(num_arrivals=slices),
            plgpu.Barrier(num_barriers=2),
            plgpu.Barrier(num_barriers=slices),
            plgpu.Barrier(num_arrivals=slices),
            plgpu.Barrier(num_arrivals=slices),
            tile,
            tile,
        ),
        grid=grid,
        grid_names=("net", "tile"),
        num_threads=slices,
        thread_name="warpgroup",
        # No reduction crosses warps, so none needs room for that.
        compiler_params=plgpu.CompilerParams(approx_math=True, reduction_scratch_bytes=0),
        interpret=_interpreter() if interpret else None,
    )


def tiled(x: Float[Array, "nets rows width"]) -> Float[Array, "nets tiles slices 64 64"]:
    """The squares that the warpgroups own."""
    nets, rows, width = x.shape
    return x.reshape(nets, rows // TILE, TILE, width // TILE, TILE).transpose(0, 1, 3, 2, 4)


def untiled(x: Float[Array, "nets tiles slices 64 64"]) -> Float[Array, "nets rows width"]:
    """The inverse of `tiled`."""
    nets, tiles, slices = x.shape[:3]
    return x.transpose(0, 1, 3, 2, 4).reshape(nets, tiles * TILE, slices * TILE)


def forward_walk(
    weight: BFloat16[Array, "nets layers width width"],
    vectors: Float[Array, "nets layers 3 width"],
    x: Float[Array, "nets rows width"],
    *,
    scale: float,
    per_block: int,
    interpret: bool,
) -> tuple[
    Float[Array, "nets rows width"],
    BFloat16[Array, "nets layers rows width"],
    BFloat16[Array, "nets layers rows width"],
    Float[Array, "nets layers tiles 64"],
]:
    """x_{l+1} = x_l + scale * branch_l(x_l); rows a multiple of TILE; `vectors` are bias, gain and shift.

    Returns the last x, and for every layer the operand of its product, the normalized product, and by row the inverse
    of the deviation.
    """
    nets, layers, width, _ = weight.shape
    rows, slices, read = x.shape[1], width // TILE, _reader(interpret)
    kept = jax.ShapeDtypeStruct((nets, layers, rows, width), jnp.bfloat16)

    def body(
        weight_ref: Any, vectors_ref: Any, x_ref: Any, out_ref: Any, inputs_ref: Any, normals_ref: Any,
        inverse_ref: Any, slots: Any, vector_slots: Any, exchange: Any, full: Any, free: Any, vectors_full: Any,
        _: Any, ready: Any, counted: Any, operand: Any, staging: Any,
    ) -> None:  # fmt: skip
        net, tile, own = lax.axis_index("net"), lax.axis_index("tile"), lax.axis_index("warpgroup")
        corner = (pl.ds(tile * TILE, TILE), pl.ds(own * TILE, TILE))
        weights = _Weights(
            weight_ref.at[net], vectors_ref.at[net], slots, full, free, vector_slots, vectors_full, own, slices
        )

        def layer(index: Any, h: Array) -> Array:
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)
            operand[own] = h.astype(jnp.bfloat16)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(operand.at[own], inputs_ref.at[net, index, *corner])
            _meet(ready)
            z = weights.product(operand, index + 1, index + 1 < layers)
            place = weights.vectors_of(index)
            z = z + _of_columns(read(vector_slots, (place, 0, own), _BY_COLUMN))

            # Sums and squares around the mean of the own columns, then of all (Chan et al. 1979).
            total = jnp.sum(z, axis=1)
            off = z - _of_rows(total * (1.0 / TILE))
            exchange[own, 0] = total
            exchange[own, 1] = jnp.sum(off * off, axis=1)
            _meet(counted)
            totals = [read(exchange, (i, 0), _BY_ROW) for i in range(slices)]
            mean = sum(totals[1:], totals[0]) * (1.0 / width)
            squares = jnp.zeros_like(mean)
            for i in range(slices):
                apart = totals[i] * (1.0 / TILE) - mean
                squares = squares + read(exchange, (i, 1), _BY_ROW) + apart * apart * float(TILE)
            inverse = lax.rsqrt(squares * (1.0 / width) + EPS)
            normal = z * _of_rows(inverse) - _of_rows(mean * inverse)

            staging[own] = normal.astype(jnp.bfloat16)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(staging.at[own], normals_ref.at[net, index, *corner])

            @pl.when(own == 0)
            def _keep() -> None:
                inverse_ref[net, index, tile] = inverse

            before = normal * _of_columns(read(vector_slots, (place, 1, own), _BY_COLUMN))
            before = before + _of_columns(read(vector_slots, (place, 2, own), _BY_COLUMN))
            half = 0.5 * before
            return half * jnp.tanh(half) + half  # swish

        def block(b: Any, x: Array) -> Array:
            # A loop, not four copies: those would not fit into the registers.
            def step(k: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
                x, h = carry
                h = layer(b * per_block + k, h)
                last = k == per_block - 1
                x = x + jnp.where(last, scale, 0.0) * h
                return x, jnp.where(last, x, h)

            return lax.fori_loop(0, per_block, step, (x, x))[0]

        weights.start(0)
        x = read(x_ref, (net, tile, own), plgpu.Layout.WGMMA)
        out_ref[net, tile, own] = lax.fori_loop(0, layers // per_block, block, x)
        plgpu.wait_smem_to_gmem(0)

    run = _kernel(
        body,
        (
            jax.ShapeDtypeStruct((nets, rows // TILE, slices, TILE, TILE), jnp.float32),
            kept,
            kept,
            jax.ShapeDtypeStruct((nets, layers, rows // TILE, TILE), jnp.float32),
        ),
        width=width, vectors=3, grid=(nets, rows // TILE), interpret=interpret,
    )  # fmt: skip
    out, inputs, normals, inverse = run(_sliced(weight), _by_slice(vectors), tiled(x))
    return untiled(out), inputs, normals, inverse


def backward_walk(
    transposed: BFloat16[Array, "nets layers width width"],
    vectors: Float[Array, "nets layers 2 width"],
    normals: BFloat16[Array, "nets layers rows width"],
    inverse: Float[Array, "nets layers tiles 64"],
    grad: Float[Array, "nets rows width"],
    *,
    scale: float,
    per_block: int,
    interpret: bool,
) -> tuple[
    Float[Array, "nets rows width"],
    BFloat16[Array, "nets layers rows width"],
    BFloat16[Array, "nets layers rows width"],
]:
    """From the gradient to the last x those to the first, to all products and to all inputs of the activation.

    `transposed` are the weights with outputs first, `vectors` gain and shift; the rest is what `forward_walk` kept.
    """
    nets, layers, width, _ = transposed.shape
    rows, slices, read = grad.shape[1], width // TILE, _reader(interpret)
    found = jax.ShapeDtypeStruct((nets, layers, rows, width), jnp.bfloat16)

    def body(
        weight_ref: Any, vectors_ref: Any, normals_ref: Any, inverse_ref: Any, grad_ref: Any, out_ref: Any,
        products_ref: Any, befores_ref: Any, slots: Any, vector_slots: Any, exchange: Any, full: Any, free: Any,
        vectors_full: Any, normals_full: Any, ready: Any, counted: Any, operand: Any, staging: Any,
    ) -> None:  # fmt: skip
        net, tile, own = lax.axis_index("net"), lax.axis_index("tile"), lax.axis_index("warpgroup")
        corner = (pl.ds(tile * TILE, TILE), pl.ds(own * TILE, TILE))
        weights = _Weights(
            weight_ref.at[net], vectors_ref.at[net], slots, full, free, vector_slots, vectors_full, own, slices
        )

        def fetch_normals(index: Any) -> None:
            plgpu.copy_gmem_to_smem(normals_ref.at[net, index, *corner], staging.at[own], normals_full.at[own])

        def gain(place: Any) -> Array:
            return _of_columns(read(vector_slots, (place, 0, own), _BY_COLUMN))

        def total(kind: int) -> Array:
            first, *others = [read(exchange, (i, kind), _BY_ROW) for i in range(slices)]
            return sum(others, first)

        def layer(index: Any, to_h: Array) -> Array:
            place = weights.vectors_of(index)
            plgpu.barrier_wait(normals_full.at[own])
            # 16 registers a thread as long as it is kept in bfloat16.
            kept = read(staging, (own,), plgpu.Layout.WGMMA, tiled=True)
            normal = kept.astype(jnp.float32)
            before = normal * gain(place) + _of_columns(read(vector_slots, (place, 1, own), _BY_COLUMN))
            half = 0.5 * before
            t = jnp.tanh(half)
            to_before = to_h * ((0.5 + 0.5 * t) + half * (0.5 - 0.5 * t * t))  # by the slope of swish
            # In place of the normals, which are in registers now.
            staging[own] = to_before.astype(jnp.bfloat16)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(staging.at[own], befores_ref.at[net, index, *corner])
            # Else the float32 copy would stay in registers too.
            kept, to_before = lax.optimization_barrier((kept, to_before))
            to_normal = to_before * gain(place)
            exchange[own, 0] = jnp.sum(to_normal, axis=1)
            exchange[own, 1] = jnp.sum(to_normal * kept.astype(jnp.float32), axis=1)
            _meet(counted)
            mean, along = total(0) * (1.0 / width), total(1) * (1.0 / width)
            # Worked out again from shared memory: across the meeting there is no room for it in registers.
            to_normal = read(staging, (own,), plgpu.Layout.WGMMA, tiled=True).astype(jnp.float32) * gain(place)
            to_product = to_normal - _of_rows(mean) - kept.astype(jnp.float32) * _of_rows(along)
            to_product = to_product * _of_rows(read(inverse_ref, (net, index, tile), _BY_ROW))
            # Both stores have read their shared memory, so what comes next may overwrite it.
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)
            pl.when(index > 0)(lambda: fetch_normals(index - 1))
            operand[own] = to_product.astype(jnp.bfloat16)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(operand.at[own], products_ref.at[net, index, *corner])
            _meet(ready)
            return weights.product(operand, index - 1, index > 0)

        def block(i: Any, to_h: Array) -> Array:
            def step(j: Any, to_h: Array) -> Array:
                return layer(layers - 1 - i * per_block - j, to_h)

            to_input = lax.fori_loop(0, per_block, step, to_h)
            # The gradient of the stream, wanted once a block, waits in global memory: registers are short.
            grad = read(out_ref, (net, tile, own), plgpu.Layout.WGMMA) + to_input
            out_ref[net, tile, own] = grad
            return scale * grad

        weights.start(layers - 1)
        fetch_normals(layers - 1)
        grad = read(grad_ref, (net, tile, own), plgpu.Layout.WGMMA)
        out_ref[net, tile, own] = grad
        lax.fori_loop(0, layers // per_block, block, scale * grad)
        plgpu.wait_smem_to_gmem(0)

    run = _kernel(
        body,
        (jax.ShapeDtypeStruct((nets, rows // TILE, slices, TILE, TILE), jnp.float32), found, found),
        width=width, vectors=2, grid=(nets, rows // TILE), interpret=interpret,
    )  # fmt: skip
    to_x, to_products, to_befores = run(_sliced(transposed), _by_slice(vectors), normals, inverse, tiled(grad))
    return untiled(to_x), to_products, to_befores


def _sliced(weight: Array) -> Array:
    nets, layers, width, _ = weight.shape
    return weight.reshape(nets, layers, width // TILE, TILE, width)


def _by_slice(vectors: Array) -> Array:
    return vectors.reshape(*vectors.shape[:3], -1, TILE)
