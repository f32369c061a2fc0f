"""Every switch and block of `resnet`: gradients of the definition, memory, program size, precision, refusals."""

from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.agents.abreast import alike
from eqcrl.assemble import build_part
from eqcrl.config import Part
from eqcrl.errors import ConfigError
from eqcrl.nn.actor import TanhGaussianActor
from eqcrl.nn.base import Remat
from eqcrl.nn.blocks import DenseNormActivation, DenseNormSwish, Residual
from eqcrl.nn.encoders import Critic
from eqcrl.nn.precision import products
from eqcrl.nn.resnet import ResNet, ResNetTrunk
from eqcrl.types import EnvSpec

WIDTH, ROWS, INPUT = 8, 5, 3
POLICIES: tuple[Remat, ...] = get_args(Remat)
VARIANTS: dict[str, dict[str, Any]] = {
    "rms": {"norm": "rms"},
    "no norm": {"norm": "none"},
    "relu": {"activation": "relu"},
    "gelu and rms": {"activation": "gelu", "norm": "rms"},
    "no residual": {"residual": False},
    "no residual, relu": {"residual": False, "activation": "relu", "norm": "rms"},
    "hyperspherical": {"block": "hyperspherical"},
    "learned-skip": {"block": "learned-skip"},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def arch(variant: str, depth: int = 16, width: int = WIDTH, **more: Any) -> ResNet:
    return ResNet(depth, width, **VARIANTS[variant], **more)


def built(variant: str, **more: Any) -> Any:
    """With every leaf moved: gains, shifts, shares and rows are tested too."""
    trunk = jax.jit(lambda key: arch(variant, **more).build(INPUT, key=key))(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), trunk)


def unit(x: Any) -> Any:
    return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def columns(weight: Any) -> Any:
    return unit(weight.T).T


def norm_of(z: Any, norm: str, gain: Any, shift: Any) -> Any:
    if norm == "layer":
        z = z - jnp.mean(z, axis=-1, keepdims=True)
    if norm != "none":
        z = z / jnp.sqrt(jnp.mean(z**2, axis=-1, keepdims=True) + 1e-6) * gain
    return z + shift if norm == "layer" else z


ACTIVATE = {
    "swish": lambda x: x / (1.0 + jnp.exp(-x)),
    "relu": lambda x: jnp.where(x > 0.0, x, 0.0),
    "gelu": lambda x: x * jax.scipy.stats.norm.cdf(x),
}


def branch_of(leaves: Any, x: Any, norm: str, activation: str) -> Any:
    for k in range(4):
        gain = None if norm == "none" else leaves.scale[k]
        shift = leaves.shift[k] if norm == "layer" else None
        x = ACTIVATE[activation](norm_of(x @ leaves.weight[k] + leaves.bias[k], norm, gain, shift))
    return x


def defined(trunk: Any, x: Any, settings: ResNet) -> Any:
    """The network from its formulas, block after block in Python, left to autodiff."""
    count, stacked = trunk.blocks.count, trunk.blocks.blocks
    blocks = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]
    if settings.block == "hyperspherical":
        shifted = jnp.concatenate([x, 3.0 * jnp.ones((len(x), 1))], axis=-1)
        stem = trunk.stem
        x = unit((unit(shifted) @ columns(stem.weight)) * stem.scaler)
        for b in blocks:
            target = unit(jnp.maximum((x @ columns(b.inner)) * b.scaler, 0.0) @ columns(b.outer))
            x = unit(x + b.step * WIDTH**0.5 / (count + 1) * (target - x))
        return WIDTH**0.5 * x
    gain, shift = getattr(trunk.norm, "scale", None), getattr(trunk.norm, "shift", None)
    first = norm_of(x @ trunk.stem.weight + trunk.stem.bias, settings.norm, gain, shift)
    streams = [ACTIVATE[settings.activation](first)]
    for i, b in enumerate(blocks):
        leaves = b.branch if isinstance(b, Residual) or settings.block == "learned-skip" else b
        added = branch_of(leaves, streams[-1], settings.norm, settings.activation)
        if not settings.residual:
            streams.append(added)
        elif settings.block == "learned-skip":
            routed = jax.nn.softmax(b.logits[: i + 1] / 0.1)
            weights = b.share * routed + (1.0 - b.share) * jnp.eye(count)[i, : i + 1]
            mixed = sum(w * s for w, s in zip(weights, streams, strict=True))
            streams.append(mixed + settings.branch_scale() * added)
        else:
            streams.append(streams[-1] + settings.branch_scale() * added)
    return streams[-1]


def in_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def pulled_back(function: Callable[[Any, Any], Any], trunk: Any, x: Any, grad: Any) -> Any:
    value, back = jax.vjp(function, trunk, x)
    return value, back(grad)


