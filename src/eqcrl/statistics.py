"""How good a group of runs is, and how sure that is from few seeds: robust means with bootstrap intervals.

Scores are one array a task, one number a run; tasks may have different numbers of runs. Every interval is a stratified
percentile bootstrap: the runs of each task are drawn again with replacement, as many as there are, the statistic is
taken of every such draw, and the interval spans the middle share (`confidence`) of what comes out. The seed of the
draws is fixed, so the same scores give the same interval. Over fewer than about five runs it is narrower than its name
says. Source: Agarwal et al. 2021 (arXiv 2108.13264); for the bootstrap, Efron 1979.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqcrl.errors import UsageError

Record = Mapping[str, Any]
"""One line of `metrics.jsonl`."""
Records = Sequence[Record]
"""One run."""
Runs = Sequence[float] | Float[np.ndarray, "_"]
"""The final scores of the runs of one task."""
Scores = Sequence[Float[np.ndarray, "_"]]
"""For each task, the final scores of its runs."""
Statistic = Callable[[Scores], float]

RESAMPLES = 2000
LAST = 5
"""Evaluations at the end of a run that its final score is the mean of (Wang et al. 2025, section 4)."""
TRIMMED = 0.25
"""Share of the scores that the interquartile mean leaves out at each end."""
MOST_AT_ONCE = 4_000_000
"""Resampled numbers that are held at a time."""


@dataclass(frozen=True)
class Interval:
    """A statistic of `runs` runs, and between which bounds it would lie for other seeds.

    No bounds (None) if no task has two runs: one seed says nothing about the others.
    """

    value: float
    low: float | None
    high: float | None
    runs: int

    def text(self, digits: int = 3) -> str:
        """`0.620 [0.550, 0.710]`, or `0.620 (1 run, no interval)`; the largest of the numbers has that many significant
        digits, and the others as many decimals."""
        numbers = [self.value] + [bound for bound in (self.low, self.high) if bound is not None]
        largest = max(map(abs, numbers)) or 1.0
        decimals = min(max(digits - 1 - int(np.floor(np.log10(largest))), 0), digits + 6)
        value, *bounds = (f"{number:.{decimals}f}" for number in numbers)
        if not bounds:
            return f"{value} ({self.runs} run{'s' if self.runs > 1 else ''}, no interval)"
        return f"{value} [{', '.join(bounds)}]"


def iqm(scores: Scores) -> float:
    """Interquartile mean: of all n scores, whatever their task, the mean without the floor(n / 4) lowest and highest.

    Less moved by one outlier than the mean, and less noisy than the median; of three runs or fewer it is the mean.
    Raises: UsageError for no scores, or some that are not finite. Source: Agarwal et al. 2021, section 4.3.
    """
    return float(_iqm_rows(_checked(scores)))


def task_mean(scores: Scores) -> float:
    """The mean over tasks of the mean over runs; of one task, the mean. Raises: UsageError as `iqm` does."""
    return float(_task_mean_rows(_checked(scores)))


def _iqm_rows(scores: Sequence[Float[np.ndarray, "*batch _"]]) -> Any:
    pooled = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    cut = int(TRIMMED * pooled.shape[-1])
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def _task_mean_rows(scores: Sequence[Float[np.ndarray, "*batch _"]]) -> Any:
    return np.mean([task.mean(axis=-1) for task in scores], axis=0)


# The statistics of all resamples at once; any other function of scores is called once for each.
_OVER_ROWS: dict[Statistic, Callable[..., Any]] = {iqm: _iqm_rows, task_mean: _task_mean_rows}


def interval(
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The statistic of the scores with its bootstrap interval.

    `statistic` is `iqm`, `task_mean` or any other function of scores. Raises: UsageError for no scores, or some that
    are not finite.
    """
    scores = _checked(scores)
    runs = sum(len(task) for task in scores)
    value = float(statistic(scores))
    if not has_interval(scores):
        return Interval(value, None, None, runs)
    rng = np.random.default_rng(seed)
    drawn = [task[rng.integers(len(task), size=(resamples, len(task)))] for task in scores]
    over_rows = _OVER_ROWS.get(statistic)
    if over_rows is not None:
        found = over_rows(drawn)
    else:
        found = np.array([statistic([task[i] for task in drawn]) for i in range(resamples)])
    return Interval(value, *_bounds(found, confidence), runs)


