"""The fused kernels, in JAX's interpreter of GPU kernels, against the plain walk."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks
from jaxtyping import Array

from eqcrl.nn import abreast, fused
from eqcrl.nn.blocks import DenseNormSwish
from eqcrl.nn.layers import normalize

LEAVES = ("weight", "bias", "scale", "shift")


def branches(blocks: int, width: int, *, seed: int) -> DenseNormSwish:
    """A stack of branches in which no parameter is zero or one."""
    keys = jax.random.split(jax.random.key(seed), blocks + 3)
    stack = jax.vmap(lambda key: DenseNormSwish(width, key=key))(keys[3:])

    def moved(leaf: Array, key: Array) -> Array:
        return leaf + 0.1 * jax.random.normal(key, leaf.shape)

    leaves = (moved(stack.bias, keys[0]), moved(stack.scale, keys[1]), moved(stack.shift, keys[2]))
    return eqx.tree_at(lambda b: (b.bias, b.scale, b.shift), stack, leaves)


def rounded(x: Array) -> Array:
    """To bfloat16 and back, with the gradient of the identity."""
    return x + jax.lax.stop_gradient(x.astype(jnp.bfloat16).astype(x.dtype) - x)


def plain(stack: DenseNormSwish, scale: float, x: Array) -> Array:
    """The walk written out; operands of the products are rounded like those of a tensor core."""
    for b in range(stack.weight.shape[0]):
        h = x
        for k in range(stack.weight.shape[1]):
            product = jnp.matmul(rounded(h), rounded(stack.weight[b, k]), precision="highest")
            h = jax.nn.swish(normalize(product + stack.bias[b, k])[0] * stack.scale[b, k] + stack.shift[b, k])
        x = x + scale * h
    return x


def difference(x: Array, y: Array) -> float:
    """Root mean square of x - y over that of y."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


@pytest.mark.thorough
def test_the_tests_in_the_interpreter_pass() -> None:
    """Those marked so, of this file and of the schedule's, in a process of their own.

    The interpreter blocks a thread of XLA's pool for each warpgroup and waits for ever if there are too few. How many
    there are is decided when a process runs its first program.
    """
    tests = Path(__file__).parents[1]
    files = [tests / "nn" / "test_fused.py", tests / "agents" / "test_fused_schedule.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "interpreter", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *map(str, files)],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"NPROC": "8"},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout, done.stdout


@pytest.mark.interpreter
@pytest.mark.parametrize(("blocks", "width", "rows"), [(2, 64, 70), (1, 128, 40)])
def test_walk_and_gradients_are_those_of_the_plain_walk(blocks: int, width: int, rows: int) -> None:
    stack = branches(blocks, width, seed=0)
    x = jax.random.normal(jax.random.key(7), (rows, width))
    along = jax.random.normal(jax.random.key(8), (rows, width))
    out, back = jax.vjp(lambda stack, x: fused.fused_blocks(stack, 0.5, x, interpret=True), stack, x)
    expected, expected_back = jax.vjp(lambda stack, x: plain(stack, 0.5, x), stack, x)
    # Sums in another order make another operand round the other way now and then; nothing else differs.
    assert difference(out, expected) < 5e-4
    (to_stack, to_x), (expected_stack, expected_x) = back(along), expected_back(along)
    # Two to the power of minus eight is the rounding of bfloat16.
    assert difference(to_x, expected_x) < 2**-8
    for name in LEAVES:
        assert difference(getattr(to_stack, name), getattr(expected_stack, name)) < 2 * 2**-8, name
    assert not gpu_callbacks.get_races().races_found


@pytest.mark.interpreter
def test_networks_side_by_side_are_walked_like_abreast() -> None:
    stacks = [branches(1, 64, seed=seed) for seed in (1, 2)]
    x, along = jax.random.normal(jax.random.key(3), (2, 2, 64, 64))
    out, kept = fused.forward(stacks, 1.0, x, interpret=True)
    expected, expected_kept = abreast.forward(stacks, 1.0, x)
    assert difference(out, expected) < 2 * 2**-8
    to_x, to_stacks = fused.backward(stacks, 1.0, kept, along, interpret=True)
    expected_x, expected_stacks = abreast.backward(stacks, 1.0, expected_kept, along)
    assert difference(to_x, expected_x) < 4 * 2**-8
    for found, sought in zip(to_stacks, expected_stacks, strict=True):
        for name in LEAVES:
            assert difference(getattr(found, name), getattr(sought, name)) < 4 * 2**-8, name


@pytest.mark.parametrize(("width", "rows", "layers"), [(64, 1, 4), (128, 70, 1024), (192, 512, 64), (256, 4096, 12)])
def test_sizes_that_exist(width: int, rows: int, layers: int) -> None:
    assert fused.unsupported(width, rows, layers) is None


@pytest.mark.parametrize(
    ("width", "rows", "layers", "word"),
    [(100, 64, 4, "width"), (320, 64, 4, "width"), (0, 64, 4, "width"), (64, 0, 4, "row"), (64, 64, 0, "layer")],
)
def test_sizes_that_do_not_exist_have_a_reason(width: int, rows: int, layers: int, word: str) -> None:
    assert word in (fused.unsupported(width, rows, layers) or "")


def test_a_walk_of_a_size_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        fused.fused_blocks(branches(1, 32, seed=0), 1.0, jnp.zeros((64, 32)))


@pytest.mark.parametrize(
    ("platform", "capability", "word"),
    [("gpu", "9.0", None), ("gpu", "8.0", "8.0"), ("gpu", "10.0", "10.0"), ("tpu", None, "Hopper")],
)
def test_only_hopper_runs_them(platform: str, capability: Any, word: str | None) -> None:
    device: Any = SimpleNamespace(platform=platform, device_kind="some chip", compute_capability=capability)
    reason = fused.unsupported_device(device)
    assert reason is None if word is None else word in (reason or "")


def test_this_machine_is_named() -> None:
    assert "cpu" in (fused.unsupported_device(jax.devices("cpu")[0]) or "")
