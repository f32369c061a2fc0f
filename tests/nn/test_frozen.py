"""Rows that teach nothing: one walk against the definition, two calls of which one is frozen."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn.base import AbstractPartlyFrozen, AbstractSharedWalk
from eqcrl.nn.blocks import DenseNormSwish, DenseSwish, Residual
from eqcrl.nn.encoders import Encoder
from eqcrl.nn.frozen import partly_frozen, shared_walk
from eqcrl.nn.layers import Dense, LayerNorm
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet, ResNetTrunk
from eqcrl.nn.stacked import stack

LAYERS: dict[str, Callable[[jax.Array], Any]] = {
    "block": lambda key: DenseNormSwish(6, key=key),
    "residual": lambda key: Residual(DenseNormSwish(6, key=key), 0.5),
    "residual of a plain block": lambda key: Residual(DenseSwish(6, key=key)),
    "stack": lambda key: stack(lambda k: Residual(DenseNormSwish(6, key=k)), 3, "dots", key=key),
    "stack of plain blocks": lambda key: stack(lambda k: DenseSwish(6, key=k), 3, "block", key=key),
    "nested stack": lambda key: stack(lambda k: Residual(DenseNormSwish(6, key=k)), 6, "nested", key=key),
    "plain layer": lambda key: Dense(6, 4, key=key),
}
NETWORKS: dict[str, Callable[[jax.Array], Any]] = {
    "resnet": lambda key: ResNet(8, 6).build(6, key=key),
    "resnet of plain blocks": lambda key: ResNetTrunk(
        Dense(6, 6, key=key), LayerNorm(6), stack(lambda k: Residual(DenseSwish(6, key=k)), 2, "dots", key=key)
    ),
    "mlp": lambda key: MLP(2, 6).build(6, key=key),
    "encoder": lambda key: Encoder(ResNet(4, 6), 6, 3, key=key),
    "encoder of an mlp": lambda key: Encoder(MLP(2, 6), 6, 3, key=key),
}


def assert_same(one: Any, other: Any, *inputs: Any) -> None:
    """Values and gradients to everything, for a random cotangent; one compiled program for both."""
    rows = jax.eval_shape(one, *inputs).shape
    grad = jnp.asarray(np.random.default_rng(0).normal(size=rows), jnp.float32)

    @jax.jit
    def pulled(*inputs: Any) -> Any:
        return [(value, back(grad)) for value, back in (jax.vjp(f, *inputs) for f in (one, other))]

    ours, definition = (jax.tree.leaves(found) for found in pulled(*inputs))
    for a, b in zip(ours, definition, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "learning"), [*((name, 3) for name in LAYERS), ("block", 0), ("block", 5)])
def test_partly_frozen(name: str, learning: int) -> None:
    layer, x = LAYERS[name](jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 6))
    assert_same(
        lambda layer, x: partly_frozen(layer, x, learning),
        lambda layer, x: jnp.concatenate([layer(x[:learning]), jax.lax.stop_gradient(layer)(x[learning:])]),
        layer,
        x,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_shared_walk(name: str) -> None:
    network = NETWORKS[name](jax.random.key(0))
    x, frozen = jax.random.normal(jax.random.key(1), (4, 6)), jax.random.normal(jax.random.key(2), (3, 6))
    assert_same(
        shared_walk,
        lambda network, x, frozen: jnp.concatenate([network(x), jax.lax.stop_gradient(network)(frozen)]),
        network,
        x,
        frozen,
    )


def test_the_papers_network_walks_once() -> None:
    """One scan over the blocks where the definition has two: the point of it."""
    encoder, x = NETWORKS["encoder"](jax.random.key(0)), jnp.ones((4, 6))
    assert isinstance(encoder, AbstractSharedWalk)
    assert isinstance(encoder.trunk.blocks, AbstractPartlyFrozen)
    twice = jax.make_jaxpr(lambda net, x: (net(x), jax.lax.stop_gradient(net)(x)))(encoder, x)
    assert str(jax.make_jaxpr(shared_walk)(encoder, x, x)).count("scan[") == 1
    assert str(twice).count("scan[") == 2
