"""Energies between the outputs of the two encoders: higher means the goal is nearer in time.

Each has two forms: `energy(phi, psi)` row by row, and `energy.pairwise(phi, psi)` for every pair of rows.
"""

import abc
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.settings import Meta


class AbstractEnergy(eqx.Module):
    """f(phi, psi), the logit that psi is the goal reached from phi."""

    @abc.abstractmethod
    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row: f(phi_i, psi_i)."""

    @abc.abstractmethod
    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair: logits_ij = f(phi_i, psi_j)."""


def exact(phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
    """phi psi^T in full precision: logits are differences of what is nearly equal, and they cost next to nothing."""
    return jnp.matmul(phi, psi.T, precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def squared_distances(phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
    """d_ij = sum_k (phi_ik - psi_jk)^2 from the differences themselves, so near pairs lose no digits.

    The gradient is two matrix products, 2 (diag(G 1) phi - G psi) and its mirror image, instead of the
    (rows, columns, dim) tensor that autodiff would build.
    """
    return jnp.sum((phi[:, None, :] - psi[None, :, :]) ** 2, axis=-1)


def _squared_distances_forward(phi: Array, psi: Array) -> tuple[Array, tuple[Array, Array]]:
    return squared_distances(phi, psi), (phi, psi)


def _squared_distances_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    phi, psi = saved
    # Full precision: rounding the products to TF32 would cancel against the first term.
    highest = jax.lax.Precision.HIGHEST
    to_phi = jnp.sum(grad, axis=1)[:, None] * phi - jnp.matmul(grad, psi, precision=highest)
    to_psi = jnp.sum(grad, axis=0)[:, None] * psi - jnp.matmul(grad.T, phi, precision=highest)
    return 2.0 * to_phi, 2.0 * to_psi


squared_distances.defvjp(_squared_distances_forward, _squared_distances_backward)


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt(x) for x >= 0 with gradient 0, not infinity, at x = 0."""
    # Not asked as x > 0, which would turn what is not a number into 0 and hide it from the losses.
    zero = x <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def safe_abs(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|x| with gradient 0, not 1, at x = 0."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


class L2(AbstractEnergy):
    """f = -||phi - psi||_2, with gradient 0 for identical embeddings (Wang et al. 2025, section 2, minus meant)."""

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return -safe_sqrt(jnp.sum((phi - psi) ** 2, axis=-1))

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return -safe_sqrt(squared_distances(phi, psi))


class L2Squared(AbstractEnergy):
    """f = -||phi - psi||_2^2 (Bortkiewicz et al. 2024, JaxGCRL, arXiv 2408.11052)."""

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return -jnp.sum((phi - psi) ** 2, axis=-1)

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return -squared_distances(phi, psi)


class L1(AbstractEnergy):
    """f = -||phi - psi||_1, with gradient 0 where coordinates agree (Bortkiewicz et al. 2024)."""

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return -jnp.sum(safe_abs(phi - psi), axis=-1)

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return -jnp.sum(safe_abs(phi[:, None, :] - psi[None, :, :]), axis=-1)


class Dot(AbstractEnergy):
    """f = phi . psi (Eysenbach et al. 2022, arXiv 2206.07568)."""

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return jnp.sum(phi * psi, axis=-1)

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return exact(phi, psi)


def _unit(x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """x / ||x||, and 0 for x = 0, with finite gradients there."""
    norm = safe_sqrt(jnp.sum(x * x, axis=-1, keepdims=True))
    return x / jnp.maximum(norm, 1e-6)


class Cosine(AbstractEnergy):
    """f = (phi . psi) / (||phi|| ||psi|| temperature); norms below 1e-6 count as 1e-6.

    Source: the normalized temperature-scaled similarity of Chen et al. 2020 (arXiv 2002.05709).
    """

    temperature: Annotated[float, Meta(gt=0, description="divides the cosine")] = 0.1

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return jnp.sum(_unit(phi) * _unit(psi), axis=-1) / self.temperature

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return exact(_unit(phi), _unit(psi)) / self.temperature
