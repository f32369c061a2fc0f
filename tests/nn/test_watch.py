"""Watched stacks: they compute what they computed, and what is measured is what NumPy measures."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from eqcrl.nn.blocks import DenseSwish
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.nn.stacked import Stacked, stack
from eqcrl.nn.watch import gradient_norm, stack_statistics, watched

WIDTH, ROWS = 8, 6
X = jax.random.normal(jax.random.key(7), (ROWS, 5))
GOAL = jax.random.normal(jax.random.key(8), (ROWS, WIDTH))


def loss(trunk: Any) -> Array:
    return jnp.mean((trunk(X) - GOAL) ** 2)


def by_hand(stacked: Stacked, x: Array) -> np.ndarray:
    """Stream, varying part and change of each block, block by block."""
    rows = []
    before = np.asarray(x, np.float64)
    for i in range(stacked.count):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], stacked.blocks)
        after = np.asarray(block(jnp.asarray(before, jnp.float32)), np.float64)
        spread = after - after.mean(axis=0)
        rows.append([rms(after), rms(spread), rms(after - before) / rms(before)])
        before = after
    return np.array(rows)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


@pytest.fixture(scope="module")
def trunk() -> Any:
    return ResNet(20, WIDTH).build(5, key=jax.random.key(0))


@pytest.fixture(scope="module")
def gradients(trunk: Any) -> tuple[Any, Any]:
    """The trunk's own gradient, and that of the watched one."""
    value, plain = jax.jit(jax.value_and_grad(loss))(trunk)
    same, seen = jax.jit(jax.value_and_grad(loss))(watched(trunk))
    assert float(same) == pytest.approx(float(value), rel=1e-6)
    return plain, seen


def test_watching_changes_no_gradient(gradients: tuple[Any, Any]) -> None:
    plain, seen = gradients
    bare = eqx.tree_at(lambda t: t.blocks, seen, seen.blocks.stacked)
    assert jax.tree.structure(bare) == jax.tree.structure(plain)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(bare), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-7)


def test_the_stream_is_measured_as_by_hand(trunk: Any, gradients: tuple[Any, Any]) -> None:
    (found,) = stack_statistics(gradients[1])
    stem = jax.nn.swish(trunk.norm(trunk.stem(X)))
    np.testing.assert_allclose(found[:, :3], by_hand(trunk.blocks, stem), rtol=1e-4)
    np.testing.assert_array_equal(found[:, 4], np.ones(5))


def test_gradient_norms_are_those_of_the_parameters(gradients: tuple[Any, Any]) -> None:
    plain, seen = gradients
    flat = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(plain.blocks)]
    expected = np.sqrt(sum((leaf.reshape(5, -1) ** 2).sum(axis=1) for leaf in flat))
    np.testing.assert_allclose(stack_statistics(seen)[0][:, 3], expected, rtol=1e-4)
    every = np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(plain)))
    # What was measured is not a gradient and must not count as one.
    assert float(gradient_norm(seen)) == pytest.approx(every, rel=1e-5)


def test_a_stack_of_plain_layers_has_statistics_too() -> None:
    trunk = MLP(4, WIDTH).build(5, key=jax.random.key(1))
    (found,) = stack_statistics(jax.grad(loss)(watched(trunk)))
    np.testing.assert_allclose(found[:, :3], by_hand(trunk.layers, jax.nn.swish(trunk.stem(X))), rtol=1e-4)


class Odd(eqx.Module):
    """Two stacks and one that is never called; the first is called twice, under transformations of JAX."""

    first: Stacked
    idle: Stacked
    second: Stacked

    def __init__(self, key: Array):
        keys = jax.random.split(key, 3)
        layer = lambda key: DenseSwish(5, key=key)  # noqa: E731
        self.first, self.idle, self.second = (
            stack(layer, count, "none", key=k) for count, k in zip((2, 4, 3), keys, strict=True)
        )

    def __call__(self, x: Array) -> Array:
        half = ROWS // 2
        run = jax.jit(jax.checkpoint(lambda stacked, x: stacked(x)))
        x = jnp.concatenate([run(self.first, x[:half]), run(self.first, x[half:])])
        return self.second(x)


def test_statistics_come_out_of_any_network() -> None:
    trunk = Odd(jax.random.key(2))
    gradient = jax.grad(lambda t: jnp.sum(t(X) ** 2))(watched(trunk))
    first, idle, second = stack_statistics(gradient)
    half = ROWS // 2
    np.testing.assert_array_equal(first[:, 4], [2, 2])
    average = (by_hand(trunk.first, X[:half]) + by_hand(trunk.first, X[half:])) / 2
    np.testing.assert_allclose(first[:, :3], average, rtol=1e-4)
    np.testing.assert_array_equal(idle, np.zeros((4, 5)))
    np.testing.assert_allclose(second[:, :3], by_hand(trunk.second, trunk.first(X)), rtol=1e-4)


def test_stacks_of_nothing_and_ensembles_are_left_alone() -> None:
    empty = MLP(1, WIDTH).build(5, key=jax.random.key(3))
    assert stack_statistics(jax.grad(loss)(watched(empty))) == []
    members = eqx.filter_vmap(lambda key: MLP(3, WIDTH).build(5, key=key))(jax.random.split(jax.random.key(4), 6))

    def of_all(members: Any) -> Array:
        return jnp.mean(eqx.filter_vmap(loss)(members))

    gradient = jax.grad(of_all)(watched(members))
    assert stack_statistics(gradient) == []
    np.testing.assert_allclose(gradient_norm(gradient), gradient_norm(jax.grad(of_all)(members)), rtol=1e-6)


def test_a_stream_of_zeros_has_finite_statistics() -> None:
    trunk = MLP(3, WIDTH).build(5, key=jax.random.key(5))
    silent = eqx.tree_at(lambda t: t.stem.weight, trunk, jnp.zeros((5, WIDTH)))
    (found,) = stack_statistics(jax.grad(loss)(watched(silent)))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, :3], np.zeros((2, 3)))


@pytest.mark.parametrize("solver", ["sweeps", "fused"])
def test_every_solver_is_watched_by_the_scan(solver: Any, trunk: Any, gradients: tuple[Any, Any]) -> None:
    other = ResNet(20, WIDTH, depth_solver=solver).build(5, key=jax.random.key(0))
    (found,) = stack_statistics(jax.jit(jax.grad(loss))(watched(other)))
    np.testing.assert_allclose(found, stack_statistics(gradients[1])[0], rtol=1e-5)
