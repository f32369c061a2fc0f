"""Statistics of scores: against values worked by hand, against scipy, and by the laws that they obey."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from eqcrl.errors import UsageError
from eqcrl.statistics import (
    Interval,
    critical_depths,
    curve_band,
    final_score,
    improvement,
    interval,
    iqm,
    iqm_curve,
    performance_profile,
    probability_of_improvement,
    profile_band,
    series,
    task_mean,
)


def tasks(*rows: Sequence[float]) -> list[np.ndarray]:
    return [np.array(row, float) for row in rows]


# Multiples of 1/64, so that sums of them are exact and laws hold to the last digit.
numbers = st.integers(-(2**12), 2**12).map(lambda k: k / 64)
some_scores = st.lists(hnp.arrays(float, st.integers(1, 6), elements=numbers), min_size=1, max_size=4)


@st.composite
def paired_scores(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    x = draw(some_scores)
    return x, [draw(hnp.arrays(float, st.integers(1, 6), elements=numbers)) for _ in x]


# --- interquartile mean


def test_iqm_by_hand() -> None:
    # Of eight, two are cut at each end; of seven, one (7 / 4 rounded down); of three none, which is the mean.
    assert iqm(tasks([9, 1, 4, 100, 2, 5, -50, 3])) == (2 + 3 + 4 + 5) / 4
    assert iqm(tasks([9, 1, 4, 100], [2, 5, -50])) == (1 + 2 + 4 + 5 + 9) / 5
    assert iqm(tasks([1, 2, 6])) == 3
    assert iqm(tasks([0.25])) == 0.25


@given(some_scores)
def test_iqm_is_the_trimmed_mean_of_scipy(scores: list[np.ndarray]) -> None:
    assert iqm(scores) == pytest.approx(stats.trim_mean(np.concatenate(scores), 0.25), rel=1e-12, abs=1e-12)


@given(some_scores, numbers, st.sampled_from([0.25, 1.0, 4.0]))
def test_iqm_moves_and_scales_with_the_scores_in_any_order(
    scores: list[np.ndarray], shift: float, scale: float
) -> None:
    pooled = np.concatenate(scores)
    found = iqm(scores)
    assert pooled.min() <= found <= pooled.max()
    assert iqm([task[::-1] for task in scores[::-1]]) == found
    assert iqm([scale * task + shift for task in scores]) == pytest.approx(scale * found + shift, rel=1e-12, abs=1e-9)


def test_one_wild_run_moves_the_mean_and_not_the_iqm() -> None:
    calm, wild = tasks([1, 2, 3, 4, 5]), tasks([1, 2, 3, 4, 5000])
    assert iqm(wild) == iqm(calm) == 3
    assert task_mean(wild) == 1002


def test_the_mean_over_tasks_weighs_tasks_not_runs() -> None:
    assert task_mean(tasks([1, 1, 1, 1], [3])) == 2


@pytest.mark.parametrize("statistic", [iqm, task_mean, interval])
def test_no_statistic_of_nothing_or_of_what_is_not_a_number(statistic: object) -> None:
    assert callable(statistic)
    for empty in ([], [np.zeros(0)], tasks([1.0], [])):
        with pytest.raises(UsageError, match="no scores"):
            statistic(empty)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="not finite"):
            statistic(tasks([1.0, wrong]))


# --- intervals


def every_draw(task: Sequence[float]) -> list[tuple[float, ...]]:
    return list(product(task, repeat=len(task)))


def test_the_interval_is_that_of_all_draws() -> None:
    """Few runs have few draws (2^2 x 3^3 = 108): their exact quantiles, statistic by statistic."""
    x, y = [0.0, 1.0], [2.0, 5.0, 9.0]
    for statistic in (iqm, task_mean, lambda scores: float(np.max(np.concatenate(scores)))):
        exact = np.array([statistic(tasks(a, b)) for a in every_draw(x) for b in every_draw(y)])
        found = interval(tasks(x, y), statistic, resamples=20_000, confidence=0.8)
        assert found.value == statistic(tasks(x, y))
        assert found.runs == 5
        # The share of all draws below a bound, which random draws hit within 0.02 (seven standard errors).
        for bound, share in ((found.low, 0.1), (found.high, 0.9)):
            assert bound is not None
            assert np.mean(exact < bound - 1e-9) <= share + 0.02
            assert np.mean(exact <= bound + 1e-9) >= share - 0.02


def test_tasks_are_drawn_apart() -> None:
    """Between tasks there are worlds and within one nearly nothing: the interval knows the latter only."""
    found = interval(tasks([0.0, 0.1, 0.2], [1000.0, 1000.1, 1000.2]))
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < 0.2
    # A task of one run stays what it is.
    one = interval(tasks([0.0, 0.1, 0.2], [1000.0]), task_mean)
    assert one.low == pytest.approx(500.0)
    assert one.high == pytest.approx(500.1)


def test_one_run_has_no_interval() -> None:
    assert interval(tasks([0.5])) == Interval(0.5, None, None, 1)
    assert interval(tasks([0.0], [1.0])) == Interval(0.5, None, None, 2)
    assert improvement(tasks([1.0]), tasks([0.0])) == Interval(1.0, None, None, 2)
    for band in (lambda: profile_band(tasks([1.0]), np.zeros(1)), lambda: curve_band(np.zeros((1, 4)))):
        with pytest.raises(UsageError, match="two runs or more"):
            band()


@given(some_scores)
def test_intervals_are_ordered_and_repeatable(scores: list[np.ndarray]) -> None:
    found = interval(scores, resamples=100)
    assert interval(scores, resamples=100) == found
    pooled = np.concatenate(scores)
    if found.low is not None and found.high is not None:
        assert pooled.min() - 1e-9 <= found.low <= found.high <= pooled.max() + 1e-9
    wide, narrow = (interval(scores, resamples=100, confidence=c) for c in (0.99, 0.5))
    if wide.low is not None and narrow.low is not None and wide.high is not None and narrow.high is not None:
        assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_intervals_hold_what_they_promise() -> None:
    """Of 400 studies of 2 tasks x 10 normal runs (true value 0.5), about 95% of the intervals hold it; a little less,
    as the bootstrap of few runs does."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        found = interval([rng.normal(loc, 1.0, 10) for loc in (0.0, 1.0)], task_mean, resamples=400)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 400 <= 0.97


