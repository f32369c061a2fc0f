"""Contrastive reinforcement learning: a critic that classifies futures, an actor that climbs it."""

from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from eqcrl import spread
from eqcrl.actor_goals import AbstractActorGoals
from eqcrl.agents.abreast import (
    SCANNED,
    abreast_gradients,
    alike,
    fused_asked,
    fused_refused,
    fused_walks,
    kept_floats_per_row,
)
from eqcrl.agents.adam import adam_init, adam_step, rate_of
from eqcrl.agents.base import AbstractAgent, AbstractChunked, AbstractRemarks
from eqcrl.agents.passes import Gradients, merged_gradients
from eqcrl.energies import AbstractEnergy
from eqcrl.errors import ConfigError
from eqcrl.losses import AbstractLoss, categorical_accuracy, logsumexp_penalty
from eqcrl.nn.actor import TanhGaussianActor, sample
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.encoders import Critic
from eqcrl.nn.precision import Precision, products
from eqcrl.settings import Meta
from eqcrl.types import Batch, EnvSpec, Key, Metrics


class CRLState(eqx.Module):
    """Networks, entropy coefficient and the three Adam states."""

    actor: TanhGaussianActor
    critic: Critic
    log_alpha: Float[Array, ""]
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    alpha_optimizer: optax.OptState