call = jax.jit(lambda trunk, x, grad: pulled_back(lambda t, x: t(x), trunk, x, grad))


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@each_variant
def test_values_and_gradients_are_those_of_the_definition(variant: str) -> None:
    """To 1e-12 in float64, under several policies; at a depth where the recipe `calm` scales branches."""
    with jax.enable_x64(True):
        rng, depth = np.random.default_rng(2), 20
        x, grad = jnp.asarray(rng.normal(size=(ROWS, INPUT))), jnp.asarray(rng.normal(size=(ROWS, WIDTH)))
        trunk = in_float64(built(variant, depth=depth))
        expected = flat(pulled_back(lambda t, x: defined(t, x, arch(variant, depth)), trunk, x, grad))
        for remat in ("none", "dots", "nested") if variant in ("hyperspherical", "learned-skip") else ("dots",):
            ours = flat(call(in_float64(built(variant, depth=depth, remat=remat)), x, grad))
            assert ours.dtype == np.float64
            assert np.linalg.norm(ours - expected) < 1e-12 * np.linalg.norm(expected), remat


@each_variant
def test_the_program_does_not_grow_with_depth(variant: str) -> None:
    def text(depth: int) -> str:
        trunk = jax.eval_shape(lambda: arch(variant, depth).build(INPUT, key=jax.random.key(0)))
        x = jax.ShapeDtypeStruct((ROWS, INPUT), jnp.float32)
        return jax.jit(jax.grad(lambda t, x: jnp.sum(t(x)))).lower(trunk, x).as_text()

    shallow, deep = text(8), text(64)
    assert shallow.count(" = ") == deep.count(" = ")
    assert len(deep) < 1.05 * len(shallow)


@each_variant
@pytest.mark.parametrize("remat", POLICIES)
def test_saved_floats_are_those_that_autodiff_saves(variant: str, remat: Any) -> None:
    """What the plan's estimate stands on."""
    settings = arch(variant, 64, 16, remat=remat)
    trunk = jax.eval_shape(lambda: settings.build(6, key=jax.random.key(0)))

    def floats(rows: int) -> int:
        x = jax.ShapeDtypeStruct((rows, 6), jnp.float32)
        saved = jax.eval_shape(lambda t, y: jax.vjp(lambda t, y: t(y), t, y)[1], trunk, x)
        return sum(leaf.size for leaf in jax.tree.leaves(saved))

    per_row = floats(2) - floats(1)
    if variant == "learned-skip":
        per_row += 2 * 17 * 16  # what the backward pass makes: the gradients to all streams, twice
    if remat == "nested" and variant != "learned-skip":  # what lives inside a group counts, too
        assert per_row < settings.saved_floats_per_row() < 2.5 * per_row
    else:
        assert settings.saved_floats_per_row() == pytest.approx(per_row, rel=0.25)


@each_variant
def test_networks_are_made_and_called_side_by_side(variant: str) -> None:
    """As twin critics and seeds are: a leading axis of networks."""
    settings = arch(variant)

    def made_and_called(key: Any, x: Any) -> Any:
        net = settings.build(INPUT, key=key)
        return net, eqx.filter_value_and_grad(lambda net: jnp.mean(jnp.sin(net(x))))(net)

    keys, x = jax.random.split(jax.random.key(3), 2), jax.random.normal(jax.random.key(4), (2, ROWS, INPUT))
    together, one = eqx.filter_jit(eqx.filter_vmap(made_and_called))(keys, x), eqx.filter_jit(made_and_called)
    for i in range(2):
        for several, alone in zip(jax.tree.leaves(together), jax.tree.leaves(one(keys[i], x[i])), strict=True):
            np.testing.assert_allclose(several[i], alone, rtol=1e-4, atol=1e-6)
    of_one_input = eqx.filter_vmap(lambda net, x: net(x), in_axes=(eqx.if_array(0), None))
    assert jax.eval_shape(of_one_input, together[0], x[0]).shape == (2, ROWS, WIDTH)


@each_variant
@pytest.mark.parametrize("depth", [4, 256])
def test_fresh_networks_are_finite_and_calm_at_any_depth(variant: str, depth: int) -> None:
    """Features of size one whose gradient reaches the first block, and differs little along the blocks."""
    x = 3.0 * jax.random.normal(jax.random.key(5), (64, INPUT))
    target = jax.random.normal(jax.random.key(6), (64, 32))

    def look(key: Any) -> Any:
        trunk = arch(variant, depth, 32).build(INPUT, key=key)
        return trunk(x), jax.grad(lambda t: jnp.mean((t(x) - target) ** 2))(trunk)

    features, gradient = jax.jit(look)(jax.random.key(depth))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((features, gradient)))
    size = float(jnp.sqrt(jnp.mean(features**2)))
    assert 0.3 < size < 3.0
    if "no residual" not in variant:
        assert float(jnp.std(features, axis=0).mean()) > 0.2 * size
        weights = [leaf for leaf in jax.tree.leaves(gradient.blocks) if leaf.ndim > 2]
        norms = np.sqrt(sum((np.asarray(leaf).reshape(len(leaf), -1) ** 2).sum(axis=1) for leaf in weights))
        assert norms.max() < 4.0 * norms.min()


