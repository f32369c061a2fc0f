"""What the sources hold is found once, two levels deep, runs of studies within their study."""

from pathlib import Path

import pytest

from eqcrl.errors import UsageError
from eqcrl.report.sources import find
from report.runs import make_run


def test_runs_folders_of_runs_and_folders_of_seeds(tmp_path: Path) -> None:
    lone = make_run(tmp_path / "lone")
    flat = make_run(tmp_path / "runs" / "flat")
    seeds = [make_run(tmp_path / "runs" / "several" / f"seed{k}", seed=k) for k in (0, 1)]
    make_run(tmp_path / "runs" / "several" / "too" / "deep")
    make_run(tmp_path / "runs" / ".hidden")
    found = find([lone, tmp_path / "runs"])
    assert found.runs == [lone, flat, *seeds]
    assert not found.studies
    assert not found.repeated


def test_a_broken_run_is_still_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "broken")
    (run / "config.toml").unlink()
    assert find([tmp_path / "runs"]).runs == [run]


def test_what_lies_in_a_study_is_the_studys(tmp_path: Path) -> None:
    study = tmp_path / "all" / "depth"
    make_run(study / "runs" / "a" / "seed0")
    (study / "study.toml").write_text('title = "depth"\n')
    found = find([tmp_path / "all"])
    assert (found.studies, found.runs) == ([study], [])


def test_the_same_run_under_two_names_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "one")
    (tmp_path / "link").symlink_to(run)
    found = find([run, tmp_path / "runs", tmp_path / "link"])
    assert found.runs == [run]
    assert found.repeated == [run, tmp_path / "link"]


def test_nothing_to_report_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    make_run(tmp_path / "a" / "b" / "c" / "deep")
    for sources, message in (
        ([], "nothing to report on"),
        (["gone"], "gone does not exist"),
        (["file"], "file is not a directory"),
        (["empty"], "holds no run and no study"),
        (["a"], "2 levels below"),
    ):
        with pytest.raises(UsageError, match=message):
            find([tmp_path / s for s in sources])
