"""The residual network: structure against NumPy, sizes against the paper, depths that do not exist."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.errors import ConfigError
from eqcrl.nn.actor import TanhGaussianActor
from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.encoders import Critic
from eqcrl.nn.resnet import ResNet
from eqcrl.types import EnvSpec

HUMANOID = EnvSpec(268, 17, 3)


def perturbed(tree: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), tree)


@pytest.mark.parametrize("depth", [4, 8, 64])
def test_matches_numpy(
    depth: int, float64: Callable[[Any], Any], numpy_resnet: Callable[[Any, np.ndarray], np.ndarray]
) -> None:
    trunk = perturbed(ResNet(depth, 8).build(5, key=jax.random.key(depth)), depth)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    expected = numpy_resnet(float64(trunk), x.astype(float))
    np.testing.assert_allclose(trunk(jnp.asarray(x)), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("remat", ["none", "dots", "block", "nested"])
def test_gradient_matches_numpy(
    remat: str,
    float64: Callable[[Any], Any],
    numpy_resnet: Callable[[Any, np.ndarray], np.ndarray],
    slope: Callable[..., float],
) -> None:
    trunk = perturbed(ResNet(12, 8, remat=remat).build(5, key=jax.random.key(0)), 0)
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    gradient = jax.grad(lambda t: jnp.sum(jnp.asarray(weight) * t(jnp.asarray(x))))(trunk)
    point = float64(trunk)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        expected = slope(lambda t: float((weight * numpy_resnet(t, x.astype(float))).sum()), point, direction)
        actual = sum(
            float(np.sum(g * d)) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        assert actual == pytest.approx(expected, rel=2e-4, abs=2e-4)


def test_the_parts_are_stem_norm_and_residual_blocks() -> None:
    trunk = ResNet(12, 16).build(5, key=jax.random.key(0))
    assert trunk.stem.weight.shape == (5, 16)
    assert trunk.norm.scale.shape == (16,)
    assert trunk.blocks.count == 3
    assert isinstance(trunk.blocks.blocks, Residual)
    assert isinstance(trunk.blocks.blocks.branch, DenseNormSwish)
    assert trunk.blocks.blocks.branch.weight.shape == (3, 4, 16, 16)
    # Nothing else: no final norm.
    assert len(jax.tree.leaves(trunk)) == 2 + 2 + 4


def test_silent_blocks_leave_the_stem() -> None:
    """The identity is added after the last activation, so a branch that gives 0 changes nothing."""
    trunk = ResNet(8, 16).build(5, key=jax.random.key(0))
    silent = eqx.tree_at(lambda t: t.blocks.blocks.branch.scale, trunk, jnp.zeros((2, 4, 16)))
    x = jax.random.normal(jax.random.key(1), (3, 5))
    np.testing.assert_array_equal(silent(x), jax.nn.swish(trunk.norm(trunk.stem(x))))
    assert not np.allclose(trunk(x), silent(x))


@pytest.mark.parametrize("depth", [16, 20, 64])
def test_the_calm_recipe_adds_each_branch_over_the_number_of_blocks(
    depth: int, float64: Callable[[Any], Any], numpy_resnet: Callable[[Any, np.ndarray], np.ndarray]
) -> None:
    """The same parameters as the paper's, and NumPy's answer with the branches scaled."""
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    calm, paper = (ResNet(depth, 8, recipe=r).build(5, key=jax.random.key(1)) for r in ("calm", "paper"))
    for a, b in zip(jax.tree.leaves(calm), jax.tree.leaves(paper), strict=True):
        np.testing.assert_array_equal(a, b)
    assert calm.blocks.blocks.scale == min(1.0, 16 / depth)
    assert paper.blocks.blocks.scale == 1.0
    for trunk in (calm, paper):
        expected = numpy_resnet(float64(trunk), x.astype(float))
        np.testing.assert_allclose(trunk(jnp.asarray(x)), expected, rtol=2e-5, atol=2e-5)
    difference = float(np.abs(calm(jnp.asarray(x)) - paper(jnp.asarray(x))).max())
    assert (difference == 0.0) == (depth == 16), "up to four blocks the two recipes are one network"


def test_the_calm_stream_does_not_grow_with_depth_and_the_papers_does() -> None:
    """Features of 16 blocks and of 256, before any training; the paper's grow in proportion."""
    x = jax.random.normal(jax.random.key(2), (32, 5))

    def size(recipe: Any, depth: int) -> float:
        trunk = ResNet(depth, 16, recipe=recipe).build(5, key=jax.random.key(3))
        return float(jnp.sqrt(jnp.mean(jax.jit(lambda t, x: t(x))(trunk, x) ** 2)))

    assert size("calm", 1024) == pytest.approx(size("calm", 64), rel=0.25)
    assert size("paper", 1024) > 8 * size("paper", 64)


