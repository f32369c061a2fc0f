"""Learned skips: the plain network at the start, weights that route, and exact mixtures."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.learned_skip import LearnedSkips, learned_skip
from eqcrl.nn.precision import products
from eqcrl.nn.resnet import ResNet
from eqcrl.nn.watch import stack_statistics, watched

WIDTH, COUNT = 8, 5
X = jax.random.normal(jax.random.key(0), (6, 3))


def trunk_of(depth: int = 4 * COUNT, **more: Any) -> Any:
    return jax.jit(lambda key: learned_skip(depth, WIDTH, **more).build(3, key=key))(jax.random.key(1))


def with_skips(trunk: Any, share: Any, logits: Any) -> Any:
    where = lambda t: (t.blocks.blocks.share, t.blocks.blocks.logits)  # noqa: E731
    return eqx.tree_at(where, trunk, (jnp.asarray(share, jnp.float32), jnp.asarray(logits, jnp.float32)))


@pytest.mark.parametrize(("depth", "recipe"), [(4, "calm"), (20, "calm"), (64, "paper")])
def test_it_begins_as_the_plain_network(depth: int, recipe: Any) -> None:
    """Bit for bit in values, and to rounding in the gradients that both have."""
    learned = learned_skip(depth, WIDTH, recipe)
    plain = ResNet(depth, WIDTH, recipe=recipe)

    def look(arch: ResNet) -> Any:
        def features_and_gradient(key: Any) -> Any:
            trunk = arch.build(3, key=key)
            return trunk(X), jax.grad(lambda t: jnp.sum(jnp.sin(t(X))))(trunk)

        return jax.jit(features_and_gradient)(jax.random.key(1))

    (features, ours), (same, expected) = look(learned), look(plain)
    np.testing.assert_array_equal(features, same)
    for one, other in (
        (ours.stem, expected.stem),
        (ours.norm, expected.norm),
        (ours.blocks.blocks.branch, expected.blocks.blocks.branch),
    ):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * float(jnp.abs(b).max()))
    # Every share but the first, of a block that has no choice, learns from the first step on.
    shares = np.abs(ours.blocks.blocks.share)
    assert shares[0] == 0.0
    assert (shares[1:] > 0.0).all()


def test_weights_add_up_to_one_and_never_look_ahead() -> None:
    rng = np.random.default_rng(2)
    trunk = with_skips(trunk_of(), rng.normal(size=COUNT), rng.normal(size=(COUNT, COUNT)))
    weights = np.asarray(trunk.blocks.weights())
    np.testing.assert_allclose(weights.sum(axis=1), np.ones(COUNT), rtol=1e-5)
    assert not np.triu(weights, 1).any()


def test_with_whole_shares_it_routes_by_softmax_alone() -> None:
    """Every block is told to take the first stream: then x_{l+1} = x_0 + f_l(x_l)."""
    logits = np.zeros((COUNT, COUNT))
    logits[:, 0] = 10.0
    trunk = with_skips(trunk_of(recipe="paper"), np.ones(COUNT), logits)
    x = first = trunk.first(X)
    for i in range(COUNT):
        branch = jax.tree.map(lambda leaf, i=i: leaf[i], trunk.blocks.blocks.branch)
        x = first + branch(x)
    np.testing.assert_allclose(trunk(X), x, rtol=1e-5, atol=1e-5)


def test_mixtures_are_exact_whatever_the_precision_of_products() -> None:
    """The stream is no operand of a product of the networks, so it is not rounded."""
    rng = np.random.default_rng(3)
    trunk = with_skips(trunk_of(), np.full(COUNT, 0.5), rng.normal(size=(COUNT, COUNT)))
    silent = eqx.tree_at(lambda t: t.blocks.blocks.branch.scale, trunk, jnp.zeros((COUNT, 4, WIDTH)))
    streams = jax.random.normal(jax.random.key(4), (6, WIDTH))

    def look() -> Any:
        return jax.jit(jax.value_and_grad(lambda b, x: jnp.sum(jnp.sin(b(x))), argnums=(0, 1)))(silent.blocks, streams)

    value, (blocks, to_x) = look()
    with products("bf16"):
        same, (rounded, same_to_x) = look()
    np.testing.assert_array_equal(same, value)
    np.testing.assert_array_equal(same_to_x, to_x)
    np.testing.assert_array_equal(rounded.blocks.share, blocks.blocks.share)


def test_any_shape_of_batch_and_all_streams() -> None:
    trunk = with_skips(trunk_of(), np.full(COUNT, 0.3), np.zeros((COUNT, COUNT)))
    x = jax.random.normal(jax.random.key(5), (2, 3, WIDTH))
    streams = trunk.blocks.streams(x)
    assert streams.shape == (COUNT + 1, 2, 3, WIDTH)
    np.testing.assert_array_equal(streams[0], x)
    np.testing.assert_array_equal(streams[-1], trunk.blocks(x))
    np.testing.assert_allclose(trunk.blocks(x[0, 0]), streams[-1, 0, 0], rtol=1e-5, atol=1e-6)


def test_gradients_to_every_stream_arrive() -> None:
    """A loss of all streams at once, against central differences in float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(6)
        trunk = with_skips(trunk_of(), rng.normal(size=COUNT), 0.1 * rng.normal(size=(COUNT, COUNT)))
        stacked: LearnedSkips = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), trunk.blocks)
        x, weights = jnp.asarray(rng.normal(size=(4, WIDTH))), jnp.asarray(rng.normal(size=(COUNT + 1, 4, WIDTH)))
        loss = jax.jit(lambda stacked, x: jnp.sum(weights * stacked.streams(x)))
        gradients = jax.grad(loss, argnums=(0, 1))(stacked, x)
        for _ in range(3):
            direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), (stacked, x))
            there, back = (
                loss(*jax.tree.map(lambda p, d, e=e: p + e * d, (stacked, x), direction)) for e in (1e-6, -1e-6)
            )
            actual = sum(
                jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True)
            )
            assert float(actual) == pytest.approx(float(there - back) / 2e-6, rel=1e-6)


def test_watching_sees_its_streams() -> None:
    trunk = with_skips(trunk_of(), np.full(COUNT, 0.4), np.zeros((COUNT, COUNT)))
    loss = lambda t: jnp.mean(t(X) ** 2)  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(watched(trunk))
    (found,) = stack_statistics(gradient)
    streams = np.asarray(trunk.blocks.streams(trunk.first(X)), np.float64)
    np.testing.assert_allclose(found[:, 0], np.sqrt((streams[1:] ** 2).mean(axis=(1, 2))), rtol=1e-4)
    plain = jax.jit(jax.grad(loss))(trunk)
    np.testing.assert_allclose(gradient.blocks.stacked.blocks.share, plain.blocks.blocks.share, rtol=1e-4, atol=1e-7)
