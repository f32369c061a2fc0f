"""Contrastive losses over a square matrix of logits whose diagonal holds the positive pairs."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractLoss(eqx.Module):
    """A scalar from logits_ij = f(phi(s_i, a_i), psi(g_j)), where g_i was reached from (s_i, a_i)."""

    @abc.abstractmethod
    def __call__(self, logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
        """The loss, averaged over the batch."""


class InfoNCE(AbstractLoss):
    """mean_i(-logits_ii + logsumexp_j logits_ij): which goal was reached from this state and action?

    Source: van den Oord et al. 2018 (arXiv 1807.03748); forward only, as in Wang et al. 2025, section 2.
    """

    def __call__(self, logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
        """The loss."""
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


class InfoNCEBackward(AbstractLoss):
    """mean_j(-logits_jj + logsumexp_i logits_ij): from which state and action was this goal reached?

    Source: Bortkiewicz et al. 2024 (arXiv 2408.11052).
    """

    def __call__(self, logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
        """The loss."""
        return jnp.mean(jax.nn.logsumexp(logits, axis=0) - jnp.diagonal(logits))


class InfoNCESymmetric(AbstractLoss):
    """The mean of forward and backward InfoNCE, so that its scale is that of either.

    Source: Radford et al. 2021 (CLIP, arXiv 2103.00020), figure 3.
    """

    def __call__(self, logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
        """The loss."""
        return 0.5 * (InfoNCE()(logits) + InfoNCEBackward()(logits))


class BinaryNCE(AbstractLoss):
    """mean_ij of the cross entropy of sigmoid(logits_ij) with labels 1 on the diagonal and 0 elsewhere.

    softplus(logits_ij) - label_ij logits_ij, stable for large logits.
    Source: Eysenbach et al. 2022 (arXiv 2206.07568), equation 3.
    """

    def __call__(self, logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
        """The loss."""
        labels = jnp.eye(logits.shape[0])
        return jnp.mean(jax.nn.softplus(logits) - labels * logits)


def logsumexp_penalty(logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
    """mean_i (logsumexp_j(logits_ij + 1e-6))^2, which keeps the logits from drifting together.

    Source: Wang et al. 2025, section 2 and released code (weight 0.1); Eysenbach et al. 2021 (arXiv 2011.08909).
    """
    return jnp.mean(jax.nn.logsumexp(logits + 1e-6, axis=1) ** 2)


def categorical_accuracy(logits: Float[Array, "batch batch"]) -> Float[Array, ""]:
    """Share of rows whose largest logit is the positive one."""
    return jnp.mean(jnp.argmax(logits, axis=1) == jnp.arange(logits.shape[0]))