def has_interval(scores: Scores) -> bool:
    """Whether some task has two runs, without which nothing is known about other seeds."""
    return any(len(task) > 1 for task in scores)


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """P(X > Y) = mean over tasks m of mean_ij ([x_mi > y_mj] + [x_mi = y_mj] / 2), i and j over the runs.

    How likely a run of x beats one of y on a task drawn at random; by how much does not count. Raises: UsageError for
    no scores, some that are not finite, or different numbers of tasks. Source: Agarwal et al. 2021, section 4.3; the
    Mann-Whitney U statistic over the number of pairs.
    """
    tables = _wins(x, y)
    return float(np.mean([wins.mean() for wins in tables]))


def improvement(
    x: Scores, y: Scores, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """`probability_of_improvement` with its interval, the runs of x and y drawn independently; `runs` counts both."""
    tables = _wins(x, y)
    value = float(np.mean([wins.mean() for wins in tables]))
    runs = sum(sum(wins.shape) for wins in tables)
    if not (has_interval(x) or has_interval(y)):
        return Interval(value, None, None, runs)
    rng = np.random.default_rng(seed)
    found = np.zeros(resamples)
    for wins in tables:
        # The mean over pairs is bilinear in how often each run was drawn.
        of_x, of_y = (_how_often(n, resamples, rng) / n for n in wins.shape)
        found += np.sum((of_x @ wins) * of_y, axis=1) / len(tables)
    return Interval(value, *_bounds(found, confidence), runs)


def _wins(x: Scores, y: Scores) -> list[Float[np.ndarray, "_ _"]]:
    """For each task, 1 where the run of x beats that of y, 1/2 where they are equal."""
    x, y = _checked(x), _checked(y)
    if len(x) != len(y):
        raise UsageError(
            f"Scores of {len(x)} tasks cannot be compared with scores of {len(y)}.", mend="Pair the tasks."
        )
    return [(a[:, None] > b) + 0.5 * (a[:, None] == b) for a, b in zip(x, y, strict=True)]


def performance_profile(scores: Scores, thresholds: Float[np.ndarray, "thresholds"]) -> Float[np.ndarray, "thresholds"]:
    """F(tau) = mean over tasks m of the share of its runs with x_mn > tau: a run-score distribution.

    Of two profiles the higher is better at every threshold; where they cross, it depends. Raises: UsageError for no
    scores, or some that are not finite. Source: Dolan and More 2002; Agarwal et al. 2021, section 4.2.
    """
    return np.mean([above.mean(axis=0) for above in _above(scores, thresholds)], axis=0)


def profile_band(
    scores: Scores,
    thresholds: Float[np.ndarray, "thresholds"],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "thresholds"], Float[np.ndarray, "thresholds"]]:
    """Lower and upper bound of the profile, threshold by threshold. Raises: UsageError also if no task has two runs."""
    tables = _above(scores, thresholds)
    if not has_interval(scores):
        raise _too_few()
    rng = np.random.default_rng(seed)
    found = np.zeros((resamples, len(thresholds)))
    for above in tables:
        found += _how_often(len(above), resamples, rng) @ above / (len(above) * len(tables))
    return _bounds(found, confidence)


def _above(scores: Scores, thresholds: Float[np.ndarray, "thresholds"]) -> list[Float[np.ndarray, "_ thresholds"]]:
    return [(task[:, None] > thresholds).astype(float) for task in _checked(scores)]