class CRL(AbstractAgent, AbstractChunked, AbstractRemarks):
    """Contrastive RL with a maximum-entropy actor.

    critic: loss(logits) + penalty * logsumexp_penalty(logits), logits_ij = energy(phi(s_i, a_i), psi(g_j))
    actor:  mean(alpha log pi(a|s, g) - energy(phi(s, a), psi(g))), a ~ pi(.|s, g)
    alpha:  mean(alpha (-log pi(a|s, g) - target)), target = -target_entropy_scale * action_size
    The actor steps first, against the critic of before, then the critic, on the same batch. With `chunk` = k > 1
    (`crl-chunk`), a stands for the next k actions: the critic is phi(s, a_1..a_k) against goals reached at or after
    the end of the chunk, the actor decides on k actions at once, and they are taken without looking again.
    Source: Wang et al. 2025 (arXiv 2503.14858), section 2; Eysenbach et al. 2022 (arXiv 2206.07568); chunks: after
    arXiv 2608.30640 (3 actions).
    """

    actor_arch: AbstractArch
    critic_arch: AbstractArch
    energy: AbstractEnergy
    loss: AbstractLoss
    actor_goals: AbstractActorGoals
    representation_size: Annotated[int, Meta(ge=1, description="dimension of phi and psi")] = eqx.field(
        default=64, static=True
    )
    logsumexp_penalty: Annotated[float, Meta(ge=0.0, description="weight of the logsumexp penalty")] = 0.1
    target_entropy_scale: Annotated[
        float, Meta(description="target entropy per action dimension, negated", extra={"unit": "nats"})
    ] = 0.5
    actor_rate: Annotated[float, rate_of("actor")] = 3e-4
    critic_rate: Annotated[float, rate_of("critic")] = 3e-4
    alpha_rate: Annotated[float, rate_of("entropy coefficient")] = 3e-4

    chunk: Annotated[
        int,
        Meta(ge=1, description="actions decided on at once and taken without looking again", extra={"unit": "steps"}),
    ] = eqx.field(default=1, static=True)

    schedule: Annotated[
        Literal["auto", "merged", "abreast"],
        Meta(
            description="order of work of an update, same result: merged (few operations), abreast (few launches; "
            "three equal resnets); auto: abreast on an accelerator where it is possible"
        ),
    ] = eqx.field(default="auto", static=True)

    precision: Annotated[
        Precision,
        Meta(
            description="matrix products of the networks: fp32 is exact, tf32 and bf16 round what is multiplied and "
            "are fast on a GPU; sums, parameters, residual stream and norms stay float32"
        ),
    ] = eqx.field(default="fp32", static=True)

    def init(self, spec: EnvSpec, *, key: Key) -> CRLState:
        """Fresh networks; log alpha starts at 0."""
        actor_key, critic_key = jax.random.split(key)
        spec = EnvSpec(spec.observation_size, spec.action_size * self.chunk, spec.goal_size)
        actor = TanhGaussianActor(self.actor_arch, spec, key=actor_key)
        critic = Critic(self.critic_arch, spec, self.representation_size, key=critic_key)
        log_alpha = jnp.zeros(())
        return CRLState(
            actor,
            critic,
            log_alpha,
            adam_init(self.actor_rate, actor),
            adam_init(self.critic_rate, critic),
            adam_init(self.alpha_rate, log_alpha),
        )

    def act(
        self,
        state: CRLState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch actions"]:
        """Sampled actions."""
        with products(self.precision):
            return sample(*state.actor(observation, goal), key=key)[0]

    def act_deterministic(
        self, state: CRLState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch actions"]:
        """tanh(mean)."""
        with products(self.precision):
            return jnp.tanh(state.actor(observation, goal)[0])

    def contrast(
        self, phi: Float[Array, "batch dim"], psi: Float[Array, "batch dim"]
    ) -> tuple[Float[Array, ""], Float[Array, "batch batch"]]:
        """The contrastive loss with its penalty, and the logits."""
        # Every device has its rows against all columns; the loss sees all of them.
        logits = spread.split(self.energy.pairwise(spread.split(phi), spread.whole(psi)))
        return self.loss(logits) + self.logsumexp_penalty * logsumexp_penalty(logits), logits

    def critic_loss(self, critic: Critic, batch: Batch) -> tuple[Float[Array, ""], Float[Array, "batch batch"]]:
        """`contrast` between the pairs of the batch."""
        return self.contrast(critic.phi(batch.observation, batch.action), critic.psi(batch.goal))

    def actor_loss(
        self, actor: TanhGaussianActor, critic: Critic, log_alpha: Float[Array, ""], batch: Batch, *, key: Key
    ) -> tuple[Float[Array, ""], Float[Array, "batch"]]:
        """The maximum-entropy objective, negated, and the log-probabilities."""
        goal = self.actor_goals(batch.goal)
        action, log_prob = sample(*actor(batch.observation, goal), key=key)
        value = self.energy(critic.phi(batch.observation, action), critic.psi(goal))
        return jnp.mean(jnp.exp(log_alpha) * log_prob - value), log_prob

    def plain_gradients(self, state: CRLState, batch: Batch, *, key: Key) -> Gradients:
        """Each loss differentiated by itself: the definition, and what `update` is tested against."""
        with products(self.precision):
            (actor_loss, log_prob), actor_grad = jax.value_and_grad(self.actor_loss, has_aux=True)(
                state.actor, state.critic, state.log_alpha, batch, key=key
            )
            (critic_loss, logits), critic_grad = jax.value_and_grad(self.critic_loss, has_aux=True)(state.critic, batch)
        return Gradients(actor_grad, critic_grad, actor_loss, critic_loss, log_prob, logits)

    def gradients(self, state: CRLState, batch: Batch, *, key: Key) -> Gradients:
        """The same gradients as `plain_gradients`, up to rounding, with less work."""

        def climb(log_prob: Array, phi: Array, psi: Array) -> Array:
            return jnp.mean(jnp.exp(state.log_alpha) * log_prob - self.energy(phi, psi))

        given = (state.actor, state.critic, batch, self.actor_goals, self.contrast, climb)
        with products(self.precision):
            if not self.goes_abreast(state):
                return merged_gradients(*given, key=key)
            walks = fused_walks() if self.goes_fused(state, batch.goal.shape[0]) else SCANNED
            return abreast_gradients(*given, key=key, walks=walks)

    def goes_abreast(self, state: CRLState) -> bool:
        """Which schedule `schedule` stands for here. Raises: ConfigError for `abreast` with networks that differ."""
        possible = alike(state.actor, state.critic)
        if self.schedule == "abreast" and not possible:
            raise ConfigError(
                "agent.schedule is 'abreast', but actor and critic are not resnets of one depth, width, scale and "
                "depth solver (scan or fused) with dense-norm-swish blocks.",
                mend="Give both the same architecture and depth solver, or leave agent.schedule at 'auto'.",
            )
        if self.schedule == "auto":
            return possible and jax.default_backend() != "cpu"
        return self.schedule == "abreast"

    def goes_fused(self, state: CRLState, rows: int) -> bool:
        """Whether a gradient step is taken by the fused kernels: asked for, abreast, and possible here."""
        asked = fused_asked(state.actor, state.critic) and self.goes_abreast(state)
        return asked and fused_refused(state.actor, state.critic, rows) is None

    def remarks(self, state: CRLState, batch_size: int) -> tuple[str, ...]:
        """What of the settings is not done here, and why."""
        if not fused_asked(state.actor, state.critic):
            return ()
        if self.goes_fused(state, batch_size):
            exact = self.precision == "bf16"
            return () if exact else (f"gradient steps multiply in bf16 (fused), acting in {self.precision}",)
        reason = fused_refused(state.actor, state.critic, batch_size) or "agent.schedule is 'merged'"
        return (f"blocks are scanned, not fused: {reason}",)

    def update(self, state: CRLState, batch: Batch, *, key: Key) -> tuple[CRLState, Metrics]:
        """Actor and alpha against the critic of before, then the critic; all on the same batch."""
        return self.apply(state, self.gradients(state, batch, key=key), batch.action.shape[-1])

    def apply(self, state: CRLState, gradients: Gradients, action_size: int) -> tuple[CRLState, Metrics]:
        """One step of Adam for each network, and for alpha."""
        actor, actor_optimizer = adam_step(self.actor_rate, gradients.actor, state.actor_optimizer, state.actor)
        target = -self.target_entropy_scale * action_size
        alpha_grad = jax.grad(alpha_loss)(state.log_alpha, gradients.log_prob, target)
        log_alpha, alpha_optimizer = adam_step(self.alpha_rate, alpha_grad, state.alpha_optimizer, state.log_alpha)
        critic, critic_optimizer = adam_step(self.critic_rate, gradients.critic, state.critic_optimizer, state.critic)
        metrics = {
            "critic_loss": gradients.critic_loss,
            "actor_loss": gradients.actor_loss,
            "entropy": -jnp.mean(gradients.log_prob),
            "alpha": jnp.exp(log_alpha),
            **logit_metrics(gradients.logits),
        }
        return CRLState(actor, critic, log_alpha, actor_optimizer, critic_optimizer, alpha_optimizer), metrics

    def parameter_counts(self, state: CRLState) -> dict[str, int]:
        """Actor, phi and psi."""
        nets = {"actor": state.actor, "phi": state.critic.state_action, "psi": state.critic.goal}
        return {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in nets.items()}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """Gradients of all three nets, what three walks keep for their way back (actor, psi, and phi of the policy's
        actions), and the logits.

        Going abreast keeps every matrix product of four walks, whatever the remat policy.
        """
        shapes = jax.eval_shape(lambda: self.init(spec, key=jax.random.key(0)))
        counts = self.parameter_counts(shapes)
        weights = sum(counts.values())
        actor_rows, critic_rows = self.actor_arch.saved_floats_per_row(), self.critic_arch.saved_floats_per_row()
        rows = actor_rows + 2 * critic_rows
        if self.goes_abreast(shapes):
            fused = self.goes_fused(shapes, batch_size)
            rows = kept_floats_per_row(shapes.actor, fused=fused)
            # The zeros that the gradients of a walk begin as; copies of the weights in bfloat16, also transposed.
            weights += max(counts.values()) + (sum(counts.values()) if fused else 0)
        return weights + batch_size * rows + 4 * batch_size**2


crl_chunk = partial(CRL, chunk=3)


def alpha_loss(log_alpha: Float[Array, ""], log_prob: Float[Array, "batch"], target: float) -> Float[Array, ""]:
    """alpha * mean(-log pi - target): alpha rises while the entropy is below its target.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), section 5.
    """
    return jnp.exp(log_alpha) * jnp.mean(-log_prob - target)


def logit_metrics(logits: Float[Array, "batch batch"]) -> Metrics:
    """Accuracy of the classifier, and the mean logit of positive and of negative pairs."""
    batch = logits.shape[0]
    positive = jnp.trace(logits)
    negative = jnp.sum(logits) - positive
    return {
        "categorical_accuracy": categorical_accuracy(logits),
        "logits_pos": positive / batch,
        "logits_neg": negative / max(batch * (batch - 1), 1),
    }
