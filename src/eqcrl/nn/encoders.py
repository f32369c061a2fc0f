"""The two encoders of the critic."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl import spread
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.layers import Dense
from eqcrl.types import EnvSpec, Key


class Encoder(eqx.Module):
    """A trunk and a linear head: a representation of the input vector."""

    trunk: AbstractTrunk
    head: Dense

    def __init__(self, arch: AbstractArch, input_size: int, representation_size: int, *, key: Key):
        trunk_key, head_key = jax.random.split(key)
        self.trunk = arch.build(input_size, key=trunk_key)
        self.head = Dense(arch.width, representation_size, key=head_key)

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch dim"]:
        """The representation."""
        return spread.through(lambda net, x: net.head(net.trunk(x)), self, x)


class Critic(eqx.Module):
    """phi(s, a) and psi(g), two encoders into one space (Wang et al. 2025, section 2)."""

    state_action: Encoder
    goal: Encoder

    def __init__(self, arch: AbstractArch, spec: EnvSpec, representation_size: int, *, key: Key):
        phi_key, psi_key = jax.random.split(key)
        pair_size = spec.observation_size + spec.action_size
        self.state_action = Encoder(arch, pair_size, representation_size, key=phi_key)
        self.goal = Encoder(arch, spec.goal_size, representation_size, key=psi_key)

    def phi(
        self, observation: Float[Array, "*batch observation"], action: Float[Array, "*batch action"]
    ) -> Float[Array, "*batch dim"]:
        """phi(s, a)."""
        return self.state_action(jnp.concatenate([observation, action], axis=-1))

    def psi(self, goal: Float[Array, "*batch goal"]) -> Float[Array, "*batch dim"]:
        """psi(g)."""
        return self.goal(goal)