def iqm_curve(values: Float[np.ndarray, "runs points"]) -> Float[np.ndarray, "points"]:
    """The interquartile mean over runs at each point of their curves."""
    return np.asarray(_iqm_rows([values.T]))


def curve_band(
    values: Float[np.ndarray, "runs points"], *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Lower and upper bound of `iqm_curve`, point by point; whole curves are drawn again, as runs are independent and
    their points are not. Raises: UsageError for fewer than two runs."""
    if len(values) < 2:
        raise _too_few()
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    step = max(MOST_AT_ONCE // drawn.size, 1)
    parts = [
        _bounds(_iqm_rows([values.T[at : at + step][:, drawn]]).T, confidence) for at in range(0, values.shape[1], step)
    ]
    lows, highs = zip(*parts, strict=True)
    return np.concatenate(lows), np.concatenate(highs)


def critical_depths(depths: Sequence[float], intervals: Sequence[Interval]) -> list[float]:
    """Depths at which the score jumps: its whole interval lies above that of the next smaller depth.

    Stricter than a test of the difference: two intervals that touch may still differ. Without an interval on both
    sides nothing is called a jump. Raises: UsageError for unequal numbers, or a depth that is given twice.
    """
    if len(depths) != len(intervals) or len(set(depths)) != len(depths):
        raise UsageError(f"{len(depths)} depths and {len(intervals)} intervals do not pair.", mend="Give one for each.")
    pairs = sorted(zip(depths, intervals, strict=True), key=lambda pair: pair[0])
    return [
        depth
        for (_, before), (depth, after) in pairwise(pairs)
        if before.high is not None and after.low is not None and after.low > before.high
    ]


def final_score(records: Records, metric: str, last: int = LAST) -> float | None:
    """Mean of the metric over the last evaluations of a run that have it; None if none has.

    A run with fewer evaluations has the mean of those. Source: Wang et al. 2025, section 4, with five.
    Raises: UsageError for `last` < 1.
    """
    if last < 1:
        raise UsageError(f"A final score cannot be the mean of {last} evaluations.", mend="Take the last one or more.")
    values = series(records, metric, "env_steps")[1]
    return float(values[-last:].mean()) if len(values) else None


def series(records: Records, metric: str, x: str) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """The finite values of a metric by increasing x; of records at the same x the last counts."""
    values: dict[float, float] = {}
    for record in records:
        at, value = record.get(x), record.get(metric)
        if is_finite(at) and is_finite(value):
            values[float(at)] = float(value)  # type: ignore[arg-type]
    xs = np.array(sorted(values))
    return xs, np.array([values[at] for at in xs.tolist()])


def is_finite(value: Any) -> bool:
    """Whether this is a number, and neither infinite nor NaN."""
    try:
        return isinstance(value, Real) and bool(np.isfinite(float(value)))
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _checked(scores: Scores) -> list[Float[np.ndarray, "_"]]:
    """As float64. Raises: UsageError."""
    tasks = [np.asarray(task, np.float64) for task in scores]
    if not tasks or not all(len(task) for task in tasks):
        raise UsageError("There are no scores to take a statistic of.", mend="Give at least one run of every task.")
    if not all(np.isfinite(task).all() for task in tasks):
        raise UsageError("Some of the scores are not finite.", mend="Leave those runs out, and say so.")
    return tasks


def _too_few() -> UsageError:
    return UsageError("An interval needs two runs or more: one seed says nothing about others.", mend="Add seeds.")


def _how_often(runs: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples runs"]:
    """How often each run is drawn in each resample."""
    return rng.multinomial(runs, np.full(runs, 1.0 / runs), size=resamples)


def _bounds(found: Float[np.ndarray, "resamples *rest"], confidence: float) -> tuple[Any, Any]:
    low, high = np.quantile(found, [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence], axis=0)
    return (float(low), float(high)) if found.ndim == 1 else (low, high)
