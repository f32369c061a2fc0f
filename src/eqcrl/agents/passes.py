"""The gradients of a contrastive actor and critic in eight walks through the networks instead of nine.

Both losses look at the same critic, that of before, and at the same goals. So psi of the goals is walked forward once
for both, and backward once for the loss that trains it. In order: actor and psi forward; phi of the policy's actions
forward and backward, without gradients of its weights; actor backward; phi of the batch's actions forward; phi and psi
backward.

That phi goes twice over B rows, and not once over 2B, is on purpose. The wider walk reads the weights once less, but
its activations leave the caches, which costs more; and fewer activations are kept at a time.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.actor import TanhGaussianActor, sample
from eqcrl.nn.encoders import Critic, Encoder
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


def after(first: Float[Array, "..."], then: Float[Array, "..."]) -> Float[Array, "..."]:
    """`then`, which XLA has only once it has `first`: on a CPU it forgets barriers before it decides about copies.

    Not a number if `first` is not finite, in which case the update has failed anyway.
    """
    return then + 0.0 * first.reshape(-1)[0]


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
    (action, log_prob), actor_back = jax.vjp(
        lambda net: sample(*net(batch.observation, goals_of_actor(batch.goal)), key=key), actor
    )
    psi, psi_back = jax.vjp(lambda net: net(batch.goal), critic.goal)

    def phi_of(net: Encoder, action: Array) -> Array:
        return net(jnp.concatenate([batch.observation, action], axis=-1))

    policy_phi, to_actions = jax.vjp(lambda action: phi_of(critic.state_action, action), action)
    actor_loss, (to_log_prob, to_policy_phi) = jax.value_and_grad(climb, argnums=(0, 1))(
        log_prob, policy_phi, goals_of_actor(psi)
    )
    (to_action,) = to_actions(to_policy_phi)
    (actor_gradient,) = actor_back((to_action, to_log_prob))
    # The critic's own walk waits until nobody needs the critic of before: else XLA keeps a copy of it for the walk
    # above, because the step of the optimizer writes the new one in its place.
    waiting = after(to_action, batch.action)
    phi, phi_back = jax.vjp(lambda net: phi_of(net, waiting), critic.state_action)
    (critic_loss, logits), (to_phi, to_psi) = jax.value_and_grad(contrast, argnums=(0, 1), has_aux=True)(phi, psi)
    (phi_gradient,) = phi_back(to_phi)
    (psi_gradient,) = psi_back(to_psi)
    critic_gradient = eqx.tree_at(lambda c: (c.state_action, c.goal), critic, (phi_gradient, psi_gradient))
    return Gradients(actor_gradient, critic_gradient, actor_loss, critic_loss, log_prob, logits)
