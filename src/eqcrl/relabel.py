"""Hindsight relabelling: which future state of the same episode becomes the goal."""

import abc
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqcrl.settings import Meta
from eqcrl.types import Key


class AbstractRelabeller(eqx.Module):
    """The law of the offset from a step to the future state that serves as its goal."""

    @abc.abstractmethod
    def offsets(self, horizon: Int[Array, "batch"], *, key: Key) -> Int[Array, "batch"]:
        """One offset in 1..horizon for each row; `horizon` >= 1 counts the future states that are at hand."""


class Geometric(AbstractRelabeller):
    """P(d) = gamma^d / sum_{k=1}^{horizon} gamma^k for d = 1..horizon, drawn by inverse CDF.

    d = ceil(log(1 - u (1 - gamma^horizon)) / log(gamma)), u uniform in [0, 1): one random number and no
    (time, time) matrix. Source: Eysenbach et al. 2022 (arXiv 2206.07568), section 3: the discounted state
    occupancy measure, here cut at the end of the episode.
    """

    gamma: Annotated[float, Meta(gt=0.0, lt=1.0, description="discount: the mean offset is 1 / (1 - gamma)")] = 0.99

    def offsets(self, horizon: Int[Array, "batch"], *, key: Key) -> Int[Array, "batch"]:
        """One offset in 1..horizon for each row."""
        return geometric_offset(jax.random.uniform(key, horizon.shape), horizon, self.gamma)


def geometric_offset(
    uniform: Float[Array, "batch"], horizon: Int[Array, "batch"], gamma: float | Float[Array, ""]
) -> Int[Array, "batch"]:
    """Inverse CDF of the truncated geometric law at `uniform` in [0, 1)."""
    log_gamma = jnp.log(gamma)
    # expm1 and log1p: 1 - gamma^horizon in fp32 loses all digits for gamma near 1.
    mass = -jnp.expm1(horizon * log_gamma)
    offset = jnp.ceil(jnp.log1p(-uniform * mass) / log_gamma).astype(jnp.int32)
    return jnp.clip(offset, 1, horizon)


class Uniform(AbstractRelabeller):
    """P(d) = 1 / horizon for d = 1..horizon: any future state of the episode (HER `future`, arXiv 1707.01495)."""

    def offsets(self, horizon: Int[Array, "batch"], *, key: Key) -> Int[Array, "batch"]:
        """One offset in 1..horizon for each row."""
        return jax.random.randint(key, horizon.shape, 1, horizon + 1)
