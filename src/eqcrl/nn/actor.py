"""The stochastic policy: a Gaussian squashed by tanh."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl import spread
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.layers import Dense
from eqcrl.types import EnvSpec, Key

LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0


class TanhGaussianActor(eqx.Module):
    """pi(a | s, g): a = tanh(mean + std * eps), eps ~ N(0, I), with two linear heads on one trunk.

    log_std = -5 + 3.5 (tanh(x) + 1), in [-5, 2]. Source: Wang et al. 2025, released code; Haarnoja et al. 2018.
    """

    trunk: AbstractTrunk
    mean_head: Dense
    log_std_head: Dense

    def __init__(self, arch: AbstractArch, spec: EnvSpec, *, key: Key):
        trunk_key, mean_key, log_std_key = jax.random.split(key, 3)
        self.trunk = arch.build(spec.observation_size + spec.goal_size, key=trunk_key)
        self.mean_head = Dense(arch.width, spec.action_size, key=mean_key)
        self.log_std_head = Dense(arch.width, spec.action_size, key=log_std_key)

    def __call__(
        self, observation: Float[Array, "*batch observation"], goal: Float[Array, "*batch goal"]
    ) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch action"]]:
        """Mean and log standard deviation before the tanh."""
        x = jnp.concatenate([observation, goal], axis=-1)
        return spread.through(lambda net, x: net.heads(net.trunk(x)), self, x)

    def heads(
        self, features: Float[Array, "*batch width"]
    ) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch action"]]:
        """The same, from what the trunk makes of them."""
        span = 0.5 * (LOG_STD_HIGH - LOG_STD_LOW)
        log_std = LOG_STD_LOW + span * (jnp.tanh(self.log_std_head(features)) + 1.0)
        return self.mean_head(features), log_std


def sample(
    mean: Float[Array, "*batch action"], log_std: Float[Array, "*batch action"], *, key: Key
) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch"]]:
    """A reparameterized action and its log-probability."""
    noise = jax.random.normal(key, mean.shape)
    before_tanh = mean + jnp.exp(log_std) * noise
    return jnp.tanh(before_tanh), log_prob_from_noise(noise, before_tanh, log_std)


def log_prob_from_noise(
    noise: Float[Array, "*batch action"],
    before_tanh: Float[Array, "*batch action"],
    log_std: Float[Array, "*batch action"],
) -> Float[Array, "*batch"]:
    """log pi(tanh(u)) = sum_i [log N(eps_i) - log_std_i - log(1 - tanh(u_i)^2)], u = mean + std * eps.

    log(1 - tanh(u)^2) is computed as 2 (log 2 - u - softplus(-2u)), finite with finite gradient for saturated
    actions, where the direct form is log(0).
    """
    gaussian = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - before_tanh - jax.nn.softplus(-2.0 * before_tanh))
    return jnp.sum(gaussian - squash, axis=-1)
