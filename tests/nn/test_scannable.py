"""Blocks that cannot be stacked or scanned: one message with the reason, before anything is computed."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.errors import BrokenPlugin, ConfigError
from eqcrl.nn.base import AbstractBlock
from eqcrl.nn.blocks import DenseNormSwish, DenseSwish, Residual
from eqcrl.nn.scannable import check_call, check_leaves
from eqcrl.nn.stacked import saved_floats_per_row, stack

WIDTH = 6
ROWS = jax.ShapeDtypeStruct((2, WIDTH), jnp.float32)


def block_class(make: Callable[[int, Any], Any], call: Callable[[Any, Any], Any]) -> type[AbstractBlock]:
    """A block with a weight, with what `make(width, key)` gives as its other leaf, and with `call(self, x)`."""

    class Block(AbstractBlock):
        weight: Any
        other: Any

        def __init__(self, width: int, *, key: Any):
            self.weight = jax.random.normal(key, (width, width))
            self.other = make(width, key)

        @staticmethod
        def dense_layers() -> int:
            return 1

        def __call__(self, x: Any) -> Any:
            return call(self, x)

    return Block


def nothing(width: int, key: Any) -> None:
    return None


def plain(block: Any, x: Any) -> Any:
    return x @ block.weight


def by_value(block: Any, x: Any) -> Any:
    if jnp.sum(x) > 0:
        return x @ block.weight
    return x


def many_times(block: Any, x: Any) -> Any:
    for _ in range(jnp.argmax(x)):
        x = x @ block.weight
    return x


def in_numpy(block: Any, x: Any) -> Any:
    return jnp.asarray(np.tanh(np.asarray(x))) @ block.weight


def of_random_size(width: int, key: Any) -> Any:
    return jnp.zeros((width, int(jax.random.randint(key, (), 1, 5))))


def of_traced_size(width: int, key: Any) -> Any:
    return jnp.zeros((width, jax.random.randint(key, (), 1, 5)))


def message(act: Callable[[], Any]) -> str:
    with pytest.raises(BrokenPlugin) as caught:
        act()
    assert caught.value.mend
    assert caught.value.exit_code == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda width, key: "swish", ("its leaf `other` is no JAX array but a str ('swish')", "static=True")),
        (lambda width, key: 0.5, ("its leaf `other` is no JAX array but a float (0.5)", "jnp.asarray")),
        (lambda width, key: 3, ("but an int (3)",)),
        (lambda width, key: jax.nn.relu, ("its leaf `other` is no JAX array but a",)),
        (lambda width, key: {"inner": [jnp.arange(3)]}, ("leaf `other['inner'][0]` has type int32", "no gradient")),
        (lambda width, key: jnp.ones(2, bool), ("has type bool",)),
        (lambda width, key: key, ("has type key<fry>",)),
        (of_random_size, ("asks for the value of something drawn from the key", "int(jax.random.randint")),
        (of_traced_size, ("asks for the value of something drawn from the key", "test_scannable.py line")),
        (lambda width, key: 1 // 0, ("cannot be made: ZeroDivisionError", "1 // 0")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", [lambda block: block, Residual])
def test_blocks_that_cannot_be_stacked(
    make: Callable[[int, Any], Any], said: tuple[str, ...], around: Callable[[Any], Any]
) -> None:
    block = block_class(make, plain)

    def new(key: Any) -> Any:
        return around(block(WIDTH, key=key))

    for act in (
        lambda: stack(new, 3, "none", key=jax.random.key(0)),
        lambda: saved_floats_per_row(new, 3, WIDTH, "none"),
    ):
        told = message(act)
        for part in said:
            assert part in told


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (by_value, ("it asks for the value of its input", "`if jnp.sum(x) > 0:`", "jnp.where or jax.lax.cond")),
        (many_times, ("it asks for the value of its input", "range(jnp.argmax(x))", "while_loop")),
        (in_numpy, ("it asks for the value of its input", "np.asarray(x)", "jax.numpy")),
        (lambda block, x: jnp.concatenate([x, x], -1), ("from shape (2, 6) it makes (2, 12)", "to (*batch, width)")),
        (lambda block, x: x + 0j, ("from float32 it makes complex64", ".astype(x.dtype)")),
        (lambda block, x: (x, block.weight), ("it returns a tuple", "Return one array")),
        (lambda block, x: x @ block.weight[:-1], ("fails on an input of shape (2, 6): TypeError: dot_general",)),
        (lambda block, x: block.absent, ("fails on an input", "AttributeError", "absent")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", [lambda block: block, Residual])
@pytest.mark.parametrize("remat", ["none", "nested"])
def test_blocks_that_cannot_be_scanned(
    call: Callable[[Any, Any], Any], said: tuple[str, ...], around: Callable[[Any], Any], remat: Any
) -> None:
    block = block_class(nothing, call)

    def new(key: Any) -> Any:
        return around(block(WIDTH, key=key))

    stacked = stack(new, 4, remat, key=jax.random.key(0))
    for act in (
        lambda: saved_floats_per_row(new, 4, WIDTH, remat),  # when a run is planned
        lambda: stacked(jnp.ones((2, WIDTH))),
        lambda: jax.eval_shape(jax.grad(lambda s, x: jnp.sum(s(x))), stacked, ROWS),
    ):
        told = message(act)
        assert told.startswith(f"The block {block.__qualname__} ({block.__module__})")
        for part in said:
            assert part in told


def test_the_width_must_be_kept_by_the_whole_and_by_the_branch() -> None:
    """A residual connection broadcasts: what comes out has the right shape, and the branch is no block."""
    block = block_class(nothing, lambda block, x: jnp.mean(x, -1, keepdims=True))
    whole = check_leaves(lambda key: Residual(block(WIDTH, key=key)))
    assert jax.eval_shape(lambda b, x: b(x), whole, ROWS).shape == ROWS.shape
    assert "from shape (2, 6) it makes (2, 1)" in message(lambda: check_call(whole, ROWS))


def test_a_branch_may_be_of_less_precision_the_whole_may_not() -> None:
    block = block_class(nothing, lambda block, x: (x @ block.weight).astype(jnp.bfloat16))
    check_call(check_leaves(lambda key: Residual(block(WIDTH, key=key))), ROWS)
    alone = check_leaves(lambda key: block(WIDTH, key=key))
    assert "from float32 it makes bfloat16" in message(lambda: check_call(alone, ROWS))


def test_a_type_without_gradients_is_no_branch_either() -> None:
    block = block_class(nothing, lambda block, x: x > 0)
    whole = check_leaves(lambda key: Residual(block(WIDTH, key=key)))
    assert "from float32 it makes bool" in message(lambda: check_call(whole, ROWS))


@pytest.mark.parametrize("make", [DenseNormSwish, DenseSwish, block_class(nothing, plain)])
def test_good_blocks_pass_and_keep_their_shapes(make: Any) -> None:
    found = check_leaves(lambda key: Residual(make(WIDTH, key=key)))
    check_call(found, ROWS)
    real = Residual(make(WIDTH, key=jax.random.key(0)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), real
    )


def test_errors_of_ours_pass_through() -> None:
    def refuse(width: int, key: Any) -> Any:
        raise ConfigError("Not with this width.")

    with pytest.raises(ConfigError, match="Not with this width"):
        stack(lambda key: block_class(refuse, plain)(WIDTH, key=key), 2, "none", key=jax.random.key(0))


def test_what_is_not_the_blocks_fault_keeps_its_own_error() -> None:
    stacked = stack(lambda key: DenseSwish(WIDTH, key=key), 3, "none", key=jax.random.key(0))
    broken = eqx.tree_at(lambda s: s.blocks.dense.bias, stacked, jnp.zeros((2, WIDTH)))
    with pytest.raises(ValueError, match="scan got values with different leading axis sizes"):
        broken(jnp.ones((2, WIDTH)))
