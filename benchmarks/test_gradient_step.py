"""Gradient steps per second of a whole CRL update: actor, alpha, critic, Adam; width 256, batch 256, state donated.

The sizes are the humanoid's. The baseline is a network unrolled in Python, learning by the plain update.
"""

import statistics
from collections.abc import Callable

import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines.unrolled import unroll
from benchmarks.paired import compare, record
from benchmarks.timing import wall_and_cpu
from eqcrl.programs import update_options

ROUNDS = {4: 20, 8: 20, 64: 8, 256: 5, 1024: 3}
# Steps in a row, as a training takes them: the first one after another program finds the processor's caches, and the
# memory that it is given, as that one left them.
CALLS = {4: 5, 8: 5, 64: 3, 256: 2}
WITHIN = {4: 10, 64: 4}
"""Steps in one program, by depth, where that is measured too."""
CASES = [(4, "auto"), (8, "auto"), (64, "auto"), (256, "dots"), (256, "block"), (1024, "block"), (1024, "nested")]
BARS = {(4, "auto"): 0.60, (64, "auto"): 0.80, (256, "dots"): 0.76}
"""What part of the baseline's time a step may take."""
MEMORY_BARS = {(64, "auto"): 0.55, (256, "dots"): 0.55, (256, "block"): 0.29}
"""What part of the baseline's temporaries it may need."""


def assert_same_step(scanned: cases.Updates, unrolled: cases.Updates) -> None:
    """After as many steps from the same parameters: Adam's first moments, means of the gradients, and metrics agree."""
    for name in ("actor_optimizer", "critic_optimizer"):
        moments = unroll(getattr(scanned.state, name)[0].mu)
        pairs = zip(jax.tree.leaves(moments), jax.tree.leaves(getattr(unrolled.state, name)[0].mu), strict=True)
        difference, size = np.sum([(np.sum((a - b) ** 2), np.sum(np.square(a))) for a, b in pairs], axis=0) ** 0.5
        assert size > 0
        assert difference / size < 1e-4, f"{name}: gradients differ by {difference / size:.1e}"
    for name, value in scanned.metrics.items():
        np.testing.assert_allclose(value, unrolled.metrics[name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def unrolled() -> Callable[..., cases.Updates]:
    """The baseline of a depth, compiled once, always from the same parameters."""
    made: dict[tuple[int, int], cases.Updates] = {}

    def of(depth: int, within: int = 1) -> cases.Updates:
        algorithm = cases.algorithm(depth, env="humanoid")
        state = unroll(cases.agent_state(algorithm))
        if (depth, within) not in made:
            made.clear()  # one at a time: the deepest takes gigabytes
            calls = CALLS.get(depth, 1) if within == 1 else 1
            agent = cases.plain(algorithm).agent
            made[depth, within] = cases.Updates(agent, state, cases.batch(algorithm), within=within, calls=calls)
        made[depth, within].state = state
        return made[depth, within]

    return of


@pytest.mark.parametrize(("depth", "remat"), CASES)
def test_gradient_step(
    benchmark: BenchmarkFixture,
    depth: int,
    remat: str,
    unrolled: Callable[..., cases.Updates],
    unrolled_max_depth: int,
    unrolled_seconds: dict[int, tuple[float, float]],
) -> None:
    """Stacked blocks and the merged update against a loop over layers and the plain update, same parameters."""
    benchmark.group = "gradient step"
    algorithm = cases.algorithm(depth, env="humanoid", arch__remat=remat)
    batch = cases.batch(algorithm)
    # As `eqcrl train` compiles it; the baseline as whoever writes it would, with XLA's own choices.
    options = update_options(algorithm)
    calls = CALLS.get(depth, 1)
    ours = cases.Updates(algorithm.agent, cases.agent_state(algorithm), batch, options, calls=calls)
    case = f"gradient step, depth {depth}" + ("" if remat == "auto" else f", {remat}")
    common = {"amount": float(ours.steps), "unit": "steps/s", "memory": cases.memory(ours.compiled)}
    if (depth, remat) in BARS:
        common["least_ratio"] = 1 / BARS[depth, remat]
    if (depth, remat) in MEMORY_BARS:
        common["memory_bar"] = MEMORY_BARS[depth, remat]
    if depth <= unrolled_max_depth:
        baseline = unrolled(depth)
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
        wall, cpu = (benchmark.extra_info[name] / ours.steps for name in ("baseline", "baseline_cpu"))
        unrolled_seconds[depth] = (wall, cpu)
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


@pytest.mark.parametrize("depth", WITHIN)
def test_steps_within_a_program(
    benchmark: BenchmarkFixture, depth: int, unrolled: Callable[..., cases.Updates], unrolled_max_depth: int
) -> None:
    """As in an epoch: no memory is asked for between steps, which is a part of what a step by itself takes."""
    if depth > unrolled_max_depth:
        pytest.skip("the baseline of this depth is not compiled")
    benchmark.group = "gradient step"
    algorithm, within = cases.algorithm(depth, env="humanoid"), WITHIN[depth]
    options = update_options(algorithm)
    state, batch = cases.agent_state(algorithm), cases.batch(algorithm)
    ours = cases.Updates(algorithm.agent, state, batch, options, within=within)
    baseline = unrolled(depth, within)
    ours()
    baseline()
    assert_same_step(ours, baseline)
    compare(
        benchmark,
        f"gradient step, depth {depth}, {within} in a program",
        ours,
        baseline,
        baseline_name="unrolled, plain update",
        rounds=ROUNDS[depth],
        amount=float(within),
        unit="steps/s",
        memory=cases.memory(ours.compiled),
        baseline_memory=cases.memory(baseline.compiled),
    )