def test_without_norm_and_residual_nothing_is_left_of_a_deep_network() -> None:
    """What the identity and the norm are for: a hundredth after 4 layers, and zero in float32 after 256."""
    x = jax.random.normal(jax.random.key(5), (16, INPUT))

    def size(depth: int) -> float:
        trunk = ResNet(depth, 32, norm="none", residual=False).build(INPUT, key=jax.random.key(0))
        return float(jnp.sqrt(jnp.mean(jax.jit(lambda t: t(x))(trunk) ** 2)))

    assert 1e-4 < size(4) < 0.05
    assert size(256) == 0.0


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("variant", ["no norm", "hyperspherical", "learned-skip"])
def test_products_follow_the_precision(variant: str, precision: Any) -> None:
    trunk, x, grad = built(variant), jax.random.normal(jax.random.key(7), (ROWS, INPUT)), jnp.ones((ROWS, WIDTH))
    exact = flat(call(trunk, x, grad))
    with products(precision):
        rounded = flat(call(trunk, x, grad))
    assert rounded.dtype == np.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-6 < error < 0.1


def test_the_plain_network_is_what_it_was() -> None:
    """Its own classes, by which schedules know it, and the same first weights whatever the switches say."""
    plain = ResNet(16, WIDTH).build(INPUT, key=jax.random.key(8))
    assert isinstance(plain, ResNetTrunk)
    assert isinstance(plain.blocks.blocks, Residual)
    assert type(plain.blocks.blocks.branch) is DenseNormSwish
    for name, switches in VARIANTS.items():
        if "block" not in switches:
            other: Any = arch(name).build(INPUT, key=jax.random.key(8))
            stacked = other.blocks.blocks
            branch = stacked.branch if isinstance(stacked, Residual) else stacked
            np.testing.assert_array_equal(branch.weight, plain.blocks.blocks.branch.weight)
            np.testing.assert_array_equal(other.stem.weight, plain.stem.weight)


def test_the_general_block_with_the_plain_settings_is_the_plain_block() -> None:
    key, x = jax.random.key(9), jax.random.normal(jax.random.key(10), (ROWS, WIDTH))
    general, plain = DenseNormActivation(WIDTH, "layer", "swish", key=key), DenseNormSwish(WIDTH, key=key)
    np.testing.assert_array_equal(flat(call(general, x, x)), flat(call(plain, x, x)))


@each_variant
def test_no_variant_goes_abreast(variant: str) -> None:
    """The schedule for accelerators knows the plain blocks only."""
    spec = EnvSpec(4, 2, 2)
    for settings, possible in ((ResNet(8, WIDTH), True), (arch(variant, 8), False)):
        actor = jax.eval_shape(lambda s=settings: TanhGaussianActor(s, spec, key=jax.random.key(0)))
        critic = jax.eval_shape(lambda s=settings: Critic(s, spec, 4, key=jax.random.key(0)))
        assert alike(actor, critic) == possible


@pytest.mark.parametrize(
    ("settings", "said", "mend"),
    [
        ({"block": "hyperspherical", "norm": "rms"}, "norm = 'rms' does not fit block = 'hyperspherical'", "leave"),
        ({"block": "learned-skip", "activation": "relu"}, "activation = 'relu' does not fit", "dense-norm-swish"),
        ({"block": "learned-skip", "residual": False}, "residual = false does not fit", "Leave residual out"),
        ({"block": "hyperspherical", "depth_solver": "sweeps"}, "which block = 'hyperspherical' does not", "'scan'"),
        ({"block": "learned-skip", "depth_solver": "fused"}, "which block = 'learned-skip' does not have", "'scan'"),
        ({"residual": False, "depth_solver": "sweeps"}, "which residual = false does not have", "'scan'"),
        ({"norm": "none", "depth_solver": "fused"}, "kernels for LayerNorm and Swish, not for norm = 'none'", "'scan'"),
        ({"block": "hyperspherical", "depth": 15}, "its blocks (hyperspherical) have 2 layers each", "14 or 16"),
    ],
)
def test_combinations_that_do_not_exist_are_refused(settings: dict[str, Any], said: str, mend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNet(**{"depth": 16, "width": WIDTH, **settings})
    assert said in str(caught.value)
    assert mend in str(caught.value.mend)


def test_sweeps_solve_every_residual_variant() -> None:
    x = jax.random.normal(jax.random.key(11), (ROWS, INPUT))
    scan, swept = (
        ResNet(16, WIDTH, norm="rms", activation="gelu", depth_solver=s).build(INPUT, key=jax.random.key(12))
        for s in ("scan", "sweeps")
    )
    np.testing.assert_allclose(swept(x), scan(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["hyperspherical", "learned-skip"])
def test_the_architecture_is_the_block(name: str) -> None:
    """`--arch hyperspherical-16` and `--arch resnet-16 --arch.block hyperspherical` are one network."""
    for params in ({}, {"depth": 16, "width": 32, "remat": "block"}):
        assert build_part("arch", Part(name, params)) == build_part("arch", Part("resnet", {**params, "block": name}))
