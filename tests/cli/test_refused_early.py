"""Runs that cannot work are refused before anything is compiled: too large, or of a block that does not stack."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command
from eqcrl import device_memory, estimate, registry, run, trainer
from eqcrl.assemble import assemble
from eqcrl.plan import make_plan
from helpers import TINY, assert_message, flags, snapshot, tiny

# More than any machine has, in the smallest of runs.
HUGE = ("--replay.capacity", 10**15)

MODULE = """
import equinox as eqx
import jax
import jax.numpy as jnp
from eqcrl.nn.base import AbstractBlock

class Named(AbstractBlock):
    weight: jax.Array
    activation: str

    def __init__(self, width, *, key):
        self.weight, self.activation = jnp.eye(width), "swish"

    @staticmethod
    def dense_layers():
        return 1

    def __call__(self, x):
        return getattr(jax.nn, self.activation)(x @ self.weight)

class Sized(AbstractBlock):
    weight: jax.Array

    def __init__(self, width, *, key):
        inner = 1 + int(4 * jax.random.uniform(key))
        self.weight = jnp.ones((width, inner))

    @staticmethod
    def dense_layers():
        return 1

    def __call__(self, x):
        return x @ self.weight @ self.weight.T

class Plain(AbstractBlock):
    weight: jax.Array

    def __init__(self, width, *, key):
        self.weight = jnp.eye(width)

    @staticmethod
    def dense_layers():
        return 1

    def __call__(self, x):
        return x @ self.weight

class Choosing(Plain):
    def __call__(self, x):
        if jnp.mean(x) > 0:
            return x @ self.weight
        return x

class Widening(Plain):
    def __call__(self, x):
        return jnp.concatenate([x, x @ self.weight], axis=-1)

class Rounding(Plain):
    def __call__(self, x):
        return jnp.round(x @ self.weight).astype(int)
"""
NAMES = ("Named", "Sized", "Plain", "Choosing", "Widening", "Rounding")


@pytest.fixture
def blocks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution with blocks, most of which cannot be repeated. Its module."""
    folder = tmp_path_factory.mktemp("plugin")
    info = folder / "eqcrl_odd_blocks-0.3.dist-info"
    info.mkdir()
    declared = "".join(f"odd-{name.lower()} = eqcrl_odd_blocks:{name}\n" for name in NAMES)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eqcrl-odd-blocks\nVersion: 0.3\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[eqcrl.blocks]\n{declared}", encoding="utf-8")
    module = folder / "eqcrl_odd_blocks.py"
    module.write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    registry.refresh()
    yield module
    sys.modules.pop("eqcrl_odd_blocks", None)
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def refused(eqcrl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Calls `eqcrl train`; it must refuse with this code, compile no program and write nothing. The message."""

    def too_late(*args: Any, **more: Any) -> Any:
        raise AssertionError("this run should have been refused by now")

    monkeypatch.setattr(trainer, "compile_programs", too_late)
    monkeypatch.setattr(estimate, "estimate", too_late)

    def call(*args: Any, code: int) -> str:
        out = tmp_path / "new"
        answer = eqcrl("train", *flags(TINY), *args, "--out", out)
        assert answer.code == code, answer.err
        assert not out.exists()
        assert snapshot(tmp_path) == {}
        return answer.err

    return call


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--quiet",)])
def test_a_plan_beyond_the_memory_of_this_machine(refused: Callable[..., str], more: tuple[str, ...]) -> None:
    assert_message(
        refused(*HUGE, *more, code=2), "The plan needs", "and there are",
        "networks and Adam", "With --replay.capacity",
    )  # fmt: skip


def test_the_policy_that_would_fit_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {"arch": "resnet-64", "train.batch_size": 64}
    lean = tiny(arch="resnet-64", train__batch_size=64, arch__remat="block")
    needed = make_plan(lean, assemble(lean)).total_bytes()
    for module in (device_memory, run):
        monkeypatch.setattr(module, "device_memory", lambda: device_memory.Memory(needed, "in this test"))
    for more in ((), ("--dry-run",)):
        error = refused(*flags(deep), *more, code=2)
        assert_message(error, "The plan needs", "in this test", "With --arch.remat block it needs")


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("named", ("cannot be stacked: its leaf `activation` is no JAX array but a str ('swish')", "static=True")),
        ("sized", ("cannot be stacked", "drawn from the key", "inner = 1 + int(4 * jax.random.uniform(key))")),
        ("choosing", ("cannot be scanned", "`if jnp.mean(x) > 0:`", "jnp.where or jax.lax.cond")),
        ("widening", ("cannot be scanned: from shape (2, 16) it makes (2, 32)", "width")),
        ("rounding", ("cannot be scanned: from float32 it makes int32", ".astype(x.dtype)")),
    ],
)
def test_a_block_that_cannot_be_repeated(
    refused: Callable[..., str], blocks: Path, name: str, said: tuple[str, ...], more: tuple[str, ...]
) -> None:
    error = refused("--arch.block", f"odd-{name}", *more, code=1)
    assert_message(error, f"The block 'odd-{name}' of eqcrl-odd-blocks 0.3 (eqcrl_odd_blocks:{name.capitalize()})")
    assert_message(error, *said)
    if "line" in error:
        assert str(blocks) in error


def test_the_other_blocks_of_that_distribution_can_be_planned(blocks: Path) -> None:
    config = tiny(arch__block="odd-plain")
    assert make_plan(config, assemble(config)).parameters["actor"] > 0


def test_diagnose_says_so_too(eqcrl: Command, blocks: Path) -> None:
    answer = eqcrl("diagnose", *flags(TINY), "--arch.block", "odd-choosing")
    assert answer.code == 1
    assert_message(answer.err, "The block 'odd-choosing' of eqcrl-odd-blocks 0.3", "`if jnp.mean(x) > 0:`")
