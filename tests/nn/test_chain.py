"""The chain's own backward pass against plain autodiff, in float64 and float32, up to 1024 layers."""

from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.nn.activations import ActivationName
from eqcrl.nn.blocks import DenseNormSwish, Residual
from eqcrl.nn.chain import Layers, chain
from eqcrl.nn.layers import layer_norm
from eqcrl.nn.norms import NormName
from eqcrl.nn.stacked import Remat, stack

WIDTH, ROWS = 8, 5
POLICIES: tuple[Remat, ...] = get_args(Remat)


def plain(layers: Layers, x: jax.Array) -> jax.Array:
    """h_k = swish(LN(h_{k-1} W_k + b_k)), left to autodiff."""
    for weight, bias, scale, shift in zip(*layers, strict=True):
        x = jax.nn.swish(layer_norm(x @ weight + bias, scale, shift))
    return x


def random_layers(seed: int) -> Layers:
    rng = np.random.default_rng(seed)
    shapes = [(3, WIDTH, WIDTH), (3, WIDTH), (3, WIDTH), (3, WIDTH)]
    weight, bias, scale, shift = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    return weight / WIDTH**0.5, 0.1 * bias, 1.0 + 0.3 * scale, 0.2 * shift


@jax.jit
def both_ways(parameters: Layers, x: jax.Array, grad: jax.Array) -> Any:
    value, back = jax.vjp(chain, parameters, x)
    expected, expected_back = jax.vjp(plain, parameters, x)
    return (value, back(grad)), (expected, expected_back(grad))


def relative_error(actual: Any, expected: Any) -> float:
    a, b = (np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(t)]) for t in (actual, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@given(seed=st.integers(0, 999))
def test_values_and_gradients_are_those_of_autodiff(seed: int) -> None:
    """To 1e-10, in float64."""
    with jax.enable_x64(True):
        parameters = random_layers(seed)
        x, grad = jnp.asarray(np.random.default_rng(seed + 1).normal(size=(2, ROWS, WIDTH)))
        (value, ours), (expected, autodiff) = both_ways(parameters, x, grad)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(autodiff), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


def defined(norm: NormName, activation: ActivationName, layers: Layers, x: jax.Array) -> jax.Array:
    """h_k = activation(norm(h_{k-1} W_k + b_k)) from formulas of this file, left to autodiff."""
    weights, biases, gains, shifts = layers
    for k in range(len(weights)):
        x = x @ weights[k] + biases[k]
        if norm == "layer":
            x = x - jnp.mean(x, axis=-1, keepdims=True)
        if norm != "none":
            x = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
        x = x if gains is None else x * gains[k]
        x = x if shifts is None else x + shifts[k]
        below = jax.scipy.stats.norm.cdf(x)
        x = {"swish": x / (1.0 + jnp.exp(-x)), "relu": jnp.where(x > 0.0, x, 0.0), "gelu": x * below}[activation]
    return x


@pytest.mark.parametrize("norm", get_args(NormName))
@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_every_norm_and_activation_has_the_gradients_of_its_definition(
    norm: NormName, activation: ActivationName
) -> None:
    with jax.enable_x64(True):
        weight, bias, gain, shift = random_layers(3)
        parameters = (weight, bias, None if norm == "none" else gain, shift if norm == "layer" else None)
        x, grad = jnp.asarray(np.random.default_rng(4).normal(size=(2, ROWS, WIDTH)))

        @partial(jax.jit, static_argnums=0)
        def run(function: Any, parameters: Layers, x: jax.Array) -> Any:
            value, back = jax.vjp(function, parameters, x)
            return value, back(grad)

        ours = run(lambda layers, x: chain(layers, x, norm, activation), parameters, x)
        expected = run(partial(defined, norm, activation), parameters, x)
        assert jax.tree.structure(ours) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
        assert relative_error(ours, expected) < 1e-13


@pytest.mark.parametrize("depth", [4, 64, 1024])
@pytest.mark.parametrize(("dtype", "limit"), [(jnp.float64, 1e-12), (jnp.float32, 2e-6)], ids=["float64", "float32"])
def test_deep_gradients_equal_autodiffs(depth: int, dtype: Any, limit: float) -> None:
    """A scan of plain blocks, differentiated by JAX, against every policy; relative in the L2 norm."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 2)
        x, grad = (jax.random.normal(k, (ROWS, WIDTH), dtype) for k in keys)

        def parameters(remat: Remat) -> Any:
            blocks = stack(lambda k: Residual(DenseNormSwish(WIDTH, key=k)), depth // 4, remat, key=jax.random.key(0))
            return jax.tree.map(lambda leaf: leaf.astype(dtype), blocks)

        def autodiff(blocks: Any, x: jax.Array) -> jax.Array:
            def body(x: jax.Array, block: Any) -> tuple[jax.Array, None]:
                branch = block.branch
                return x + plain((branch.weight, branch.bias, branch.scale, branch.shift), x), None

            return jax.lax.scan(body, x, blocks.blocks)[0]

        def both(function: Any, blocks: Any) -> Any:
            return jax.jit(lambda b, y: (function(b, y), jax.vjp(function, b, y)[1](grad)))(blocks, x)

        expected, (expected_blocks, expected_x) = both(autodiff, parameters("none"))
        for remat in POLICIES if (depth, dtype) == (64, jnp.float64) else ("none", "block"):
            value, (to_blocks, to_x) = both(lambda blocks, y: blocks(y), parameters(remat))
            assert value.dtype == dtype
            assert relative_error(value, expected) < limit
            assert relative_error(to_x, expected_x) < limit
            assert relative_error(to_blocks, expected_blocks) < limit
