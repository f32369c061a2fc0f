"""Replay: sampling of relabelled pairs and insertion, 256 environments x 10,000 steps."""

import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines import rolling, windowed
from benchmarks.paired import compare
from eqcrl.envs.base import spec_of
from eqcrl.relabel import Geometric
from eqcrl.replay import empty, insert, sample
from eqcrl.types import EnvSpec

CAPACITY, ENVS, EPISODE = 10_000, 256, 1000
GAMMA = 0.99
WINDOWS, WINDOW = 16, 1000
BATCH = 500


@pytest.fixture(scope="module")
def spec() -> EnvSpec:
    """Sizes of the quickstart environment."""
    return spec_of(cases.algorithm(4).env.env)


def test_sampling(benchmark: BenchmarkFixture, spec: EnvSpec) -> None:
    """16,000 pairs: as 32 batches of 500 by inverse CDF, against 16 windows of 1000 steps with their matrices."""
    benchmark.group = "replay"
    replay = cases.full_replay(spec, CAPACITY, ENVS, EPISODE)
    key = jax.random.key(0)

    def batches(replay, key):
        keys = jax.random.split(key, WINDOWS * WINDOW // BATCH)
        return jax.lax.map(lambda k: sample(replay, Geometric(GAMMA), BATCH, key=k), keys)

    drawn = jax.jit(batches).lower(replay, key).compile()
    matrix = jax.jit(lambda r, k: windowed.sample(r, WINDOWS, WINDOW, GAMMA, key=k)).lower(replay, key).compile()
    assert drawn(replay, key).goal.size == matrix(replay, key).goal.size
    compare(
        benchmark,
        "replay: 16,000 relabelled pairs",
        lambda: jax.block_until_ready(drawn(replay, key)),
        lambda: jax.block_until_ready(matrix(replay, key)),
        baseline_name="windows with a probability matrix",
        rounds=7,
        amount=WINDOWS * WINDOW,
        unit="pairs/s",
        memory=cases.memory(drawn),
        baseline_memory=cases.memory(matrix),
    )


@pytest.mark.parametrize("length", [40, 62])
def test_insertion(benchmark: BenchmarkFixture, spec: EnvSpec, length: int) -> None:
    """An unroll written over the oldest rows, against a buffer that is moved up; both donated."""
    benchmark.group = "replay"
    new = cases.steps(spec, length, ENVS, EPISODE)
    ring = jax.jit(insert, donate_argnums=0).lower(empty(spec, CAPACITY, ENVS), new).compile()
    roll = jax.jit(rolling.insert, donate_argnums=0).lower(empty(spec, CAPACITY, ENVS).data, new).compile()
    memory, roll_memory = cases.memory(ring), cases.memory(roll)
    assert memory["temporaries"] < 0.02 * memory["arguments"], "the ring is copied"
    held = {"ring": empty(spec, CAPACITY, ENVS), "roll": empty(spec, CAPACITY, ENVS).data}

    def ours() -> None:
        held["ring"] = jax.block_until_ready(ring(held["ring"], new))

    def baseline() -> None:
        held["roll"] = jax.block_until_ready(roll(held["roll"], new))

    for _ in range(3):
        ours()
        baseline()
    in_order = np.roll(held["ring"].data.observation, -int(held["ring"].inserted), axis=0)
    np.testing.assert_array_equal(in_order, held["roll"].observation)
    compare(
        benchmark,
        f"replay: insert {length} steps x {ENVS}",
        ours,
        baseline,
        baseline_name="rolling buffer",
        rounds=20,
        amount=length * ENVS,
        unit="transitions/s",
        memory=memory,
        baseline_memory=roll_memory,
    )
