"""The gradients of a contrastive actor and critic in four walks through the networks instead of nine.

Both losses look at the same critic, that of before, and at the same goals. So they are independent of each other, and:

| walk | rows of a batch of B | what plain autodiff does instead |
|---|---|---|
| actor forward, psi forward | B each | psi once for each loss |
| phi forward | 2B: the actions of the batch and those of the policy | B rows for each loss |
| phi backward, psi backward | 2B and B; weight gradients of the critic's half alone | B rows for each loss |
| actor backward | B | the same |
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.actor import TanhGaussianActor, sample
from eqcrl.nn.encoders import Critic, Encoder
from eqcrl.nn.frozen import shared_walk
from eqcrl.types import Batch, Key

Rows = Float[Array, "batch dim"]
Contrast = Callable[[Rows, Rows], tuple[Float[Array, ""], Float[Array, "batch batch"]]]
Climb = Callable[[Float[Array, "batch"], Rows, Rows], Float[Array, ""]]


GoalsOfActor = Callable[[Array], Array]


class Gradients(eqx.Module):
    """The gradient of each loss to the network that it trains, and what is logged of the way there."""

    actor: TanhGaussianActor
    critic: Critic
    actor_loss: Float[Array, ""]
    critic_loss: Float[Array, ""]
    log_prob: Float[Array, "batch"]
    logits: Float[Array, "batch batch"]


def merged_gradients(
    actor: TanhGaussianActor,
    critic: Critic,
    batch: Batch,
    goals_of_actor: GoalsOfActor,
    contrast: Contrast,
    climb: Climb,
    *,
    key: Key,
) -> Gradients:
    """The gradients of contrast(phi, psi)[0] to the critic and of climb(log_prob, phi, psi) to the actor.

    `goals_of_actor` picks rows of the batch, and so works on their representations as well.
    """
    rows = batch.goal.shape[0]
    (action, log_prob), actor_back = jax.vjp(
        lambda net: sample(*net(batch.observation, goals_of_actor(batch.goal)), key=key), actor
    )
    psi, psi_back = jax.vjp(lambda net: net(batch.goal), critic.goal)

    def phi_of_both(net: Encoder, action: Array) -> Array:
        pairs = [jnp.concatenate([batch.observation, a], axis=-1) for a in (batch.action, action)]
        return shared_walk(net, *pairs)

    phi, phi_back = jax.vjp(phi_of_both, critic.state_action, action)
    (critic_loss, logits), (to_phi, to_psi) = jax.value_and_grad(contrast, argnums=(0, 1), has_aux=True)(
        phi[:rows], psi
    )
    actor_loss, (to_log_prob, to_policy_phi) = jax.value_and_grad(climb, argnums=(0, 1))(
        log_prob, phi[rows:], goals_of_actor(psi)
    )
    phi_gradient, to_action = phi_back(jnp.concatenate([to_phi, to_policy_phi]))
    (psi_gradient,) = psi_back(to_psi)
    (actor_gradient,) = actor_back((to_action, to_log_prob))
    critic_gradient = eqx.tree_at(lambda c: (c.state_action, c.goal), critic, (phi_gradient, psi_gradient))
    return Gradients(actor_gradient, critic_gradient, actor_loss, critic_loss, log_prob, logits)
