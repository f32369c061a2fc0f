"""Gradient steps per second of a whole CRL update: actor, alpha, critic, Adam; width 256, batch 256, state donated.

The sizes are the humanoid's. The baseline is a network unrolled in Python, learning by the plain update.
"""

import statistics

import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines.unrolled import unroll
from benchmarks.paired import compare, record
from benchmarks.timing import wall_and_cpu

ROUNDS = {4: 20, 8: 20, 64: 8, 256: 5, 1024: 3}
BARS = {4: 0.60, 64: 0.80, 256: 0.76}
"""What part of the baseline's time a step may take."""


def assert_same_step(scanned: cases.Updates, unrolled: cases.Updates) -> None:
    """After one step from the same parameters: Adam's first moments, which are 0.1 times the gradients, agree."""
    for name in ("actor_optimizer", "critic_optimizer"):
        moments = unroll(getattr(scanned.state, name)[0].mu)
        pairs = zip(jax.tree.leaves(moments), jax.tree.leaves(getattr(unrolled.state, name)[0].mu), strict=True)
        difference, size = np.sum([(np.sum((a - b) ** 2), np.sum(np.square(a))) for a, b in pairs], axis=0) ** 0.5
        assert size > 0
        assert difference / size < 1e-4, f"{name}: gradients differ by {difference / size:.1e}"
    for name, value in scanned.metrics.items():
        np.testing.assert_allclose(value, unrolled.metrics[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", list(ROUNDS))
def test_gradient_step(
    benchmark: BenchmarkFixture, depth: int, unrolled_max_depth: int, unrolled_seconds: dict[int, tuple[float, float]]
) -> None:
    """Stacked blocks and the merged update against a loop over layers and the plain update, same parameters."""
    benchmark.group = "gradient step"
    algorithm = cases.algorithm(depth, env="humanoid")
    batch = cases.batch(algorithm)
    ours = cases.Updates(algorithm.agent, cases.agent_state(algorithm), batch)
    case = f"gradient step, depth {depth}"
    common = {"amount": 1.0, "unit": "steps/s", "memory": cases.memory(ours.compiled)}
    if depth in BARS:
        common["least_ratio"] = 1 / BARS[depth]
    if depth <= unrolled_max_depth:
        baseline = cases.Updates(cases.plain(algorithm).agent, unroll(cases.agent_state(algorithm)), batch)
        ours()
        baseline()
        assert_same_step(ours, baseline)
        compare(
            benchmark,
            case,
            ours,
            baseline,
            baseline_name="unrolled, plain update",
            rounds=ROUNDS[depth],
            baseline_memory=cases.memory(baseline.compiled),
            **common,
        )
        unrolled_seconds[depth] = (benchmark.extra_info["baseline"], benchmark.extra_info["baseline_cpu"])
        return
    own: list[tuple[float, float]] = []
    ours()
    benchmark.pedantic(lambda: own.append(wall_and_cpu(ours)), rounds=ROUNDS[depth], iterations=1)
    wall, cpu = (statistics.median(times) for times in zip(*own, strict=True))
    info = {"ours": wall, "ours_cpu": cpu, "rounds": len(own), "baseline_name": "unrolled, plain update", **common}
    if len(unrolled_seconds) < 2:
        record(benchmark, case, baseline=None, ratio=None, cpu_ratio=None, baseline_kind="not measured", **info)
        return
    # Every layer costs the same, so time is linear in depth: the line through the two deepest that were measured.
    (d1, first), (d2, second) = sorted(unrolled_seconds.items())[-2:]
    guess, guess_cpu = (b + (depth - d2) * (b - a) / (d2 - d1) for a, b in zip(first, second, strict=True))
    kind = f"extrapolated from {d1}, {d2}"
    ratios = {"ratio": guess / wall, "cpu_ratio": guess_cpu / cpu}
    record(benchmark, case, baseline=guess, baseline_cpu=guess_cpu, baseline_kind=kind, **ratios, **info)
