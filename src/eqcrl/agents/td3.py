"""Twin delayed deterministic policy gradient on sparse rewards, with goals in hindsight or without."""

from functools import partial
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from eqcrl.agents.adam import adam_init, adam_step, rate_of
from eqcrl.agents.base import AbstractAgent
from eqcrl.agents.sac import HER_SHARE
from eqcrl.agents.sparse import (
    TAU,
    Discount,
    RandomActions,
    Relabelled,
    RewardScale,
    SparseReward,
    Tau,
    hindsight,
    leaf_count,
    outcome_of,
    sometimes_random,
    squared_error,
    towards,
)
from eqcrl.envs.base import AbstractEnv
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.deterministic import DeterministicActor
from eqcrl.nn.precision import Precision, products
from eqcrl.nn.values import TwinValue
from eqcrl.settings import Meta
from eqcrl.types import Batch, EnvSpec, Key, Metrics

Noise = Annotated[float, Meta(ge=0.0, description="deviation of the noise on actions", extra={"unit": "action"})]


class Policy(eqx.Module):
    """What a delayed update changes together: the actor, its optimizer, and all targets."""

    actor: DeterministicActor
    actor_optimizer: optax.OptState
    target_actor: DeterministicActor
    target_critics: TwinValue
    loss: Float[Array, ""]
    """Of the actor, when it was last improved."""


class TD3State(eqx.Module):
    """The policy, the twin critics with their Adam state, and the gradient steps so far."""

    policy: Policy
    critics: TwinValue
    critic_optimizer: optax.OptState
    steps: Int[Array, ""]


