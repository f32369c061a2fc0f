"""Which figures there are: curves of one environment at a time, over three axes, of the runs that count."""

from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from eqcrl import plots
from eqcrl.report import figures
from eqcrl.report.collect import collect
from eqcrl.report.grouping import Environment, environments
from eqcrl.report.pictures import Picture
from report.runs import make_run, record


def envs_in(folder: Path) -> list[Environment]:
    return environments(collect([folder]).runs())


def test_a_metric_has_a_figure_over_each_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        make_run(tmp_path / str(seed), seed=seed, success=0.4 + 0.2 * seed)
    (env,) = envs_in(tmp_path)
    monkeypatch.setattr(figures, "CURVES", ("eval/success_any", "eval/unheard"))
    found = figures.curves(env, "train/critic_loss")
    assert [c.metric for c in found] == ["train/critic_loss", "eval/success_any"]
    for curves in found:
        assert list(curves.tabs) == ["environment steps", "gradient steps", "wall time"]
        for axis, (picture,) in curves.tabs.items():
            assert isinstance(picture, Picture)
            assert all(part in picture.alt for part in (axis, "point-u-maze", curves.name))
    (first,) = found[1].tabs["environment steps"]
    assert isinstance(first, Picture)
    assert "crl, resnet-4 0.5" in first.alt


def test_many_settings_are_spread_over_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for depth in range(4, 28, 4):
        make_run(tmp_path / str(depth), arch__depth=depth)
    (env,) = envs_in(tmp_path)
    monkeypatch.setattr(figures, "LINES", 4)
    monkeypatch.setattr(figures, "CURVES", ())
    monkeypatch.setattr(figures, "AXES", {"env_steps": "environment steps"})
    assert [len(pictures) for pictures in figures.curves(env, "eval/success_any")[0].tabs.values()] == [2]


def test_unfinished_runs_do_not_shorten_the_curve_of_the_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def compare(groups: dict, metric: str, path: Path, *, x: str) -> Figure:
        drawn.append([len(records) for runs in groups.values() for records in runs])
        return plots_compare(groups, metric, path, x=x)

    plots_compare = plots.compare
    monkeypatch.setattr(plots, "compare", compare)
    monkeypatch.setattr(figures, "CURVES", ())
    make_run(tmp_path / "whole", seed=0)
    make_run(tmp_path / "half", seed=1, until=500)
    figures.curves(envs_in(tmp_path)[0], "eval/success_any")
    assert drawn == [[10]] * 3


def test_wall_time_is_the_mean_pace_of_the_seeds() -> None:
    slow = [record(s, 0.1, pace=1.0) for s in (100, 200, 300)]
    fast = [record(s, 0.2, pace=0.1) for s in (100, 200)]
    one, other = figures.mean_pace([slow, fast])
    assert [r["wall_seconds"] for r in one] == [r["wall_seconds"] for r in other] == [55.0, 110.0]
    assert [r["eval/success_any"] for r in one] == [0.1, 0.1]
    assert slow[0]["wall_seconds"] == 100.0


def test_overview_and_profiles_of_several_environments(tmp_path: Path) -> None:
    for env in ("point-u-maze", "point-big-maze"):
        for depth in (4, 8):
            for seed in (0, 1):
                make_run(tmp_path / f"{env}{depth}{seed}", env=env, arch__depth=depth, seed=seed, success=depth / 10)
    envs = envs_in(tmp_path)
    bars, against = figures.overview(envs, "eval/success_any")
    assert isinstance(bars, Picture)
    assert "point-big-maze: arch.depth=4 0.4, arch.depth=8 0.8" in bars.alt
    assert isinstance(against, Picture)
    assert "against arch.depth, critical depths marked" in against.caption
    assert isinstance(figures.profiles(envs), Picture)
    assert figures.profiles(envs[:1]) is None


def test_one_setting_alone_has_no_overview(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    assert figures.overview(envs_in(tmp_path), "eval/success_any") == []


def test_dollars_in_names_are_no_formula(tmp_path: Path) -> None:
    assert figures.plain("a$_{$b") == r"a\$_{\$b"
    figure = Figure()
    text = figure.text(0, 0, figures.plain("$_{$"))
    with mpl.rc_context({"text.usetex": False}):
        figure.savefig(tmp_path / "a.svg")
    assert text.get_text() == r"\$_{\$"
