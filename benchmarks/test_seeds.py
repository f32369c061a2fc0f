"""Whole epochs of several seeds as one program, as `--num-seeds` trains them, on a point maze at batch 128.

Collecting and learning in the proportion of the quickstart: one gradient step per 51 environment steps of a seed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.apart import Apart
from benchmarks.paired import compare, record
from eqcrl import epoch as ep
from eqcrl.trainer import INIT_STREAM, stream

SEEDS, ROUNDS, LIMIT = 4, 5, 300.0
CASES = [(4, 32), (4, 64), (16, 32), (16, 64)]
UPDATES, PREFILL = 50, 3


class Epochs:
    """Compiled epochs of some seeds, one epoch of each per call; a group of seeds is one program."""

    def __init__(self, depth: int, width: int, groups: Sequence[Sequence[int]]):
        algorithm = cases.algorithm(
            depth, width, 128, train__unroll_length=10, train__updates_per_epoch=UPDATES, replay__min_filled=10
        )
        alone = len(groups[0]) == 1

        def compiled(function: Any, example: Any, donated: tuple[int, ...] = (0,)) -> Any:
            function = function if alone else jax.vmap(function)
            return jax.jit(function, donate_argnums=donated).lower(example).compile()

        keys = [jnp.stack([stream(seed, INIT_STREAM) for seed in group]) for group in groups]
        keys = [key[0] for key in keys] if alone else keys
        init = compiled(lambda key: ep.init(algorithm, key=key), keys[0], donated=())
        self.states = [init(key) for key in keys]
        collect = compiled(lambda state: ep.collect(algorithm, state), self.states[0])
        for _ in range(PREFILL):
            self.states = [collect(state) for state in self.states]
        self.epoch = compiled(lambda state: ep.epoch(algorithm, state), self.states[0])
        self.memory = cases.memory(self.epoch)
        self.facts = {"memory": self.memory}

    def __call__(self) -> None:
        """An epoch of every seed, finished on return."""
        for i, state in enumerate(self.states):
            self.states[i], _ = jax.block_until_ready(self.epoch(state))


@pytest.mark.parametrize(("depth", "width"), CASES)
def test_one_program_beside_one_seed_after_another(benchmark: BenchmarkFixture, depth: int, width: int) -> None:
    """Four seeds mapped, and four calls of the program of one."""
    benchmark.group = "seeds"
    together, alone = (
        Epochs(depth, width, [range(SEEDS)]),
        Epochs(depth, width, [[seed] for seed in range(SEEDS)]),
    )
    compare(
        benchmark,
        f"{SEEDS} seeds, depth {depth}, width {width}",
        together,
        alone,
        baseline_name="one after another",
        rounds=ROUNDS,
        amount=SEEDS * UPDATES,
        unit="steps/s",
        memory=together.memory,
        baseline_memory=alone.memory,
    )


@pytest.fixture
def two_processes(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two processes that take epochs of two seeds each at the same time."""
    depth, width = request.param
    processes = [Apart(Epochs, depth, width, [pair], limit=LIMIT, environment={}) for pair in ([0, 1], [2, 3])]

    def both() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda process: process(), processes))

    yield both
    for process in processes:
        process.close()


@pytest.mark.parametrize("two_processes", CASES, indirect=True, ids=str)
def test_one_program_beside_two_processes(
    benchmark: BenchmarkFixture, two_processes: Any, request: pytest.FixtureRequest
) -> None:
    """Four seeds mapped, and two processes with two seeds mapped in each; by wall time alone."""
    depth, width = request.node.callspec.params["two_processes"]
    benchmark.group = "seeds"
    case = f"{SEEDS} seeds, depth {depth}, width {width}, processes"
    compare(
        benchmark,
        case,
        Epochs(depth, width, [range(SEEDS)]),
        two_processes,
        baseline_name="two processes of two seeds",
        rounds=ROUNDS,
        amount=SEEDS * UPDATES,
        unit="steps/s",
    )
    # The processor time of this process says nothing of the others.
    record(benchmark, case, baseline_cpu=None, cpu_ratio=None, cpu_ratio_spread=None)
