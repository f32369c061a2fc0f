"""Timing two things fairly on a noisy machine: in turns, in one process, compared round by round."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.timing import wall_and_cpu


def compare(
    benchmark: BenchmarkFixture,
    case: str,
    ours: Callable[[], Any],
    baseline: Callable[[], Any],
    *,
    baseline_name: str,
    rounds: int,
    amount: float = 1.0,
    baseline_amount: float | None = None,
    unit: str = "s",
    warmup: bool = True,
    best_rounds: bool = False,
    **extra: Any,
) -> None:
    """Time `ours` through pytest-benchmark; before each of its rounds, off that clock, time `baseline` once.

    Stored in `extra_info`: both medians, and the medians over rounds of baseline / ours, above 1 where ours is
    faster, by wall time (`ratio`) and by processor time (`cpu_ratio`, hardly disturbed by other processes), each with
    its `spread` over rounds.
    `amount` is the work of one call (steps, pairs); a baseline too slow for as much may do `baseline_amount` of it,
    and its times are scaled. `unit` is "s" or the rate's, e.g. "steps/s". With `best_rounds` the shortest round of
    each is stored too.
    Both calls must return only when the result is there.
    """
    own: list[tuple[float, float]] = []
    others: list[tuple[float, float]] = []
    if warmup:
        baseline()
        ours()
    benchmark.pedantic(
        lambda: own.append(wall_and_cpu(ours)),
        setup=lambda: others.append(wall_and_cpu(baseline)),
        rounds=rounds,
        iterations=1,
    )
    scale = 1.0 if baseline_amount is None else amount / baseline_amount
    others = [(wall * scale, cpu * scale) for wall, cpu in others]
    ratios = [(b[0] / o[0], b[1] / o[1]) for b, o in zip(others, own, strict=True)]
    if best_rounds:
        extra |= {"best": min(own)[0], "baseline_best": min(others)[0]}
    record(
        benchmark,
        case,
        ours=statistics.median(wall for wall, _ in own),
        baseline=statistics.median(wall for wall, _ in others),
        ours_cpu=statistics.median(cpu for _, cpu in own),
        baseline_cpu=statistics.median(cpu for _, cpu in others),
        ratio=statistics.median(wall for wall, _ in ratios),
        cpu_ratio=statistics.median(cpu for _, cpu in ratios),
        ratio_spread=spread([wall for wall, _ in ratios]),
        cpu_ratio_spread=spread([cpu for _, cpu in ratios]),
        baseline_name=baseline_name,
        baseline_kind="measured",
        rounds=len(own),
        amount=amount,
        unit=unit,
        **extra,
    )


def spread(ratios: Sequence[float]) -> float | None:
    """Standard deviation of log(ratio) over rounds; None for a single round."""
    return statistics.stdev(map(math.log, ratios)) if len(ratios) > 1 else None


def record(benchmark: BenchmarkFixture, case: str, **info: Any) -> None:
    """What `benchmarks.records` keeps of this benchmark."""
    benchmark.extra_info.update({"case": case, **info})
