"""SimbaV2's network: everything stays on the sphere, and lengths of weights have no effect."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.hyperspherical import Hyperspherical, hyperspherical, unit

WIDTH = 16
X = 2.0 * jax.random.normal(jax.random.key(0), (6, 5))


@pytest.fixture(scope="module")
def trunk() -> Any:
    return hyperspherical(12, WIDTH).build(5, key=jax.random.key(1))


def test_every_stream_and_every_column_of_a_weight_has_length_one(trunk: Any) -> None:
    streams = trunk.blocks.streams(trunk.stem(X))
    np.testing.assert_allclose(jnp.linalg.norm(streams, axis=-1), np.ones((7, 6)), rtol=1e-5)
    for weight in (trunk.stem.weight, trunk.blocks.blocks.inner, trunk.blocks.blocks.outer):
        np.testing.assert_allclose(
            jnp.linalg.norm(weight, axis=-2), np.ones(weight.shape[:-2] + weight.shape[-1:]), rtol=1e-5
        )
    features = trunk(X)
    np.testing.assert_allclose(features, 4.0 * streams[-1], rtol=1e-6)


def test_a_fresh_block_goes_the_same_share_of_the_way_whatever_the_depth() -> None:
    """1 / (blocks + 1) along the chord to its target, for every unit."""
    x = unit(jax.random.normal(jax.random.key(2), (6, WIDTH)))
    for blocks in (1, 32):
        block = Hyperspherical(WIDTH, blocks, key=jax.random.key(3))
        whole = eqx.tree_at(lambda b: b.step, block, block.step * (blocks + 1))
        target = whole(x)
        np.testing.assert_allclose(block(x), unit(x + (target - x) / (blocks + 1)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(block.step, np.full(WIDTH, 0.25))
        np.testing.assert_allclose(block.scaler, np.full(4 * WIDTH, np.sqrt(2 / WIDTH) / 2), rtol=1e-6)
        assert block.inner.shape == (WIDTH, 4 * WIDTH)


def test_lengths_of_columns_have_no_effect_and_no_gradient(trunk: Any) -> None:
    """What projecting the weights after each step would change is not seen by the network."""
    weights = lambda t: (t.stem.weight, t.blocks.blocks.inner, t.blocks.blocks.outer)  # noqa: E731
    rng = np.random.default_rng(4)
    longer = eqx.tree_at(
        weights,
        trunk,
        [w * rng.uniform(0.5, 3.0, (*w.shape[:-2], 1, w.shape[-1])).astype(np.float32) for w in weights(trunk)],
    )
    np.testing.assert_allclose(longer(X), trunk(X), rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda t: jnp.sum(jnp.sin(t(X)))))(trunk)
    for weight, to_weight in zip(weights(trunk), weights(gradient), strict=True):
        along = jnp.sum(weight * to_weight, axis=-2)
        assert float(jnp.abs(along).max()) < 1e-5 * max(1.0, float(jnp.abs(to_weight).max()))


def test_a_step_turns_a_longer_column_less() -> None:
    """The difference to projecting: with twice the length, half the angle for the same step."""
    block = Hyperspherical(WIDTH, key=jax.random.key(5))
    gradient = jax.grad(lambda b: jnp.sum(jnp.sin(b(unit(X @ jnp.ones((5, WIDTH)) + jnp.arange(WIDTH))))))(block)
    step = 1e-3 * jnp.sign(gradient.outer)

    def angle(factor: float) -> float:
        before, after = factor * block.outer, factor * block.outer + step
        across = after / jnp.linalg.norm(after, axis=0) - before / jnp.linalg.norm(before, axis=0)
        return float(jnp.linalg.norm(across))

    assert angle(2.0) == pytest.approx(angle(1.0) / 2, rel=0.02)


def test_the_length_of_the_input_is_seen(trunk: Any) -> None:
    """Without the appended constant, dividing by the length would lose it."""
    assert float(jnp.abs(trunk(X) - trunk(2.0 * X)).max()) > 0.05


def test_zeros_have_finite_values_and_gradients(trunk: Any) -> None:
    silent = jax.tree.map(jnp.zeros_like, trunk)
    for net, x in ((trunk, jnp.zeros((2, 5))), (silent, X)):
        value, gradients = jax.jit(jax.value_and_grad(lambda t, x: jnp.sum(t(x) ** 2), argnums=(0, 1)))(net, x)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_parameters_by_formula() -> None:
    """Eight squares of the width for two layers, and no bias."""
    net = jax.eval_shape(lambda: hyperspherical(16, 256).build(29, key=jax.random.key(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(net))
    assert count == 30 * 256 + 256 + 8 * (8 * 256**2 + 4 * 256 + 256)
