"""The walk against `jax.lax.scan`: the same values, gradients and precision, in less memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from eqcrl.nn.precision import Precision, product, products
from eqcrl.nn.walk import Body, walk

COUNT, WIDTH = 6, 8


def plain(x: Array, block: Any) -> Array:
    weight, bias, _ = block
    return x + jnp.tanh(x @ weight + bias)


def keeping_little(x: Array, block: Any) -> Array:
    return jax.checkpoint(plain, prevent_cse=False)(x, block)


def two_at_once(x: Array, block: Any) -> Array:
    """A walk within a walk, of two equal blocks."""
    return walk(plain, x, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), block))


def branching(x: Array, block: Any) -> Array:
    """Keeps booleans as well."""
    weight, bias, _ = block
    return jnp.where(x > 0, x @ weight, x + bias)


def scanned(body: Body, x: Array, blocks: Any) -> Array:
    return jax.lax.scan(lambda x, block: (body(x, block), None), x, blocks)[0]


def given(count: int = COUNT, width: int = WIDTH, rows: int = 3) -> tuple[Array, Any]:
    """An input; weights, biases, and a parameter that no body uses."""
    keys = jax.random.split(jax.random.key(0), 3)
    weight = jax.random.normal(keys[0], (count, width, width)) / width
    return jax.random.normal(keys[2], (rows, width)), (weight, jax.random.normal(keys[1], (count, width)), weight[:, 0])


def value_and_gradients(way: Any, body: Body, x: Array, blocks: Any) -> Any:
    out, back = jax.vjp(lambda x, blocks: way(body, x, blocks), x, blocks)
    return out, back(jnp.cos(out))


@pytest.mark.parametrize("body", [plain, keeping_little, two_at_once, branching])
@pytest.mark.parametrize("compiled", [True, False])
def test_value_and_gradients_are_those_of_a_scan(body: Body, compiled: bool) -> None:
    of_walk, of_scan = (lambda *args, way=way: value_and_gradients(way, body, *args) for way in (walk, scanned))
    if compiled:
        of_walk, of_scan = jax.jit(of_walk), jax.jit(of_scan)
    for a, b in zip(jax.tree.leaves(of_walk(*given())), jax.tree.leaves(of_scan(*given())), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_several_at_once_are_each_by_itself() -> None:
    x, blocks = given()
    singles = [(x, blocks), jax.tree.map(lambda leaf: 2 * leaf, (x, blocks))]
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
    together = jax.vmap(lambda x, blocks: value_and_gradients(walk, keeping_little, x, blocks))(*many)
    for i, single in enumerate(singles):
        alone = value_and_gradients(walk, keeping_little, *single)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_what_the_arrays_begin_as_is_overwritten() -> None:
    """They begin as numbers of the input and of the incoming gradient; neither may come through."""
    x, (weight, bias, unused) = given()
    weight = weight.at[:, 0].set(0.0)
    wild = x.at[:, 0].set(jnp.inf)  # which the body ignores but for its first column
    body = lambda x, block: jnp.where(jnp.isfinite(x), x, 0.0) @ block[0] + block[1]  # noqa: E731
    _, (_, to_blocks) = value_and_gradients(walk, body, wild, (weight, bias, unused))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(to_blocks))
    assert not np.any(to_blocks[2]), "nothing depends on it"


def test_no_rows_are_walked_too() -> None:
    x, blocks = given(rows=0)
    out, (to_x, to_blocks) = value_and_gradients(walk, plain, x, blocks)
    assert out.shape == to_x.shape == (0, WIDTH)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_blocks))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_way_back_has_the_precision_of_the_way_there(precision: Precision) -> None:
    def body(x: Array, block: Any) -> Array:
        return jnp.tanh(product(x, block[0], (((1,), (0,)), ((), ()))))

    x, blocks = given()
    with products(precision):
        out, back = jax.vjp(lambda blocks: walk(body, x, blocks), blocks)
        inside = back(out)
    outside = back(out)
    for a, b in zip(jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="copies of zeros are made on CPUs")
def test_it_needs_less_memory_than_a_scan() -> None:
    """Two networks whose arrays have the same shapes, which XLA would begin as copies of the same zeros."""
    x, blocks = given(count=32, width=64, rows=64)

    def temporaries(way: Any) -> int:
        def sizes(x: Array, blocks: Any) -> Array:
            both = [value_and_gradients(way, keeping_little, x * k, blocks)[1] for k in (1.0, 2.0)]
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(both))

        return jax.jit(sizes).lower(x, blocks).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(walk) < 0.9 * temporaries(scanned)