def test_one_step_of_adam_moves_a_calm_trunk_by_the_same_at_any_depth() -> None:
    """Adam's first step is the sign of the gradient times the rate: what kills the paper's deepest actors."""
    x = jax.random.normal(jax.random.key(4), (32, 5))

    def moved(recipe: Any, depth: int) -> float:
        trunk = ResNet(depth, 16, recipe=recipe).build(5, key=jax.random.key(5))
        weights = jax.random.normal(jax.random.key(6), (16,)) / 4

        def change(trunk: Any) -> Any:
            gradient = jax.grad(lambda t: jnp.mean(t(x) @ weights))(trunk)
            stepped = jax.tree.map(lambda leaf, g: leaf - 3e-4 * jnp.sign(g), trunk, gradient)
            return jnp.sqrt(jnp.mean(((stepped(x) - trunk(x)) @ weights) ** 2))

        return float(jax.jit(change)(trunk))

    assert moved("calm", 1024) < 2 * moved("calm", 64)
    assert moved("paper", 1024) > 4 * moved("paper", 64)


def sizes(depth: int) -> dict[str, int]:
    """Parameters of the three networks, of shapes only."""
    arch = ResNet(depth, 256)
    actor = jax.eval_shape(lambda: TanhGaussianActor(arch, HUMANOID, key=jax.random.key(0)))
    critic = jax.eval_shape(lambda: Critic(arch, HUMANOID, 64, key=jax.random.key(0)))
    nets = {"actor": actor, "phi": critic.state_action, "psi": critic.goal}
    return {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in nets.items()}


@pytest.mark.parametrize(
    ("depth", "actor", "phi", "psi", "digits"),
    [(4, 0.34, 0.36, 0.28, 2), (64, 4.3, 4.3, 4.3, 1), (256, 17, 17, 17, 0)],
)
def test_parameter_counts_are_those_of_the_paper(depth: int, actor: float, phi: float, psi: float, digits: int) -> None:
    millions = {name: round(size / 1e6, digits) for name, size in sizes(depth).items()}
    assert millions == {"actor": actor, "phi": phi, "psi": psi}


def test_the_largest_run_of_the_paper_has_170_million_parameters() -> None:
    """Critics of depth 1024 and an actor of depth 512."""
    critics = sizes(1024)
    assert round((critics["phi"] + critics["psi"] + sizes(512)["actor"]) / 1e6) == 170


def test_parameter_counts_by_formula() -> None:
    width, layer = 256, 256 * 256 + 3 * 256
    trunk = {"actor": 271 * width, "phi": 285 * width, "psi": 3 * width}
    heads = {"actor": 2 * 17 * (width + 1), "phi": 64 * (width + 1), "psi": 64 * (width + 1)}
    assert sizes(64) == {name: trunk[name] + 3 * width + 64 * layer + heads[name] for name in trunk}


@pytest.mark.parametrize(
    ("depth", "mend"), [(10, "8 or 12"), (2, "depth 4"), (1, "depth 4"), (1023, "1020 or 1024"), (0, "depth 4")]
)
def test_a_depth_between_is_refused_with_the_nearest_ones(depth: int, mend: str) -> None:
    with pytest.raises(ConfigError, match=mend) as caught:
        ResNet(depth)
    assert f"depth {depth} " in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.integers(1, 5000))
def test_multiples_of_four_exist_and_no_other_depth(depth: int) -> None:
    if depth % 4 == 0:
        assert ResNet(depth).depth == depth
        return
    with pytest.raises(ConfigError) as caught:
        ResNet(depth)
    near = [int(word) for word in str(caught.value.mend).rstrip(".").split() if word.isdigit()]
    assert all(ResNet(d).depth == d for d in near)
    assert max(near) - depth < 4
    assert len(near) == 2 or depth < 4


def test_auto_remat_keeps_products_and_from_256_layers_on_block_inputs() -> None:
    assert [ResNet(d).remat_policy() for d in (4, 64, 252, 256, 1024)] == ["dots"] * 3 + ["block"] * 2
    assert ResNet(1024, remat="none").remat_policy() == "none"


@pytest.mark.parametrize("remat", ["none", "dots", "block", "nested"])
def test_saved_floats_are_of_the_size_that_autodiff_saves(remat: str) -> None:
    """The estimate that the memory forecast stands on, against the residuals of the backward pass."""
    arch, rows = ResNet(64, 32, remat=remat), 128
    trunk = jax.eval_shape(lambda: arch.build(6, key=jax.random.key(0)))
    x = jax.ShapeDtypeStruct((rows, 6), jnp.float32)
    saved = jax.eval_shape(lambda t, y: jax.vjp(lambda t, y: t(y), t, y)[1], trunk, x)
    floats = sum(leaf.size for leaf in jax.tree.leaves(saved)) - sum(leaf.size for leaf in jax.tree.leaves(trunk))
    assert arch.saved_floats_per_row() == pytest.approx(floats / rows, rel=0.35)


def test_depth_1024_in_fp32_is_finite_with_finite_gradients() -> None:
    trunk = ResNet(1024, 8).build(3, key=jax.random.key(0))
    value, gradient = jax.jit(jax.value_and_grad(lambda t, x: jnp.mean(t(x))))(trunk, 100 * jnp.ones((1, 3)))
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    # It arrives: the first block still learns.
    assert float(jnp.abs(gradient.blocks.blocks.branch.weight[0]).max()) > 0
