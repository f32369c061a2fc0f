"""The two encoders: what they read, and their values against float64 NumPy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqcrl.nn.encoders import Critic
from eqcrl.nn.resnet import ResNet
from eqcrl.types import EnvSpec

SPEC = EnvSpec(5, 2, 3)


def test_matches_numpy(float64: Callable[[Any], Any], numpy_resnet: Callable[[Any, np.ndarray], np.ndarray]) -> None:
    critic = Critic(ResNet(8, 8), SPEC, 6, key=jax.random.key(0))
    rng = np.random.default_rng(0)
    observation, action, goal = (rng.normal(size=(4, n)).astype(np.float32) for n in (5, 2, 3))
    net = float64(critic)
    for encoder, read, actual in [
        (
            net.state_action,
            np.concatenate([observation, action], axis=1),
            critic.phi(jnp.asarray(observation), jnp.asarray(action)),
        ),
        (net.goal, goal, critic.psi(jnp.asarray(goal))),
    ]:
        expected = numpy_resnet(encoder.trunk, read.astype(float)) @ encoder.head.weight + encoder.head.bias
        assert actual.shape == (4, 6)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_heads_start_like_every_other_layer_and_encoders_differ() -> None:
    critic = Critic(ResNet(4, 64), EnvSpec(1, 1, 2), 32, key=jax.random.key(0))
    for encoder in (critic.state_action, critic.goal):
        assert encoder.head.weight.shape == (64, 32)
        assert 0.95 / 8 < float(jnp.abs(encoder.head.weight).max()) <= 1 / 8
        assert not np.any(encoder.head.bias)
    # Both read two numbers here, and still share nothing.
    for one, other in zip(jax.tree.leaves(critic.state_action), jax.tree.leaves(critic.goal), strict=True):
        assert one.shape == other.shape
        assert np.all(one == one.ravel()[0]) or not np.any(one == other)