def test_text_of_an_interval() -> None:
    assert Interval(0.61234, 0.5, 0.71, 5).text() == "0.612 [0.500, 0.710]"
    assert Interval(637.0, 9.5, 1234.5, 3).text() == "637 [10, 1234]"
    assert Interval(0.0, 0.0, 0.0, 3).text() == "0.00 [0.00, 0.00]"
    assert Interval(-0.5, None, None, 1).text() == "-0.500 (1 run, no interval)"
    assert Interval(0.5, None, None, 2).text(2) == "0.50 (2 runs, no interval)"


# --- probability of improvement


def test_improvement_by_hand() -> None:
    # Task 1: of six pairs x wins three and ties one; task 2: it loses its only one.
    x, y = tasks([1, 3, 2], [0]), tasks([2, 0], [1])
    assert probability_of_improvement(x, y) == pytest.approx((4.5 / 6 + 0) / 2)
    assert probability_of_improvement(x, x) == 0.5
    with pytest.raises(UsageError, match="2 tasks cannot be compared with scores of 1"):
        probability_of_improvement(x, y[:1])


@given(paired_scores())
def test_improvement_is_that_of_mann_and_whitney(pair: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    x, y = pair
    found = probability_of_improvement(x, y)
    statistics = [
        stats.mannwhitneyu(a, b, method="asymptotic").statistic / a.size / b.size for a, b in zip(x, y, strict=True)
    ]
    assert found == pytest.approx(np.mean(statistics))
    assert found + probability_of_improvement(y, x) == pytest.approx(1.0)
    # Only the order counts.
    assert found == probability_of_improvement([np.arctan(a) for a in x], [np.arctan(b) for b in y])
    whole = improvement(x, y, resamples=100)
    assert whole.value == pytest.approx(found)
    assert whole.runs == sum(map(len, x)) + sum(map(len, y))
    if whole.low is not None and whole.high is not None:
        assert 0 <= whole.low <= whole.high <= 1 + 1e-12


def test_the_interval_of_an_improvement_is_that_of_all_draws() -> None:
    x, y = [0.0, 4.0, 6.0], [1.0, 5.0]
    exact = [probability_of_improvement(tasks(a), tasks(b)) for a in every_draw(x) for b in every_draw(y)]
    found = improvement(tasks(x), tasks(y), resamples=20_000, confidence=0.8)
    for bound, share in ((found.low, 0.1), (found.high, 0.9)):
        assert bound is not None
        assert np.mean(np.array(exact) < bound - 1e-9) <= share + 0.02
        assert np.mean(np.array(exact) <= bound + 1e-9) >= share - 0.02


# --- performance profiles


def test_profile_by_hand() -> None:
    """The share above a threshold, of each task and then of tasks."""
    profile = performance_profile(tasks([0, 1, 2, 3], [1]), np.array([-1.0, 0.0, 1.0, 2.5, 3.0]))
    np.testing.assert_allclose(profile, [1.0, (0.75 + 1) / 2, (0.5 + 0) / 2, 0.25 / 2, 0.0])


@given(some_scores)
def test_profiles_fall_from_one_to_zero_around_the_mean(scores: list[np.ndarray]) -> None:
    pooled = np.concatenate(scores)
    thresholds = np.unique(np.append(pooled, pooled.min() - 1))
    profile = performance_profile(scores, thresholds)
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 1e-12).all()
    # The area under it is the mean over tasks.
    area = float(np.sum(np.diff(thresholds) * profile[:-1]))
    assert thresholds[0] + area == pytest.approx(task_mean(scores), abs=1e-9)
    if max(map(len, scores)) > 1:
        low, high = profile_band(scores, thresholds, resamples=50)
        assert (low >= 0).all()
        assert (low <= high + 1e-12).all()
        assert (high <= 1 + 1e-9).all()


