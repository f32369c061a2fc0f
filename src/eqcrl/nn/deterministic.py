"""The deterministic policy."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl import spread
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.layers import Dense
from eqcrl.types import EnvSpec, Key


class DeterministicActor(eqx.Module):
    """pi(s, g) = tanh(W trunk(s, g) + b). Source: Fujimoto et al. 2018 (arXiv 1802.09477)."""

    trunk: AbstractTrunk
    head: Dense

    def __init__(self, arch: AbstractArch, spec: EnvSpec, *, key: Key):
        trunk_key, head_key = jax.random.split(key)
        self.trunk = arch.build(spec.observation_size + spec.goal_size, key=trunk_key)
        self.head = Dense(arch.width, spec.action_size, key=head_key)

    def __call__(
        self, observation: Float[Array, "*batch observation"], goal: Float[Array, "*batch goal"]
    ) -> Float[Array, "*batch action"]:
        """The action."""
        return jnp.tanh(self.before_tanh(observation, goal))

    def before_tanh(
        self, observation: Float[Array, "*batch observation"], goal: Float[Array, "*batch goal"]
    ) -> Float[Array, "*batch action"]:
        """W trunk(s, g) + b."""
        x = jnp.concatenate([observation, goal], axis=-1)
        return spread.through(lambda net, x: net.head(net.trunk(x)), self, x)
