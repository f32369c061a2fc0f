"""The scanned stack against the same blocks applied one by one, for every remat policy and up to 1024 layers."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from eqcrl.nn.base import AbstractBlock
from eqcrl.nn.blocks import DenseNormSwish, DenseSwish, Residual
from eqcrl.nn.layers import layer_norm
from eqcrl.nn.stacked import Remat, Stacked, group_size, saved_floats_per_row, stack
from eqcrl.types import Key

WIDTH = 8


class PlainBlock(AbstractBlock):
    """As a third party would write one: Dense, LayerNorm, Swish, and nothing about gradients."""

    weight: Float[Array, "width width"]

    def __init__(self, width: int, *, key: Key):
        self.weight = jax.random.normal(key, (width, width)) / width**0.5

    @staticmethod
    def dense_layers() -> int:
        return 1

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        width = x.shape[-1]
        return x + jax.nn.swish(layer_norm(x @ self.weight, jnp.ones(width), jnp.zeros(width)))


POLICIES: tuple[Remat, ...] = get_args(Remat)


def residual_stack(depth: int, remat: Remat) -> Stacked:
    return stack(lambda key: Residual(DenseNormSwish(WIDTH, key=key)), depth // 4, remat, key=jax.random.key(0))


def block_number(stacked: Stacked, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stacked.blocks)


@jax.jit
def apply(block: AbstractBlock, x: jax.Array) -> jax.Array:
    return block(x)


@jax.jit
def pull_back(block: AbstractBlock, x: jax.Array, grad: jax.Array) -> tuple[AbstractBlock, jax.Array]:
    return jax.vjp(lambda b, y: b(y), block, x)[1](grad)


def layer_by_layer(stacked: Stacked, x: jax.Array, grad: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
    """Value and gradients (to the blocks, to the input) by a Python loop and the chain rule, block after block."""
    blocks = [block_number(stacked, i) for i in range(stacked.count)]
    inputs = [x]
    for block in blocks:
        inputs.append(apply(block, inputs[-1]))
    to_blocks = []
    for block, before in zip(reversed(blocks), reversed(inputs[:-1]), strict=True):
        to_block, grad = pull_back(block, before, grad)
        to_blocks.append(to_block)
    return inputs[-1], jax.tree.map(lambda *leaves: jnp.stack(leaves), *reversed(to_blocks)), grad


def relative_error(actual: Any, expected: Any) -> float:
    a, b = (np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(t)]) for t in (actual, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("remat", POLICIES)
@pytest.mark.parametrize("depth", [4, 64, 1024])
def test_the_scan_equals_the_loop_over_layers(depth: int, remat: Remat) -> None:
    stacked = residual_stack(depth, remat)
    x, grad = jax.random.normal(jax.random.key(1), (2, 3, WIDTH))
    value, (to_stacked, to_x) = jax.jit(lambda s, y: (s(y), jax.vjp(lambda s, y: s(y), s, y)[1](grad)))(stacked, x)
    expected, expected_blocks, expected_x = layer_by_layer(stacked, x, grad)
    assert np.all(np.isfinite(value))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(to_stacked))
    assert relative_error(value, expected) < 3e-6
    assert relative_error(to_stacked.blocks, expected_blocks) < 1e-5
    assert relative_error(to_x, expected_x) < 1e-5


def test_policies_agree_with_each_other_bit_for_bit_forward() -> None:
    x = jax.random.normal(jax.random.key(1), (3, WIDTH))
    values = [np.asarray(jax.jit(lambda s, y: s(y))(residual_stack(64, remat), x)) for remat in POLICIES]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    np.testing.assert_array_equal(values[0], values[3])


def floats_saved(stacked: Stacked, x: jax.Array) -> int:
    """Floats that the backward pass is handed beside the parameters."""
    saved = jax.eval_shape(lambda s, y: jax.vjp(lambda s, y: s(y), s, y)[1], stacked, x)
    return sum(leaf.size for leaf in jax.tree.leaves(saved)) - sum(leaf.size for leaf in jax.tree.leaves(stacked))


def test_policies_keep_what_their_table_says() -> None:
    """block: one input per block and row; dots: four products more, and two numbers for each; nested: a few inputs."""
    x = jnp.ones((512, WIDTH))
    per_block = {remat: floats_saved(residual_stack(64, remat), x) / (16 * x.size) for remat in POLICIES}
    assert per_block["block"] == pytest.approx(1.0, abs=0.2)
    assert per_block["dots"] == pytest.approx(5.0 + 8 / WIDTH, abs=0.2)
    assert per_block["none"] == pytest.approx(5.0 + 8 / WIDTH, abs=0.2)  # what the block's own backward pass keeps
    assert per_block["nested"] == pytest.approx(0.25, abs=0.1)  # the inputs of four groups of four


def test_a_block_without_a_backward_pass_of_its_own_gets_the_policies_too() -> None:
    x = jnp.ones((512, WIDTH))

    def kept(remat: Remat) -> float:
        stacked = stack(lambda key: PlainBlock(WIDTH, key=key), 16, remat, key=jax.random.key(0))
        return floats_saved(stacked, x) / (16 * x.size)

    assert kept("none") > 4.0
    assert kept("dots") == pytest.approx(2.0, abs=0.2)
    assert kept("block") == pytest.approx(1.0, abs=0.2)
    assert kept("nested") == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (4, 2), (16, 4), (256, 16), (12, 3), (7, 1), (18, 3)])
def test_groups_are_divisors_near_the_root(count: int, size: int) -> None:
    assert count % group_size(count) == 0
    assert abs(np.log(group_size(count) ** 2 / count)) <= abs(np.log(size**2 / count)) + 1e-9


@pytest.mark.parametrize("remat", POLICIES)
def test_the_estimate_of_what_is_kept_is_what_is_kept(remat: Remat) -> None:
    x = jnp.ones((512, WIDTH))
    estimate = saved_floats_per_row(lambda key: Residual(DenseNormSwish(WIDTH, key=key)), 16, WIDTH, remat)
    kept = floats_saved(residual_stack(64, remat), x) / len(x)
    if remat == "nested":  # the estimate counts the inputs within a group too, which live during its turn
        kept += 4 * WIDTH
    assert estimate == pytest.approx(kept, rel=0.1)


def test_blocks_are_initialized_independently() -> None:
    stacked = residual_stack(16, "none")
    weights = [np.asarray(block_number(stacked, i).branch.weight) for i in range(4)]
    assert all(not np.any(weights[i] == weights[j]) for i in range(4) for j in range(i))
    again = residual_stack(16, "block")
    np.testing.assert_array_equal(again.blocks.branch.weight, stacked.blocks.branch.weight)


def test_a_stack_of_nothing_is_the_identity() -> None:
    stacked = stack(lambda key: DenseSwish(WIDTH, key=key), 0, "none", key=jax.random.key(0))
    x = jnp.ones((2, WIDTH))
    np.testing.assert_array_equal(stacked(x), x)
    assert all(leaf.size == 0 for leaf in jax.tree.leaves(stacked))


@pytest.mark.parametrize("remat", POLICIES)
def test_the_program_does_not_grow_with_depth(remat: Remat) -> None:
    def text(depth: int) -> str:
        stacked = residual_stack(depth, remat)
        return str(jax.make_jaxpr(jax.grad(lambda s, y: jnp.sum(s(y))))(stacked, jnp.ones((2, WIDTH))))

    shallow, deep = text(16), text(1024)
    assert shallow.count(" = ") == deep.count(" = ")
    assert len(deep) < 1.05 * len(shallow)