def test_the_band_of_a_profile_is_binomial() -> None:
    """The share of n independent runs above a threshold: what is drawn again is Binomial(n, share) / n."""
    scores = tasks([0.0] * 12 + [1.0] * 28)
    low, high = profile_band(scores, np.array([0.5]), resamples=20_000)
    assert low[0] == pytest.approx(stats.binom.ppf(0.025, 40, 0.7) / 40, abs=1.01 / 40)
    assert high[0] == pytest.approx(stats.binom.ppf(0.975, 40, 0.7) / 40, abs=1.01 / 40)


# --- curves


def test_the_band_of_a_curve_is_the_interval_of_each_of_its_points() -> None:
    values = np.random.default_rng(3).normal(size=(6, 3)).cumsum(axis=1)
    low, high = curve_band(values)
    np.testing.assert_allclose(iqm_curve(values), [iqm([column]) for column in values.T])
    for i, column in enumerate(values.T):
        found = interval([column])
        assert (low[i], high[i]) == pytest.approx((found.low, found.high))


def test_bands_shrink_with_more_seeds() -> None:
    values = np.random.default_rng(1).normal(size=(40, 25))
    widths = []
    for seeds in (3, 10, 40):
        low, high = curve_band(values[:seeds])
        assert (low <= iqm_curve(values[:seeds])).all()
        assert (iqm_curve(values[:seeds]) <= high).all()
        widths.append((high - low).mean())
    # By sqrt(10/40) in the limit.
    assert widths[2] < 0.7 * widths[1] < 0.7 * widths[0]


def test_long_curves_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(size=(5, 40))
    whole = curve_band(values, resamples=200)
    monkeypatch.setattr("eqcrl.statistics.MOST_AT_ONCE", 7 * 5 * 200)
    for part, expected in zip(curve_band(values, resamples=200), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


# --- depth


def test_critical_depths_are_those_whose_interval_lies_above_the_one_before() -> None:
    rises = {
        64: Interval(0.9, 0.85, 0.95, 3), 4: Interval(0.1, 0.0, 0.2, 3), 8: Interval(0.15, 0.1, 0.3, 3),
        16: Interval(0.6, 0.5, 0.7, 3), 32: Interval(0.8, 0.7, 0.9, 3),
    }  # fmt: skip
    # 8 overlaps 4; 16 is above 8; 32 only touches 16; 64 overlaps 32.
    assert critical_depths(list(rises), list(rises.values())) == [16]
    rises[8] = Interval(0.15, None, None, 1)
    assert critical_depths(list(rises), list(rises.values())) == []
    falls = [Interval(0.9, 0.8, 1.0, 3), Interval(0.1, 0.0, 0.2, 3)]
    assert critical_depths([4, 8], falls) == []
    assert critical_depths([8, 4], falls) == [8]
    for depths in ([4], [4, 4]):
        with pytest.raises(UsageError, match="do not pair"):
            critical_depths(depths, falls)


# --- records


def records_of(values: Sequence[float | None]) -> list[dict[str, float | None]]:
    return [{"env_steps": 10.0 * i, "m": value} for i, value in enumerate(values)]


def test_final_score_is_the_mean_of_the_last_five_evaluations() -> None:
    assert final_score(records_of([9, 9, 1, 2, 3, 4, 5]), "m") == 3
    assert final_score(records_of([9, 9, 1, 2, 3, 4, 5]), "m", last=2) == 4.5
    assert final_score(records_of([1, 2]), "m") == 1.5
    # What was not finite is written as null; evaluations without the number do not count.
    assert final_score(records_of([1, 2, None, float("nan")]), "m", last=2) == 1.5
    assert final_score(records_of([None]), "m") is None
    assert final_score([], "m") is None
    assert final_score(records_of([1]), "other") is None
    with pytest.raises(UsageError, match="mean of 0 evaluations"):
        final_score(records_of([1]), "m", last=0)


def test_of_several_records_at_one_step_the_last_counts() -> None:
    records = [*records_of([0.0, 0.1, 0.2]), {"env_steps": 10.0, "m": 0.7}, {"m": 5.0}, {"env_steps": 5.0}]
    steps, values = series(records, "m", "env_steps")
    np.testing.assert_array_equal(steps, [0, 10, 20])
    np.testing.assert_array_equal(values, [0.0, 0.7, 0.2])
    assert final_score(records, "m") == pytest.approx(0.3)
