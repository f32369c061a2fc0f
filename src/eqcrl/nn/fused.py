"""The blocks of one or several networks in two kernel launches, whatever their depth: one forward, one backward.

Same math as `eqcrl.nn.abreast` and the same two functions. The kernels multiply in bfloat16 and add in float32; stream
and norms are float32. The gradients of the parameters do not belong to the walk: what they need is written on the way,
and they are one batched product and three sums over all layers afterwards.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Float

from eqcrl.nn.blocks import DenseNormSwish
from eqcrl.nn.fused_kernels import TILE, WARPGROUPS, backward_walk, forward_walk


class Kept(NamedTuple):
    """What the backward pass needs; rows are padded to whole tiles."""

    inputs: BFloat16[Array, "nets layers rows width"]
    """Operands of the products."""
    normals: BFloat16[Array, "nets layers rows width"]
    """Outputs of the norms before gain and shift."""
    inverses: Float[Array, "nets layers tiles 64"]
    """1 / sqrt(var + eps) of the norms."""


def unsupported(width: int, rows: int, layers: int) -> str | None:
    """Why there are no kernels for these sizes, or None if there are. Any number of rows is padded to tiles of 64."""
    widths = [TILE * count for count in range(1, WARPGROUPS + 1)]
    if width not in widths:
        return f"the fused kernels exist for width {', '.join(map(str, widths[:-1]))} and {widths[-1]}, not {width}"
    if rows < 1:
        return f"the fused kernels need at least one row, not {rows}"
    if layers < 1:
        return f"the fused kernels need at least one layer, not {layers}"
    return None


def unsupported_device(device: Any) -> str | None:
    """Why the kernels do not run on this device, or None if they do: they use what only Hopper GPUs have (9.0)."""
    capability = getattr(device, "compute_capability", None)
    if device.platform != "gpu" or capability is None:
        return f"the fused kernels run on Hopper GPUs (H100, H200, GH200), not on {device.device_kind}"
    if str(capability) != "9.0":
        return f"the fused kernels run on compute capability 9.0 (Hopper), and {device.device_kind} has {capability}"
    return None


def forward(
    branches: list[DenseNormSwish], scale: float, x: Float[Array, "nets rows width"], *, interpret: bool = False
) -> tuple[Float[Array, "nets rows width"], Kept]:
    """x_{l+1} = x_l + scale * branch_l(x_l) in every net.

    Raises: ValueError for a size that `unsupported` gives a reason for.
    """
    blocks, per_block, width, _ = branches[0].weight.shape
    rows = x.shape[1]
    if reason := unsupported(width, rows, blocks * per_block):
        raise ValueError(reason)
    vectors = jnp.stack([jnp.stack([b.bias, b.scale, b.shift], axis=2) for b in branches])
    out, *kept = forward_walk(
        _weights(branches),
        vectors.reshape(len(branches), -1, 3, width),
        _padded(x),
        scale=scale,
        per_block=per_block,
        interpret=interpret,
    )
    return out[:, :rows], Kept(*kept)


def backward(
    branches: list[DenseNormSwish],
    scale: float,
    kept: Kept,
    grad: Float[Array, "nets rows width"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "nets rows width"], list[DenseNormSwish]]:
    """From the gradient to the output those to the input and to the parameters. XLA drops the latter if not used."""
    per_block, width = branches[0].weight.shape[1:3]
    rows = grad.shape[1]
    vectors = jnp.stack([jnp.stack([b.scale, b.shift], axis=2) for b in branches])
    to_x, to_products, to_befores = backward_walk(
        jnp.swapaxes(_weights(branches), -1, -2),
        vectors.reshape(len(branches), -1, 2, width),
        kept.normals,
        kept.inverses,
        _padded(grad),
        scale=scale,
        per_block=per_block,
        interpret=interpret,
    )
    # Rows of the padding have no gradient, so they add nothing.
    to_weight = jnp.einsum("nlri,nlro->nlio", kept.inputs, to_products, preferred_element_type=jnp.float32)
    wide = to_befores.astype(jnp.float32)
    sums = (to_products.astype(jnp.float32), wide * kept.normals.astype(jnp.float32), wide)
    to_vectors = [jnp.sum(term, axis=2) for term in sums]

    def of_net(i: int, branch: DenseNormSwish) -> DenseNormSwish:
        leaves = [
            term[i].reshape(of.shape)
            for term, of in zip(
                [to_weight, *to_vectors], [branch.weight, branch.bias, branch.scale, branch.shift], strict=True
            )
        ]
        return eqx.tree_at(lambda b: (b.weight, b.bias, b.scale, b.shift), branch, leaves)

    return to_x[:, :rows], [of_net(i, branch) for i, branch in enumerate(branches)]


def fused_blocks(
    branches: DenseNormSwish, scale: float, x: Float[Array, "rows width"], *, interpret: bool = False
) -> Float[Array, "rows width"]:
    """x_{l+1} = x_l + scale * branch_l(x_l) for a stack of branches, with a backward pass of its own.

    Gradients are those of `Stacked` to the rounding of bfloat16. `interpret` runs the kernels on a CPU, slowly.
    Raises: ValueError for a size that `unsupported` gives a reason for.
    """
    return _fused(scale, interpret, branches, x)  # type: ignore[return-value]  (custom_vjp hides it)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused(scale: float, interpret: bool, branches: DenseNormSwish, x: Array) -> Array:
    return _fused_forward(scale, interpret, branches, x)[0]


def _fused_forward(scale: float, interpret: bool, branches: DenseNormSwish, x: Array) -> tuple[Array, Any]:
    out, kept = forward([branches], scale, x[None], interpret=interpret)
    return out[0], (branches, kept)


def _fused_backward(scale: float, interpret: bool, saved: Any, grad: Array) -> tuple[DenseNormSwish, Array]:
    branches, kept = saved
    to_x, (to_branches,) = backward([branches], scale, kept, grad[None], interpret=interpret)
    return to_branches, to_x[0]


_fused.defvjp(_fused_forward, _fused_backward)


def _weights(branches: list[DenseNormSwish]) -> BFloat16[Array, "nets layers width width"]:
    """Of all nets, layer after layer."""
    return jnp.stack([b.weight.astype(jnp.bfloat16).reshape(-1, *b.weight.shape[2:]) for b in branches])


def _padded(x: Float[Array, "nets rows width"]) -> Float[Array, "nets padded width"]:
    """Rows of zeros up to a whole number of tiles."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % TILE), (0, 0)))
