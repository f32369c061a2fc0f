"""Numbers of the tables: those of the runs that count, one environment at a time, or all with equal right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eqcrl.report import scores
from eqcrl.report.collect import RunRecord, collect
from eqcrl.report.grouping import Environment, environments
from report.runs import make_run


def runs_of(folder: Path, *successes: float, **settings: object) -> list[RunRecord]:
    for seed, success in enumerate(successes):
        make_run(folder / str(seed), success=success, seed=seed, **settings)
    return collect([folder]).runs()


def test_a_row_has_the_interquartile_mean_and_an_interval_around_it(tmp_path: Path) -> None:
    (env,) = environments(runs_of(tmp_path, 0.1, 0.4, 0.5, 0.9))
    row = scores.score_row(env.settings[0], ["eval/success_any", "eval/unheard"], "eval/success_any")
    it = row.values["eval/success_any"]
    assert it is not None
    assert it.value == pytest.approx(0.45)
    assert it.low is not None
    assert it.high is not None
    assert 0.1 <= it.low < 0.45 < it.high <= 0.9
    assert row.values["eval/unheard"] is None
    assert row.seeds() == "4 (0, 1, 2, 3)"
    assert (row.env_steps(), row.left_out(), row.hours) == (1000, "", pytest.approx(10 / 3600))


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (env,) = environments(runs_of(tmp_path, 0.4))
    it = scores.score_row(env.settings[0], ["eval/success_any"], "eval/success_any").values["eval/success_any"]
    assert it is not None
    assert (it.value, it.low, it.high, it.runs) == (pytest.approx(0.4), None, None, 1)


def test_a_row_says_which_runs_do_not_count(tmp_path: Path) -> None:
    make_run(tmp_path / "a", success=0.8, seed=0)
    make_run(tmp_path / "b", success=0.0, seed=1, until=500)
    make_run(tmp_path / "c", success=0.0, seed=2, until=500, header={"diverged": {"message": "no"}})
    (env,) = environments(collect([tmp_path]).runs())
    row = scores.score_row(env.settings[0], ["eval/success_any"], "eval/success_any")
    assert row.left_out() == "1 died, 1 unfinished"
    assert row.seeds() == "1 (0)"


def test_further_evaluations_have_a_column_each(tmp_path: Path) -> None:
    far = [{"far": {"eval/success_any": 0.2}}, {"far": {"eval/success_any": 0.4}, "near": {"eval/success_any": None}}]
    runs = [replace(run, further=f) for run, f in zip(runs_of(tmp_path, 0.5, 0.6), far, strict=True)]
    (env,) = environments(runs)
    row = scores.score_row(env.settings[0], [], "eval/success_any")
    assert row.further["far"] is not None
    assert row.further["far"].value == pytest.approx(0.3)
    assert row.further["near"] is None


def two_environments(folder: Path) -> list[Environment]:
    for env in ("point-u-maze", "point-big-maze"):
        for depth, success in ((4, 0.2), (8, 0.6)):
            for seed in (0, 1):
                path = folder / f"{env}-{depth}-{seed}"
                make_run(path, env=env, arch__depth=depth, seed=seed, success=success + 0.1 * seed)
    make_run(folder / "only-here", env="point-u-maze", arch__depth=16)
    return environments(collect([folder]).runs())


def test_over_environments_only_what_was_run_in_all(tmp_path: Path) -> None:
    envs = two_environments(tmp_path)
    by_label = scores.across(envs, "eval/success_any")
    assert {label: [len(s) for s in tasks] for label, tasks in by_label.items()} == {
        "arch.depth=4": [2, 2], "arch.depth=8": [2, 2]
    }  # fmt: skip
    np.testing.assert_allclose(by_label["arch.depth=8"][1], [0.6, 0.7])
    assert scores.across(envs, "eval/unheard") == {}


def test_improvement_over_the_first_setting(tmp_path: Path) -> None:
    by_label = scores.across(two_environments(tmp_path), "eval/success_any")
    better = scores.improvements(by_label, "arch.depth=4")
    assert {label: it.value for label, it in better.items()} == {"arch.depth=8": 1.0}
    worse = scores.improvements(by_label, "arch.depth=8")
    assert {label: it.value for label, it in worse.items()} == {"arch.depth=4": 0.0}
