"""`eqcrl train --tracker`: chosen by name, continued with the run, and never in its way."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from eqcrl.cli.main import _call
from eqcrl.config import Config
from helpers import assert_message, copy_run, flags, records

EPOCH = 8 * 10
"""Environment steps."""


def table(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def tracked(finished: Path, shared: Path) -> Path:
    """A run that got trackers when it was continued for 20 epochs."""
    run = copy_run(finished, shared / "tracked")
    settings = {"train.total_env_steps": EPOCH * 422, "tracker.jsonl.folder": str(shared / "all")}
    chosen = ["--tracker", "csv", "--tracker=tensorboard", "--tracker", "jsonl"]
    assert _call(["train", "--resume", str(run), *chosen, *flags(settings)], debug=False) == 0
    return run


def test_every_tracker_has_the_lines_of_the_run(tracked: Path) -> None:
    lines = records(tracked)
    assert len(lines) == 42
    assert table(tracked / "metrics.csv") == lines
    assert [json.loads(line) for line in (tracked.parent / "all" / "tracked.jsonl").open()] == lines
    assert len(list((tracked / "tensorboard").iterdir())) == 1


def test_the_choice_is_part_of_the_run_but_not_of_what_it_computes(tracked: Path) -> None:
    config = Config.from_toml((tracked / "config.toml").read_text(), "config.toml")
    assert [part.name for part in config.trackers] == ["csv", "tensorboard", "jsonl"]
    assert config.trackers[2].params == {"folder": str(tracked.parent / "all")}
    assert Config.from_toml(config.to_toml(), "again") == config
    assert not any("tracker" in key for key in config.flat())


def test_a_killed_run_goes_on_in_the_same_record(eqcrl, tracked: Path, tmp_path: Path) -> None:
    """The lines past the last checkpoint are there once, and are the ones of the run that was continued."""
    run = copy_run(tracked, tmp_path / "run")
    kept = [int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
    shutil.rmtree(run / "checkpoints" / f"{max(kept):09d}")
    done = eqcrl("train", "--resume", run)
    assert done.code == 0, done.err
    lines = records(run)
    assert len(lines) == 42
    assert table(run / "metrics.csv") == lines
    # The older process wrote other clock times at the same steps.
    assert [line["wall_seconds"] for line in lines] != [line["wall_seconds"] for line in records(tracked)]


def test_a_run_may_go_on_without_trackers(eqcrl, tracked: Path, tmp_path: Path) -> None:
    run = copy_run(tracked, tmp_path / "run")
    before = (run / "metrics.csv").read_bytes()
    more = flags({"train.total_env_steps": EPOCH * 432})
    assert eqcrl("train", "--resume", run, "--tracker", "none", *more).code == 0
    assert (run / "metrics.csv").read_bytes() == before
    assert "[tracker]" not in (run / "config.toml").read_text()


def test_a_tracker_that_cannot_write_is_told_and_the_run_is_done(eqcrl, tracked: Path, tmp_path: Path) -> None:
    run = copy_run(tracked, tmp_path / "run")
    (tmp_path / "file").write_text("in the way")
    changed = {"train.total_env_steps": EPOCH * 442, "tracker.csv.folder": str(tmp_path / "file" / "folder")}
    done = eqcrl("train", "--resume", run, "--tracker", "csv", *flags(changed))
    assert done.code == 0, done.err
    assert done.err.count("Tracker 'csv' fails") == 1
    assert "Tracker 'csv' lost 2 lines" in done.err
    assert len(records(run)) == 44


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--tracker", "cvs"], ["no tracker called 'cvs'", "Did you mean 'csv'", "--tracker none"]),
        (["--tracker", "jsonl"], ["needs `tracker.jsonl.folder`"]),
    ],
)
def test_what_does_not_fit_is_refused_early(args: list[str], said: list[str], eqcrl, tmp_path: Path) -> None:
    done = eqcrl("train", *args, "--out", tmp_path / "run")
    assert done.code == 2
    assert_message(done.err, *said)
    assert not (tmp_path / "run").exists()


def test_a_parameter_without_its_tracker_is_refused(eqcrl, tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_text('[tracker]\nnames = ["csv"]\n[tracker.wandb]\nproject = "x"\n')
    done = eqcrl("train", "--config", tmp_path / "file.toml")
    assert done.code == 2
    assert_message(done.err, "file.toml", "`tracker.wandb.project` is set, but no tracker 'wandb' is chosen")


def test_parameters_of_chosen_trackers_are_flags(eqcrl) -> None:
    done = eqcrl("train", "--tracker", "tensorboard", "--help")
    assert done.code == 0
    assert "--tracker.tensorboard.folder" in done.out
    assert "--tracker.csv.folder" not in done.out
