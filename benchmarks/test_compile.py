"""Trace plus compile time of a gradient step and of the whole training epoch, width 256, batch 256."""

from collections.abc import Callable
from typing import Any

import jax
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines.unrolled import unroll
from benchmarks.paired import compare
from eqcrl.epoch import Algorithm
from eqcrl.programs import update_options

FLAT = 1.1
"""Bar: depth 1024 may take this many times as long as depth 8."""
LONGEST = 10.0
"""Bar, s: what a gradient step at depth 1024 may take."""


def compiler(algorithm: Algorithm) -> Callable[[], Any]:
    """The epoch's, with what `eqcrl train` tells XLA."""
    return cases.epoch_compiler(algorithm, options=update_options(algorithm))


@pytest.mark.parametrize(("depth", "rounds"), [(8, 4), (64, 3)])
def test_compile_against_unrolled(benchmark: BenchmarkFixture, depth: int, rounds: int) -> None:
    """The scanned epoch against the unrolled one of the same depth."""
    benchmark.group = "compile"
    algorithm = cases.algorithm(depth)
    ours, baseline = compiler(algorithm), cases.epoch_compiler(cases.plain(algorithm), unroll)
    ours()  # the first compilation of a process loads much of JAX; the second is typical
    compare(
        benchmark,
        f"trace + compile of the epoch, depth {depth}",
        ours,
        baseline,
        baseline_name="unrolled layers",
        rounds=rounds,
        warmup=False,
    )


def step_compiler(depth: int) -> Callable[[], Any]:
    """A gradient step's with the humanoid's sizes, and with what `eqcrl train` tells XLA."""
    algorithm = cases.algorithm(depth, env="humanoid")
    state, batch = jax.eval_shape(lambda: (cases.agent_state(algorithm), cases.batch(algorithm)))
    return cases.step_compiler(algorithm.agent, state, batch, update_options(algorithm))


def test_step_compile_is_flat(benchmark: BenchmarkFixture) -> None:
    """A gradient step at depth 1024 against depth 8. Bars: at most 1.1 times as long, and 10 s."""
    benchmark.group = "compile"
    compare(
        benchmark,
        "trace + compile of a gradient step, depth 1024",
        step_compiler(1024),
        step_compiler(8),
        baseline_name="ours at depth 8",
        rounds=7,
        least_ratio=1 / FLAT,
    )
    # By processor time, so that a busy machine does not fail it; on a quiet one both agree.
    assert benchmark.extra_info["cpu_ratio"] >= 1 / FLAT
    assert benchmark.extra_info["ours"] <= LONGEST


def test_compile_is_flat(benchmark: BenchmarkFixture) -> None:
    """The epoch at depth 1024 against depth 8. Bar: at most 1.1 times as long."""
    benchmark.group = "compile"
    deep, shallow = compiler(cases.algorithm(1024)), compiler(cases.algorithm(8))
    compare(
        benchmark,
        "trace + compile of the epoch, depth 1024",
        deep,
        shallow,
        baseline_name="ours at depth 8",
        rounds=5,
        least_ratio=1 / FLAT,
        memory=cases.memory(deep()),
    )
    assert benchmark.extra_info["cpu_ratio"] >= 1 / FLAT


@pytest.mark.parametrize("remat", ["dots", "block", "nested"])
def test_temporaries_at_1024(benchmark: BenchmarkFixture, remat: str) -> None:
    """What each rematerialization policy keeps; the time is that of compiling, the figure is `memory`."""
    benchmark.group = "memory"
    compile_anew = compiler(cases.algorithm(1024, arch__remat=remat))
    compiled = benchmark.pedantic(compile_anew, rounds=1, iterations=1)
    memory = cases.memory(compiled)
    benchmark.extra_info.update({"policy": remat, "depth": 1024, "memory": memory})
    # Networks and optimizers are written over themselves: all results but the metrics share the arguments' memory.
    assert memory["in_place"] >= 0.999 * memory["arguments"]
    assert jax.default_backend() != "cpu" or memory["temporaries"] > 0
