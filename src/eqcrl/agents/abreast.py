"""The gradients of `merged_gradients` by a schedule for accelerators: few launches instead of few operations.

| walk | networks abreast, B rows each |
|---|---|
| forward | actor, phi, psi |
| forward | phi, on the policy's actions |
| backward, to its input alone | phi, on the policy's actions |
| backward, with all their parameters | actor, phi, psi |

Two launches a layer and walk. The critic's own backward walk waits for the actor's, which costs it nothing and saves a
walk. On a CPU this is slower than `merged_gradients`, and it needs more memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from eqcrl import spread
from eqcrl.agents.passes import Climb, Contrast, GoalsOfActor, Gradients
from eqcrl.nn import abreast
from eqcrl.nn.abreast import GROUP, stems
from eqcrl.nn.actor import TanhGaussianActor, sample
from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.encoders import Critic
from eqcrl.nn.fused_stack import FusedStack, refused
from eqcrl.nn.resnet import ResNetTrunk
from eqcrl.nn.stacked import Stacked
from eqcrl.types import Batch, Key


def alike(actor: TanhGaussianActor, critic: Critic) -> bool:
    """Whether the trunks can go abreast: resnets of `dense-norm-swish` blocks, of one depth, width, scale, solver."""
    shapes = set()
    for trunk in (actor.trunk, critic.state_action.trunk, critic.goal.trunk):
        if not isinstance(trunk, ResNetTrunk) or not isinstance(trunk.blocks, Stacked | FusedStack):
            return False
        block: Any = trunk.blocks.blocks
        if not isinstance(block, Residual) or not isinstance(block.branch, DenseNormSwish):
            return False
        shapes.add((block.branch.weight.shape, block.scale, type(trunk.blocks)))
    return len(shapes) == 1


class Walks(NamedTuple):
    """Ways through the blocks of several networks and back, as `eqcrl.nn.abreast` and `eqcrl.nn.fused` have them."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


SCANNED = Walks(abreast.forward, abreast.backward)


def spread_walks(walks: Walks) -> Walks:
    """The same on several devices, each with its own rows; as they are on one.

    What is kept for the way back stays where it is. The gradients of all layers are added between devices after the
    whole walk, at once.
    """

    def forward(branches: list[DenseNormSwish], scale: float, x: Array) -> tuple[Array, Any]:
        return spread.along(1, lambda branches, x: walks.forward(branches, scale, x), branches, x)

    def backward(branches: list[DenseNormSwish], scale: float, kept: Any, grad: Array) -> tuple[Array, Any]:
        return spread.back_along(
            1, lambda branches, kept, grad: walks.backward(branches, scale, kept, grad), branches, kept, grad
        )

    return Walks(forward, backward)


def fused_walks() -> Walks:
    """One kernel for all blocks and networks, each way."""
    from eqcrl.nn import fused

    return Walks(fused.forward, fused.backward)


def fused_asked(actor: TanhGaussianActor, critic: Critic) -> bool:
    """Whether any of the networks should be trained by the fused kernels."""
    trunks = (actor.trunk, critic.state_action.trunk, critic.goal.trunk)
    return any(isinstance(trunk, ResNetTrunk) and isinstance(trunk.blocks, FusedStack) for trunk in trunks)


def fused_refused(actor: TanhGaussianActor, critic: Critic, rows: int) -> str | None:
    """Why the fused kernels cannot train these networks with so many rows here; None if they can."""
    if not alike(actor, critic):
        return "actor and critic are not resnets of one depth, width, scale and solver with dense-norm-swish blocks"
    trunk: Any = actor.trunk
    return refused(trunk.blocks.blocks.branch, rows, jax.devices()[0])


def kept_floats_per_row(actor: TanhGaussianActor, *, fused: bool) -> int:
    """Floats for each row of a batch: products and inputs of groups of four walks, and what the backward walk of three
    networks works out at once for a group (about five arrays).

    Fused: operands and norms of three walks, and both gradients of each layer on the way back, in bfloat16.
    """
    trunk: Any = actor.trunk
    blocks, layers, width = trunk.blocks.blocks.branch.weight.shape[:3]
    if fused:
        return 6 * blocks * layers * width
    return (4 * (blocks * layers + -(-blocks // GROUP)) + 3 * 5 * GROUP * layers) * width


def abreast_gradients(
    actor: TanhGaussianActor,
    critic: Critic,
    batch: Batch,
    goals_of_actor: GoalsOfActor,
    contrast: Contrast,
    climb: Climb,
    *,
    key: Key,
    walks: Walks = SCANNED,
) -> Gradients:
    """See `merged_gradients`. The networks must be `alike`. `walks` goes through their blocks."""
    forward, backward = spread_walks(walks)
    phi, psi = critic.state_action, critic.goal
    trunks: list[Any] = [actor.trunk, phi.trunk, psi.trunk]
    branches = [trunk.blocks.blocks.branch for trunk in trunks]
    scale = trunks[0].blocks.blocks.scale
    inputs = [
        jnp.concatenate([batch.observation, goals_of_actor(batch.goal)], axis=-1),
        jnp.concatenate([batch.observation, batch.action], axis=-1),
        batch.goal,
    ]
    x, stems_back = jax.vjp(lambda parts: stems(parts, inputs), [(t.stem, t.norm) for t in trunks])
    features, kept = forward(branches, scale, x)

    # The policy's actions, and phi of them. Only the heads of the actor are differentiated here: its trunk comes last.
    (action, log_prob), policy_back = jax.vjp(
        lambda net, features: sample(*net.heads(features), key=key), actor, features[0]
    )
    of_policy, first_back = jax.vjp(
        lambda action: trunks[1].first(jnp.concatenate([batch.observation, action], axis=-1))[None], action
    )
    policy_features, policy_kept = forward(branches[1:2], scale, of_policy)

    def critic_end(heads: Any, phi_features: Array, psi_features: Array) -> Any:
        psi_rows = heads[1](psi_features)
        loss, logits = contrast(heads[0](phi_features), psi_rows)
        return loss, (logits, psi_rows)

    (critic_loss, (logits, psi_rows)), (to_heads, to_phi, to_psi) = jax.value_and_grad(
        critic_end, argnums=(0, 1, 2), has_aux=True
    )((phi.head, psi.head), features[1], features[2])
    goal_rows = goals_of_actor(psi_rows)
    actor_loss, (to_log_prob, to_policy_features) = jax.value_and_grad(
        lambda log_prob, features: climb(log_prob, phi.head(features), goal_rows), argnums=(0, 1)
    )(log_prob, policy_features[0])

    to_of_policy, _ = backward(branches[1:2], scale, policy_kept, to_policy_features[None])
    (to_action,) = first_back(to_of_policy)
    actor_gradient, to_actor = policy_back((to_action, to_log_prob))
    to_x, to_branches = backward(branches, scale, kept, jnp.stack([to_actor, to_phi, to_psi]))
    (to_stems,) = stems_back(to_x)
    to_trunks = [
        eqx.tree_at(lambda t: (t.stem, t.norm, t.blocks.blocks.branch), trunk, (*stem, branch))
        for trunk, stem, branch in zip(trunks, to_stems, to_branches, strict=True)
    ]
    actor_gradient = eqx.tree_at(lambda a: a.trunk, actor_gradient, to_trunks[0])
    critic_gradient = eqx.tree_at(
        lambda c: (c.state_action.trunk, c.goal.trunk, c.state_action.head, c.goal.head),
        critic,
        (*to_trunks[1:], *to_heads),
    )
    return Gradients(actor_gradient, critic_gradient, actor_loss, critic_loss, log_prob, logits)
