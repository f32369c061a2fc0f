"""SimbaV2's network: features and weights on the unit sphere, and steps along it instead of additions.

With unit(v) = v / |v|, the networks here are

| part | |
|---|---|
| stem | x_0 = unit(scaler * (unit([input, 3]) W)) |
| block | x_{l+1} = unit(x_l + a_l * (f_l(x_l) - x_l)), f_l(x) = unit(relu(scaler_l * (x V_l)) W_l) |
| features | sqrt(width) x_L |

No biases; * is unit by unit; each column of V and W, the weights of one output, is divided by its length; V_l widens to
4 width. a begins at 1 / (blocks + 1), a scaler of the stem at sqrt(2 / width) and one of a block at half of that. So
that Adam, whose steps have one size, moves them at about the pace of the weights, what is learned of a is a multiple of
it that begins at 1 / sqrt(width). Source: Lee et al. 2025, SimbaV2 (arXiv 2502.15280), sections 4.1 to 4.3.

What differs from SimbaV2:

- It puts the weights back onto the sphere after each step of the optimizer. Here they are divided by their lengths
  where they are used, so no agent has to know. The gradient to a column is then perpendicular to it, so steps lengthen
  it, and turn it the less the longer it is. If each step of Adam at rate r were perpendicular too and of full size, it
  would add r^2 fan-in to the squared length, and steps would turn columns half as far after 3 / (r^2 fan-in) of them:
  130,000 at 3e-4 and width 256.
- Columns begin uniformly on the sphere; SimbaV2 begins at a random orthogonal matrix.
- Features are multiplied with sqrt(width), so that the plain linear heads of this library get entries of the size that
  every other trunk gives them. SimbaV2 has heads of two layers of its own.
- Observations are not divided by running statistics, and values are not a distribution: that is the agent's business.
"""

import math
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractStreamBlock, AbstractTrunk, Remat
from eqcrl.nn.precision import matmul
from eqcrl.nn.resnet import RematChoice, ResNet, Width
from eqcrl.nn.stacked import Stacked, saved_floats_per_row, stack
from eqcrl.settings import Meta
from eqcrl.types import Key

EXPANSION = 4
"""Hidden units of a block for each unit of the stream."""
INPUT_SHIFT = 3.0
"""Appended to the input, so that its length survives being divided by it."""
TINY = 1e-12
"""Added to squared lengths: a vector of zeros stays one, with a finite gradient."""


def unit(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """x / |x| over the last axis."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + TINY)


def over_lengths(weight: Float[Array, "input output"]) -> Float[Array, "output"]:
    """1 / |column|. The product is divided instead of the weights: rows of outputs are what is at hand anyway."""
    return jax.lax.rsqrt(jnp.sum(weight * weight, axis=0) + TINY)


def on_the_sphere(key: Key, input_size: int, output_size: int) -> Float[Array, "input output"]:
    """Columns of length 1, uniform over directions."""
    return unit(jax.random.normal(key, (output_size, input_size))).T


class Hyperspherical(AbstractStreamBlock):
    """SimbaV2's block: unit(x + a * (f(x) - x)), f(x) = unit(relu(scaler * (x V)) W), on the unit sphere.

    Two Dense layers, width -> 4 width -> width, without biases. The whole network and what differs from the paper's:
    `eqcrl.nn.hyperspherical`. Source: Lee et al. 2025 (arXiv 2502.15280), section 4.2.
    """

    inner: Float[Array, "width hidden"]
    outer: Float[Array, "hidden width"]
    scaler: Float[Array, "hidden"]
    step: Float[Array, "width"]
    blocks: int = eqx.field(static=True)

    def __init__(self, width: int, blocks: int = 1, *, key: Key):
        inner_key, outer_key = jax.random.split(key)
        self.inner = on_the_sphere(inner_key, width, EXPANSION * width)
        self.outer = on_the_sphere(outer_key, EXPANSION * width, width)
        self.scaler = jnp.full(EXPANSION * width, math.sqrt(2.0 / width) / math.sqrt(EXPANSION))
        self.step = jnp.full(width, 1.0 / math.sqrt(width))
        self.blocks = blocks

    @staticmethod
    def dense_layers() -> int:
        """Two."""
        return 2

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The next point on the sphere."""
        # relu and unit let positive factors of all units together pass, so the scaler acts by its direction alone.
        hidden = jax.nn.relu(matmul(x, self.inner) * (self.scaler * over_lengths(self.inner)))
        target = unit(matmul(hidden, self.outer) * over_lengths(self.outer))
        step = self.step * (math.sqrt(x.shape[-1]) / (self.blocks + 1))
        return unit(x + step * (target - x))

    @classmethod
    def trunk(
        cls, input_size: int, width: int, count: int, scale: float, remat: Remat, *, key: Key
    ) -> "HypersphericalTrunk":
        """The network of this module's table; `scale` has no meaning, since nothing is added."""
        stem_key, blocks_key = jax.random.split(key)
        blocks = stack(lambda k: cls(width, count, key=k), count, remat, key=blocks_key)
        return HypersphericalTrunk(HypersphericalStem(input_size, width, key=stem_key), blocks)

    @classmethod
    def saved_floats_per_row(cls, width: int, count: int, remat: Remat) -> int:
        """Those of the blocks, and about three rows of the stem."""
        return saved_floats_per_row(lambda k: cls(width, count, key=k), count, width, remat) + 3 * width


class HypersphericalStem(eqx.Module):
    """unit(scaler * (unit([x, 3]) W)): any input as a point on the sphere."""

    weight: Float[Array, "shifted width"]
    scaler: Float[Array, "width"]

    def __init__(self, input_size: int, width: int, *, key: Key):
        self.weight = on_the_sphere(key, input_size + 1, width)
        self.scaler = jnp.full(width, math.sqrt(2.0 / width))

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Apply to the last axis."""
        shifted = jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), INPUT_SHIFT, x.dtype)], axis=-1)
        return unit(matmul(unit(shifted), self.weight) * (self.scaler * over_lengths(self.weight)))


class HypersphericalTrunk(AbstractTrunk):
    """The stem, the blocks, and points on the sphere as features of size one."""

    stem: HypersphericalStem
    blocks: Stacked

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        """Features of the last axis."""
        features = self.blocks(self.stem(x))
        return math.sqrt(features.shape[-1]) * features


def hyperspherical(
    depth: Annotated[
        int, Meta(ge=2, description="Dense layers inside the blocks, two each", extra={"unit": "layers"})
    ] = 8,
    width: Width = 256,
    remat: RematChoice = "auto",
) -> ResNet:
    """SimbaV2's network: features and weights on the unit sphere, and steps along it instead of additions.

    The same as `resnet` with `block = "hyperspherical"`, without the settings that have no meaning for it. A block has
    two Dense layers of width x 4 width each: eight layers of the plain network in parameters, two in depth. Source: Lee
    et al. 2025 (arXiv 2502.15280); what differs is told in `eqcrl.nn.hyperspherical`.
    Raises: ConfigError for an odd depth.
    """
    return ResNet(depth, width, "hyperspherical", remat=remat)
