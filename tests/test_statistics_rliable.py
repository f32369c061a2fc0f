"""The statistics beside those of rliable, the library of the paper that they come from, on random score matrices.

Run by `nox -s statistics`, which installs rliable beside a pandas that it works with. What rliable was told to print
stands in the captured output (`-s`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eqcrl import statistics

pytestmark = pytest.mark.rliable

SHAPES = [(2, 1), (3, 1), (5, 1), (3, 4), (5, 10), (10, 12), (40, 3), (4, 7), (1, 5)]
"""Runs and tasks."""
REPS, OURS = 2000, 20_000
TAIL = 0.0147
"""Four standard errors of the share of draws beyond a bound, sqrt(0.025 0.975 (1 / REPS + 1 / OURS)), and a little."""


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=shape) + rng.normal(size=shape[1])


def _skewed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.lognormal(sigma=1.5, size=shape)


def _shares(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Success rates of 16 episodes: bounded, and full of ties."""
    return rng.binomial(16, rng.uniform(size=shape[1]), size=shape) / 16


LAWS: dict[str, Callable[..., np.ndarray]] = {"normal": _normal, "skewed": _skewed, "shares": _shares}


@pytest.fixture(scope="module")
def rliable() -> Any:
    from rliable import library, metrics

    class Both:
        """Its two modules."""

    Both.library, Both.metrics = library, metrics  # type: ignore[attr-defined]
    return Both


def tasks(matrix: np.ndarray) -> list[np.ndarray]:
    """A matrix of runs and tasks as eqcrl takes it."""
    return list(matrix.T)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_equal(rliable: Any, law: str, shape: tuple[int, int]) -> None:
    """Thirty pairs of matrices, those of y with as many runs or more."""
    rng = np.random.default_rng([*shape, *law.encode()])
    worst = 0.0
    for i in range(30):
        x, y = LAWS[law](rng, shape), LAWS[law](rng, (shape[0] + i % 3, shape[1]))
        thresholds = np.unique(np.concatenate([x.ravel(), rng.normal(size=20)]))
        pairs = (
            (statistics.iqm(tasks(x)), rliable.metrics.aggregate_iqm(x)),
            (statistics.task_mean(tasks(x)), rliable.metrics.aggregate_mean(x)),
            (statistics.probability_of_improvement(tasks(x), tasks(y)),
             rliable.metrics.probability_of_improvement(x, y)),
            (statistics.performance_profile(tasks(x), thresholds),
             rliable.library.score_distributions(x, thresholds)),
        )  # fmt: skip
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
            worst = max(worst, float(np.max(np.abs(np.asarray(ours) - theirs))))
    print(f"values, {law} {shape}: largest difference {worst:.1e}")


def bracketed(bounds: Callable[[float], tuple[Any, Any]], theirs: np.ndarray) -> float:
    """Assert that the bounds of rliable lie between ours of slightly more and slightly less confidence.

    So shares of draws are compared, not scores, and the tolerance is that of drawing, whatever the law. Returns the
    largest difference of bounds as a share of the width of the interval.
    """
    eps = 1e-9
    (wide_low, wide_high), (narrow_low, narrow_high) = bounds(0.95 + 2 * TAIL), bounds(0.95 - 2 * TAIL)
    low, high = theirs
    assert np.all(wide_low <= low + eps)
    assert np.all(low <= narrow_low + eps)
    assert np.all(narrow_high <= high + eps)
    assert np.all(high <= wide_high + eps)
    mine = bounds(0.95)
    width = np.maximum(np.asarray(high) - low, 1e-12)
    return float(np.max(np.maximum(np.abs(mine[0] - low), np.abs(mine[1] - high)) / width))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] > 1], ids=str)
def test_intervals_are_equal_but_for_drawing(rliable: Any, law: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng([*shape, *law.encode(), 1])
    x, y = LAWS[law](rng, shape), LAWS[law](rng, (shape[0] + 1, shape[1]))
    thresholds = np.quantile(x, [0.1, 0.5, 0.9])
    np.random.seed(0)  # noqa: NPY002  (rliable draws from the global generator)

    def theirs(name: str, scores: Any, function: Callable[..., Any]) -> np.ndarray:
        return np.asarray(rliable.library.get_interval_estimates({name: scores}, function, reps=REPS)[1][name])

    def of(found: statistics.Interval) -> tuple[float, float]:
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    more: dict[str, Any] = {"resamples": OURS}
    difference = {
        "iqm": bracketed(
            lambda c: of(statistics.interval(tasks(x), confidence=c, **more)),
            theirs("iqm", x, lambda s: np.array([rliable.metrics.aggregate_iqm(s)]))[:, 0],
        ),
        "improvement": bracketed(
            lambda c: of(statistics.improvement(tasks(x), tasks(y), confidence=c, **more)),
            theirs("poi", (x, y), lambda a, b: np.array([rliable.metrics.probability_of_improvement(a, b)]))[:, 0],
        ),
        "profile": bracketed(
            lambda c: statistics.profile_band(tasks(x), thresholds, confidence=c, **more),
            np.asarray(rliable.library.create_performance_profile({"x": x}, thresholds, reps=REPS)[1]["x"]),
        ),
    }
    shown = ", ".join(f"{name} {value:.3f}" for name, value in difference.items())
    print(f"bounds, {law} {shape}: difference over width: {shown}")
