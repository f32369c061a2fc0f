"""Soft actor-critic on sparse rewards, with goals in hindsight or without."""

from functools import partial
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from eqcrl.agents.adam import adam_init, adam_step, rate_of
from eqcrl.agents.base import AbstractAgent
from eqcrl.agents.crl import alpha_loss
from eqcrl.agents.sparse import (
    TAU,
    Discount,
    Relabelled,
    RewardScale,
    SparseReward,
    Tau,
    hindsight,
    leaf_count,
    outcome_of,
    squared_error,
    towards,
)
from eqcrl.envs.base import AbstractEnv
from eqcrl.nn.actor import TanhGaussianActor, sample
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.precision import Precision, products
from eqcrl.nn.values import TwinValue
from eqcrl.settings import Meta
from eqcrl.types import Batch, EnvSpec, Key, Metrics


class SACState(eqx.Module):
    """Actor, twin critics and their targets, entropy coefficient, Adam states."""

    actor: TanhGaussianActor
    critics: TwinValue
    targets: TwinValue
    log_alpha: Float[Array, ""]
    actor_optimizer: optax.OptState
    critic_optimizer: optax.OptState
    alpha_optimizer: optax.OptState


class SAC(AbstractAgent):
    """Soft actor-critic: maximum-entropy Q-learning with twin critics and target networks.

    y = r + gamma (min_k Q'_k(s', a', g) - alpha log pi(a'|s', g)), a' ~ pi
    critic: sum_k mean (Q_k(s, a, g) - y)^2
    actor:  mean (alpha log pi(a|s, g) - min_k Q_k(s, a, g)), a ~ pi
    alpha:  mean (alpha (-log pi - target)), target = -target_entropy_scale * action_size
    The critics step first. With `relabelled` > 0 (`sac-her`), that share of the goals are achieved ones, with the
    reward worked out anew. What `SparseReward` says of terminations and time limits holds.
    Source: Haarnoja et al. 2018 (arXiv 1812.05905), section 5; HER: Andrychowicz et al. 2017 (arXiv 1707.01495).
    """

    env: AbstractEnv
    actor_arch: AbstractArch
    critic_arch: AbstractArch
    relabelled: Relabelled = eqx.field(default=0.0, static=True)
    reward: RewardScale = eqx.field(default="0/1", static=True)
    gamma: Discount = 0.99
    tau: Tau = TAU
    target_entropy_scale: Annotated[
        float, Meta(description="target entropy per action dimension, negated", extra={"unit": "nats"})
    ] = 0.5
    actor_rate: Annotated[float, rate_of("actor")] = 3e-4
    critic_rate: Annotated[float, rate_of("critics")] = 3e-4
    alpha_rate: Annotated[float, rate_of("entropy coefficient")] = 3e-3
    precision: Annotated[
        Precision, Meta(description="matrix products of the networks: fp32 is exact, tf32 and bf16 round")
    ] = eqx.field(default="fp32", static=True)

    def init(self, spec: EnvSpec, *, key: Key) -> SACState:
        """Fresh networks, targets equal to the critics; log alpha starts at 0."""
        actor_key, critic_key = jax.random.split(key)
        actor = TanhGaussianActor(self.actor_arch, spec, key=actor_key)
        critics = TwinValue(self.critic_arch, spec, key=critic_key)
        log_alpha = jnp.zeros(())
        return SACState(
            actor,
            critics,
            # A copy, because a buffer that is donated may stand in the state only once.
            jax.tree.map(jnp.copy, critics),
            log_alpha,
            adam_init(self.actor_rate, actor),
            adam_init(self.critic_rate, critics),
            adam_init(self.alpha_rate, log_alpha),
        )

    def act(
        self,
        state: SACState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """Sampled actions."""
        with products(self.precision):
            return sample(*state.actor(observation, goal), key=key)[0]

    def act_deterministic(
        self, state: SACState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """tanh(mean)."""
        with products(self.precision):
            return jnp.tanh(state.actor(observation, goal)[0])

    def update(self, state: SACState, batch: Batch, *, key: Key) -> tuple[SACState, Metrics]:
        """Critics, then actor and alpha against the critics of after, then the targets."""
        next_key, actor_key = jax.random.split(key)
        outcome, goal, alpha = outcome_of(batch), hindsight(batch, self.relabelled), jnp.exp(state.log_alpha)
        reward = SparseReward(self.env, self.reward, self.gamma)

        def critic_loss(critics: TwinValue) -> tuple[Array, Array]:
            values = critics(batch.observation, batch.action, goal)
            return squared_error(values, target, outcome.known), jnp.mean(values)

        def actor_loss(actor: TanhGaussianActor) -> tuple[Array, Array]:
            action, log_prob = sample(*actor(batch.observation, goal), key=actor_key)
            value = jnp.min(critics(batch.observation, action, goal), axis=0)
            return jnp.mean(alpha * log_prob - value), log_prob

        with products(self.precision):
            next_action, next_log_prob = sample(*state.actor(outcome.next_observation, goal), key=next_key)
            next_value = jnp.min(state.targets(outcome.next_observation, next_action, goal), axis=0)
            target, reached = reward.target(outcome, goal, next_value - alpha * next_log_prob)
            (critic_value, mean_value), critic_grad = jax.value_and_grad(critic_loss, has_aux=True)(state.critics)
            critics, critic_optimizer = adam_step(self.critic_rate, critic_grad, state.critic_optimizer, state.critics)
            (actor_value, log_prob), actor_grad = jax.value_and_grad(actor_loss, has_aux=True)(state.actor)
        actor, actor_optimizer = adam_step(self.actor_rate, actor_grad, state.actor_optimizer, state.actor)
        entropy = -self.target_entropy_scale * batch.action.shape[-1]
        alpha_grad = jax.grad(alpha_loss)(state.log_alpha, log_prob, entropy)
        log_alpha, alpha_optimizer = adam_step(self.alpha_rate, alpha_grad, state.alpha_optimizer, state.log_alpha)
        targets = towards(state.targets, critics, self.tau)
        metrics = {
            "critic_loss": critic_value,
            "actor_loss": actor_value,
            "value": mean_value,
            "reached": reached,
            "entropy": -jnp.mean(log_prob),
            "alpha": jnp.exp(log_alpha),
        }
        after = SACState(actor, critics, targets, log_alpha, actor_optimizer, critic_optimizer, alpha_optimizer)
        return after, metrics

    def parameter_counts(self, state: SACState) -> dict[str, int]:
        """Actor, and both critics together; their targets are not learned."""
        return {"actor": leaf_count(state.actor), "critics": leaf_count(state.critics)}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """Gradients of all networks, and what the walks through actor and both critics keep for their way back."""
        counts = self.parameter_counts(jax.eval_shape(lambda: self.init(spec, key=jax.random.key(0))))
        rows = self.actor_arch.saved_floats_per_row() + 2 * self.critic_arch.saved_floats_per_row()
        return sum(counts.values()) + max(counts.values()) + batch_size * rows


HER_SHARE = 0.8
"""Four achieved goals for each commanded one: k = 4 of Andrychowicz et al. 2017, figure 6."""

sac_her = partial(SAC, relabelled=HER_SHARE, reward="-1/0")
