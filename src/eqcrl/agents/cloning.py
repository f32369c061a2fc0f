"""Imitating oneself in hindsight: what `gcsl` and `gcbc` share."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from eqcrl.agents.adam import adam_init, adam_step, rate_of
from eqcrl.agents.base import AbstractAgent
from eqcrl.agents.sparse import leaf_count, sometimes_random
from eqcrl.nn.actor import TanhGaussianActor, log_prob_from_noise, sample
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.precision import Precision, products
from eqcrl.settings import Meta
from eqcrl.types import Batch, EnvSpec, Key, Metrics

Rate = Annotated[float, rate_of("actor")]
Rounding = Annotated[Precision, Meta(description="matrix products of the networks: fp32 is exact, tf32 and bf16 round")]

LARGEST = 1.0 - 1e-6
"""Actions are taken for no larger than this, so that what they were before the tanh is finite."""


class CloningState(eqx.Module):
    """The actor and its Adam state."""

    actor: TanhGaussianActor
    optimizer: optax.OptState


class AbstractCloning(AbstractAgent):
    """The likeliest policy for what was done on the way to the goals of the batch: mean -log pi(a | s, g).

    No critic, no reward: better ways are found only as far as exploring happens upon them.
    """

    actor_arch: eqx.AbstractVar[AbstractArch]
    random_actions: eqx.AbstractVar[float]
    actor_rate: eqx.AbstractVar[float]
    precision: eqx.AbstractVar[Precision]

    def init(self, spec: EnvSpec, *, key: Key) -> CloningState:
        """A fresh actor."""
        actor = TanhGaussianActor(self.actor_arch, spec, key=key)
        return CloningState(actor, adam_init(self.actor_rate, actor))

    def act(
        self,
        state: CloningState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """Sampled actions, some of them drawn uniformly."""
        policy_key, random_key = jax.random.split(key)
        with products(self.precision):
            action = sample(*state.actor(observation, goal), key=policy_key)[0]
        return sometimes_random(action, self.random_actions, key=random_key)

    def act_deterministic(
        self, state: CloningState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """tanh(mean)."""
        with products(self.precision):
            return jnp.tanh(state.actor(observation, goal)[0])

    def loss(self, actor: TanhGaussianActor, batch: Batch) -> tuple[Float[Array, ""], Float[Array, "batch action"]]:
        """mean -log pi(a | s, g), in nats, and the log standard deviations."""
        mean, log_std = actor(batch.observation, batch.goal)
        before_tanh = jnp.arctanh(jnp.clip(batch.action, -LARGEST, LARGEST))
        noise = (before_tanh - mean) * jnp.exp(-log_std)
        return -jnp.mean(log_prob_from_noise(noise, before_tanh, log_std)), log_std

    def update(self, state: CloningState, batch: Batch, *, key: Key) -> tuple[CloningState, Metrics]:
        """One step up the likelihood."""
        with products(self.precision):
            (loss, log_std), grad = jax.value_and_grad(self.loss, has_aux=True)(state.actor, batch)
        actor, optimizer = adam_step(self.actor_rate, grad, state.optimizer, state.actor)
        return CloningState(actor, optimizer), {"actor_loss": loss, "deviation": jnp.mean(jnp.exp(log_std))}

    def parameter_counts(self, state: CloningState) -> dict[str, int]:
        """The actor."""
        return {"actor": leaf_count(state.actor)}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """The gradient, and what the walk keeps for its way back."""
        shapes = jax.eval_shape(lambda: self.init(spec, key=jax.random.key(0)))
        return leaf_count(shapes.actor) + batch_size * self.actor_arch.saved_floats_per_row()
