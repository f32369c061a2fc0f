"""Action values: two networks side by side, of which the smaller is believed."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractArch
from eqcrl.nn.encoders import Encoder
from eqcrl.types import EnvSpec, Key


class TwinValue(eqx.Module):
    """Q_1(s, a, g) and Q_2(s, a, g), initialized independently; leaves have a leading axis of two.

    Source: Fujimoto et al. 2018 (arXiv 1802.09477), section 4.2; conditioned on goals as in Schaul et al. 2015.
    """

    networks: Encoder

    def __init__(self, arch: AbstractArch, spec: EnvSpec, *, key: Key):
        size = spec.observation_size + spec.action_size + spec.goal_size
        make = eqx.filter_vmap(lambda key: Encoder(arch, size, 1, key=key))
        self.networks = make(jax.random.split(key))

    def __call__(
        self,
        observation: Float[Array, "batch observation"],
        action: Float[Array, "batch action"],
        goal: Float[Array, "batch goal"],
    ) -> Float[Array, "2 batch"]:
        """Both values."""
        x = jnp.concatenate([observation, action, goal], axis=-1)
        return eqx.filter_vmap(lambda network, x: network(x), in_axes=(eqx.if_array(0), None))(self.networks, x)[..., 0]