class TD3(AbstractAgent):
    """TD3: clipped double Q-learning, target policy smoothing, delayed policy updates.

    y = r + gamma min_k Q'_k(s', a', g), a' = clip(pi'(s', g) + clip(noise, -c, c), -1, 1)
    critic: sum_k mean (Q_k(s, a, g) - y)^2, y clipped to what returns can be
    actor, every `policy_delay` steps: mean -Q_1(s, pi(s, g), g) + c u^2, pi = tanh(u), then all targets follow
    With `relabelled` > 0 (`td3-her`), that share of the goals are achieved ones, with the reward worked out anew. What
    `SparseReward` says of terminations and time limits holds.
    Source: Fujimoto et al. 2018 (arXiv 1802.09477), algorithm 1, which has c = 0; clipped targets, HER, and c > 0,
    since a policy that is driven to where tanh is flat stays there: Andrychowicz et al. 2017 (arXiv 1707.01495);
    exploring, with noise and with actions drawn uniformly: Plappert et al. 2018 (arXiv 1802.09464).
    """

    env: AbstractEnv
    actor_arch: AbstractArch
    critic_arch: AbstractArch
    relabelled: Relabelled = eqx.field(default=0.0, static=True)
    reward: RewardScale = eqx.field(default="0/1", static=True)
    gamma: Discount = 0.99
    tau: Tau = TAU
    exploration_noise: Noise = 0.2
    random_actions: RandomActions = 0.3
    smoothing_noise: Noise = 0.2
    smoothing_clip: Annotated[float, Meta(ge=0.0, description="greatest smoothing noise", extra={"unit": "action"})] = (
        0.5
    )
    policy_delay: Annotated[
        int, Meta(ge=1, description="critic updates for each update of actor and targets", extra={"unit": "steps"})
    ] = eqx.field(default=2, static=True)
    saturation_penalty: Annotated[
        float, Meta(ge=0.0, description="weight of the mean squared action before tanh in the actor's loss")
    ] = 0.0
    actor_rate: Annotated[float, rate_of("actor")] = 3e-4
    critic_rate: Annotated[float, rate_of("critics")] = 3e-4
    precision: Annotated[
        Precision, Meta(description="matrix products of the networks: fp32 is exact, tf32 and bf16 round")
    ] = eqx.field(default="fp32", static=True)

    def init(self, spec: EnvSpec, *, key: Key) -> TD3State:
        """Fresh networks, targets equal to them."""
        actor_key, critic_key = jax.random.split(key)
        actor = DeterministicActor(self.actor_arch, spec, key=actor_key)
        critics = TwinValue(self.critic_arch, spec, key=critic_key)
        # Copies, because a buffer that is donated may stand in the state only once.
        target_actor, target_critics = jax.tree.map(jnp.copy, (actor, critics))
        optimizer = adam_init(self.actor_rate, actor)
        policy = Policy(actor, optimizer, target_actor, target_critics, jnp.zeros(()))
        return TD3State(policy, critics, adam_init(self.critic_rate, critics), jnp.zeros((), jnp.int32))

    def act(
        self,
        state: TD3State,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """The policy with noise, and some actions drawn uniformly."""
        noise_key, random_key = jax.random.split(key)
        action = self.act_deterministic(state, observation, goal)
        noisy = jnp.clip(action + self.exploration_noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)
        return sometimes_random(noisy, self.random_actions, key=random_key)

    def act_deterministic(
        self, state: TD3State, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """The policy."""
        with products(self.precision):
            return state.policy.actor(observation, goal)

    def update(self, state: TD3State, batch: Batch, *, key: Key) -> tuple[TD3State, Metrics]:
        """Critics; every `policy_delay` steps also the actor and all targets."""
        outcome, goal, policy = outcome_of(batch), hindsight(batch, self.relabelled), state.policy
        reward = SparseReward(self.env, self.reward, self.gamma)

        def critic_loss(critics: TwinValue) -> tuple[Array, Array]:
            values = critics(batch.observation, batch.action, goal)
            return squared_error(values, target, outcome.known), jnp.mean(values)

        def actor_loss(actor: DeterministicActor) -> Array:
            before = actor.before_tanh(batch.observation, goal)
            value = jnp.mean(critics(batch.observation, jnp.tanh(before), goal)[0])
            return self.saturation_penalty * jnp.mean(before**2) - value

        def improved(policy: Policy) -> Policy:
            loss, grad = jax.value_and_grad(actor_loss)(policy.actor)
            actor, optimizer = adam_step(self.actor_rate, grad, policy.actor_optimizer, policy.actor)
            target_actor = towards(policy.target_actor, actor, self.tau)
            return Policy(actor, optimizer, target_actor, towards(policy.target_critics, critics, self.tau), loss)

        with products(self.precision):
            next_action = policy.target_actor(outcome.next_observation, goal)
            noise = self.smoothing_noise * jax.random.normal(key, next_action.shape)
            noise = jnp.clip(noise, -self.smoothing_clip, self.smoothing_clip)
            next_action = jnp.clip(next_action + noise, -1.0, 1.0)
            next_value = jnp.min(policy.target_critics(outcome.next_observation, next_action, goal), axis=0)
            target, reached = reward.target(outcome, goal, next_value)
            target = reward.possible(target)
            (critic_value, mean_value), critic_grad = jax.value_and_grad(critic_loss, has_aux=True)(state.critics)
            critics, critic_optimizer = adam_step(self.critic_rate, critic_grad, state.critic_optimizer, state.critics)
            due = (state.steps + 1) % self.policy_delay == 0
            policy = jax.lax.cond(due, improved, lambda kept: kept, policy)
        metrics = {"critic_loss": critic_value, "actor_loss": policy.loss, "value": mean_value, "reached": reached}
        return TD3State(policy, critics, critic_optimizer, state.steps + 1), metrics

    def parameter_counts(self, state: TD3State) -> dict[str, int]:
        """Actor, and both critics together; their targets are not learned."""
        return {"actor": leaf_count(state.policy.actor), "critics": leaf_count(state.critics)}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """Gradients of all networks, and what the walks through actor and both critics keep for their way back."""
        counts = self.parameter_counts(jax.eval_shape(lambda: self.init(spec, key=jax.random.key(0))))
        rows = self.actor_arch.saved_floats_per_row() + 2 * self.critic_arch.saved_floats_per_row()
        return sum(counts.values()) + max(counts.values()) + batch_size * rows


td3_her = partial(TD3, relabelled=HER_SHARE, reward="-1/0", saturation_penalty=0.1)
