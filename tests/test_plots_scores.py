"""Pictures of final scores: the numbers in them, what is said of them, and that nothing leaves the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, PolyCollection
from matplotlib.figure import Figure

from eqcrl.errors import UsageError
from eqcrl.plots import heat_map, metric_limits, metric_name, profiles, score_against, score_bars, score_panels
from eqcrl.statistics import interval, iqm
from pictures import assert_whole

RNG = np.random.default_rng(0)
LOW, HIGH = [0.1, 0.15, 0.2], [0.7, 0.75, 0.8]


def bounds(scores: Sequence[float]) -> tuple[float, float]:
    found = interval([np.asarray(scores, float)])
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def legend_of(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()]


# --- against a number


def points_of(figure: Figure, marker: str, panel: int = 0) -> list[tuple[float, float]]:
    lines = [line for line in figure.axes[panel].lines if line.get_marker() == marker]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_values_bars_and_stars(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    lines = {"maze": {64: HIGH, 4: LOW, 16: HIGH, 8: LOW}}
    figure = score_against(lines, path, xlabel="depth", ylabel="success", mark=True, title="a title")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [tick for tick in axes.get_xticks()] == [4, 8, 16, 64]  # noqa: C416  (numpy numbers)
    assert axes.get_xlabel() == "depth"
    assert axes.get_title() == "a title"
    dots = points_of(figure, "o")
    np.testing.assert_allclose(dots, [(4, iqm([np.array(LOW)])), (8, 0.15), (16, 0.75), (64, 0.75)])
    ends = points_of(figure, "_")
    np.testing.assert_allclose(
        ends, [(x, y) for x, s in ((4, LOW), (8, LOW), (16, HIGH), (64, HIGH)) for y in bounds(s)]
    )
    # The score jumps once: from 8 to 16.
    np.testing.assert_allclose(points_of(figure, "*"), [(16, bounds(HIGH)[1])])
    assert legend_of(figure) == ["maze (3 seeds)", "critical: interval above that of the depth before"]
    assert_whole(figure, path)


def test_a_single_seed_is_hollow_and_never_critical(tmp_path: Path) -> None:
    figure = score_against(
        {"a": {4: LOW, 8: [0.9]}, "b": {4: [0.1], 8: [0.2]}}, tmp_path / "a.png", xlabel="depth", ylabel="y", mark=True
    )
    assert legend_of(figure)[:2] == ["a (1 to 3 seeds; hollow: 1 seed, no interval)", "b (1 seed, no interval)"]
    assert points_of(figure, "*") == []
    faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert [face == "white" for face in faces] == [False, True, True, True]


def test_other_numbers_have_a_plain_axis_and_lines_stand_apart(tmp_path: Path) -> None:
    lines = {name: {0.9: LOW, 0.99: LOW, 0.999: HIGH} for name in "abc"}
    figure = score_against(lines, tmp_path / "g.png", xlabel="gamma", ylabel="y", ylim=(-0.03, 1.03))
    assert figure.axes[0].get_xscale() == "linear"
    assert figure.axes[0].get_ylim() == (-0.03, 1.03)
    at = [points_of(figure, marker)[0][0] for marker in "os^"]
    assert at[0] < at[1] < at[2]
    assert at[1] == pytest.approx(0.9)
    assert at[2] - at[0] < 0.004


def test_panels_share_looks_and_ticks(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    panels = {"ant-big-maze": {"a": {4: LOW, 64: HIGH}, "b": {4: HIGH}}, "arm-push-hard": {"b": {4: LOW, 8: LOW}}}
    figure = score_panels(panels, path, xlabel="depth", ylabel="success at any step (share)", mark=True)
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    assert {tuple(axes.get_xticks()) for axes in figure.axes} == {(4, 8, 64)}
    # "b" is a square in both.
    assert len(points_of(figure, "s", 0)) == 1
    assert len(points_of(figure, "s", 1)) == 2
    assert points_of(figure, "o", 1) == []
    assert_whole(figure, path)


def test_scores_against_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for lines in ({}, {"a": {}}):
        with pytest.raises(UsageError, match="no scores to draw"):
            score_against(lines, path, xlabel="x", ylabel="y")
    with pytest.raises(UsageError, match="no scores"):
        score_against({"a": {4: []}}, path, xlabel="x", ylabel="y")
    with pytest.raises(UsageError, match="not finite"):
        score_against({"a": {4: [float("nan")]}}, path, xlabel="x", ylabel="y")
    with pytest.raises(UsageError, match=r"\.bmp is no format"):
        score_against({"a": {4: LOW}}, tmp_path / "a.bmp", xlabel="x", ylabel="y")
    assert list(tmp_path.iterdir()) == []


# --- heat maps


def test_cells_have_their_values_in_digits_and_color(tmp_path: Path) -> None:
    path = tmp_path / "heat.png"
    scores = {(64, 4): HIGH, (4, 4): LOW, (8, 4): [0.5], (4, 16): [0.25, 0.35], (8, 16): LOW}
    figure = heat_map(scores, path, xlabel="actor", ylabel="critic", zlabel="success", title="humanoid")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["4", "8", "64"]  # as numbers, growing
    assert [t.get_text() for t in axes.get_yticklabels()] == ["4", "16"]
    # The first row is the lowest.
    assert axes.transData.transform((0, 1))[1] > axes.transData.transform((0, 0))[1]
    table = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(table[0], [0.15, 0.5, 0.75])
    assert np.isnan(table[1, 2])
    written = {tuple(np.round(t.get_position()).astype(int).tolist()): [] for t in axes.texts}
    for text in axes.texts:
        x, y = text.get_position()
        written[round(x), round(y)].append(text.get_text())
    assert written == {
        (0, 0): ["0.15", "0.10 to 0.20"], (1, 0): ["0.50", "1 seed"], (2, 0): ["0.75", "0.70 to 0.80"],
        (0, 1): ["0.30", "0.25 to 0.35"], (1, 1): ["0.15", "0.10 to 0.20"],
    }  # fmt: skip
    assert [patch.get_hatch() for patch in axes.patches] == ["///"]
    assert_whole(figure, path)


def test_digits_stand_out_from_every_color(tmp_path: Path) -> None:
    """By the contrast ratio that WCAG 2 asks for, 4.5."""
    path = tmp_path / "heat.png"
    steps = 9
    figure = heat_map({(i, 0): [i / steps] for i in range(steps)}, path, xlabel="x", ylabel="y", zlabel="z")
    axes = figure.axes[0]

    def luminance(color: Sequence[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    from matplotlib.colors import to_rgb

    image = axes.images[0]
    for text in axes.texts:
        value = round(text.get_position()[0]) / steps
        pair = sorted([luminance(to_rgb(text.get_color())), luminance(image.to_rgba(value))])  # type: ignore[arg-type]
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, value


def test_names_keep_their_order_and_one_value_is_a_map_too(tmp_path: Path) -> None:
    path = tmp_path / "heat.png"
    figure = heat_map({("swish", 4): [623.0], ("relu", 4): [623.0, 623.0]}, path, xlabel="x", ylabel="y", zlabel="z")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["swish", "relu"]
    assert [t.get_text() for t in axes.texts] == ["623", "1 seed", "623", "623 to 623"]
    assert_whole(figure, path)
    for nothing in ({}, {("a", 1): []}):
        with pytest.raises(UsageError, match="no scores to draw"):
            heat_map(nothing, path, xlabel="x", ylabel="y", zlabel="z")


# --- bars


def test_bars_say_value_interval_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    long_name = "td3-her, arch.depth=16, train.batch_size=512, train.num_envs=1024"
    groups = {
        "point-u-maze": {"crl": HIGH, long_name: [*LOW, 0.9]}, "ant-big-maze": {"crl": [0.5], "gcsl": [0.1, 0.3]},
    }  # fmt: skip
    figure = score_bars(groups, path, ylabel="success at any step (share)", title="a title")
    first, second = figure.axes
    assert [t.get_text().replace("\n ", "") for t in first.get_yticklabels()] == ["crl", long_name, "gcsl"]
    assert [t.get_text() for t in first.texts] == [
        "0.750 [0.700, 0.800]",
        interval([np.array([*LOW, 0.9])]).text(),
        "no runs",
    ]
    assert [t.get_text() for t in second.texts] == ["0.500 (1 run, no interval)", "no runs", "0.200 [0.100, 0.300]"]
    widths = [patch.get_width() for patch in first.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, [0.75, iqm([np.array([*LOW, 0.9])])])
    runs = [line for line in first.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(sorted(runs[0].get_xdata()), HIGH)
    # A label has one hatch and color in both panels, also where others are missing.
    assert first.patches[0].get_hatch() == second.patches[0].get_hatch()
    assert first.patches[1].get_hatch() != second.patches[1].get_hatch()
    assert_whole(figure, path)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_any_number_of_panels_fits(count: int, tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    groups = {f"environment-{i}": {"arch.depth=4": LOW, "arch.depth=64": [640.0]} for i in range(count)}
    figure = score_bars(groups, path, ylabel="time at goal (steps per episode)")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(groups)
    assert_whole(figure, path)


def test_no_bars_of_nothing(tmp_path: Path) -> None:
    for nothing in ({}, {"maze": {}}, {"maze": {"a": []}}):
        with pytest.raises(UsageError, match="no scores to draw"):
            score_bars(nothing, tmp_path / "a.png", ylabel="y")


# --- profiles


def test_profiles_step_at_the_scores(tmp_path: Path) -> None:
    path = tmp_path / "profiles.png"
    groups = {
        "deep": [np.array([0.5, 1.0]), np.array([0.25, 0.75])], "shallow": [np.array([0.25]), np.array([0.5])],
    }  # fmt: skip
    figure = profiles(groups, path, xlabel="success", title="a title")
    axes = figure.axes[0]
    deep, shallow = axes.lines
    assert deep.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(deep.get_xdata(), [0.22, 0.25, 0.5, 0.75, 1.0, 1.03])
    np.testing.assert_allclose(deep.get_ydata(), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    np.testing.assert_allclose(shallow.get_ydata(), [1.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    assert len([c for c in axes.collections if isinstance(c, FillBetweenPolyCollection | PolyCollection)]) == 1
    assert legend_of(figure) == ["deep (4 runs over 2 tasks)", "shallow (2 runs over 2 tasks, no interval)"]
    assert_whole(figure, path)


def test_profiles_of_many_runs_and_of_one(tmp_path: Path) -> None:
    figure = profiles({"a": [RNG.normal(size=3000)]}, tmp_path / "a.png", xlabel="x")
    assert len(figure.axes[0].lines[0].get_xdata()) <= 410
    one = profiles({"a": [np.array([0.5])]}, tmp_path / "b.png", xlabel="x")
    assert legend_of(one) == ["a (1 run over 1 task, no interval)"]


def test_profiles_over_different_tasks_are_refused(tmp_path: Path) -> None:
    groups = {"deep": [np.ones(2), np.ones(2)], "shallow": [np.ones(2)]}
    with pytest.raises(UsageError, match="'shallow' has 1, 'deep' has 2"):
        profiles(groups, tmp_path / "a.png", xlabel="x")
    with pytest.raises(UsageError, match="no scores to draw"):
        profiles({}, tmp_path / "a.png", xlabel="x")


def test_metrics_have_names_and_shares_a_range() -> None:
    assert metric_name("eval/time_at_goal") == "time at goal (steps per episode)"
    assert metric_name("mine/own") == "mine/own"
    assert metric_limits("eval/success_any") == (-0.03, 1.03)
    assert metric_limits("eval/time_at_goal") is None
