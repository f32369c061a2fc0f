"""`eqcrl study`: real processes, stopped in the midst and continued, with one that dies among them."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command
from eqcrl.studies.folder import open_study
from helpers import TINY, Terminal, assert_message, snapshot, timeless

SHARED = {k: v for k, v in TINY.items() if k not in ("env", "arch")} | {"eval.every": 10, "checkpoint.every": 2}
# What only decides how long a run goes on is not compiled, so the settings share their programs; but one cannot learn.
STUDY = """\
title = "Tiny"
question = "Does it go on?"
metric = "eval/distance_end"
seeds = 2

[axes]
case = [
    { label = "short", train.total_env_steps = 3_200 },
    { label = "diverges", train.total_env_steps = 3_200, agent.critic_rate = 1e30 },
    { label = "long", train.total_env_steps = 100_160 },
]

[[evaluations]]
label = "fixed"
env.start = "fixed"

[[figures]]
kind = "bars"

[settings]
arch.depth = 4
"""


def study_text(text: str = STUDY, **settings: Any) -> str:
    more = {k: v for k, v in (SHARED | settings).items() if k != "train.total_env_steps"}
    return text + "".join(f'"{k}" = {json.dumps(v)}\n' for k, v in more.items())


def sets(settings: Mapping[str, Any]) -> list[str]:
    return [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass(frozen=True)
class Told:
    """How a call ended, and what the folder held then."""

    code: int
    out: str
    files: dict[str, bytes]
    statuses: dict[str, str]


@dataclass(frozen=True)
class Course:
    """A study that was stopped in the midst, continued to its end, and called once more."""

    folder: Path
    stopped: Told
    ended: Told
    again: Told


def told(folder: Path, code: int, out: str) -> Told:
    statuses = {run.name(): run.status for run in open_study(folder).runs}
    return Told(code, out, snapshot(folder), statuses)


@pytest.fixture(scope="module")
def course(terminal: Terminal, shared: Path) -> Course:
    folder = shared / "study"
    file = shared / "tiny.toml"
    file.write_text(study_text())
    process = terminal.start("study", "run", file, "--out", folder, "--jobs", 2)
    long = folder / "runs" / "long" / "seed0" / "checkpoints"
    # Whatever ran beside it is over by then, and most of it is still to come.
    wait_for(process, lambda: long.is_dir() and any(p.name.isdecimal() for p in long.iterdir()))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err
    stopped = told(folder, process.returncode, out)
    calls = []
    for _ in range(2):
        done = terminal.call("study", "run", file, "--out", folder, "--jobs", 2)
        calls.append(told(folder, done.returncode, done.stdout))
    return Course(folder, stopped, *calls)


def test_a_signal_stops_everything_gently(course: Course) -> None:
    assert course.stopped.code == 75, course.stopped.out
    assert "Stopped by SIGTERM; the same command goes on." in course.stopped.out
    statuses = course.stopped.statuses
    assert statuses["short/seed0"] == "done"
    assert statuses["diverges/seed0"] == "dead"
    assert statuses["long/seed0"] == "unfinished"
    assert "missing" in statuses.values()
    # It saved when it was asked to, which is not when checkpoints are due.
    newest = max(p for p in course.stopped.files if "long/seed0/checkpoints" in p)
    assert "long/seed0" in newest


def test_the_same_command_goes_on_and_nothing_finished_is_redone(course: Course) -> None:
    assert course.ended.code == 1, "one died"
    assert "long/seed0 continues" in course.ended.out
    assert "long/seed1 begins" in course.ended.out or "long/seed1 continues" in course.ended.out
    assert "short/seed0" not in re.sub(r".*side by side\.", "", course.ended.out)
    for path, content in course.stopped.files.items():
        if path.startswith(("runs/short/seed0/", "logs/short/seed0", "failed/diverges/seed0")):
            assert course.ended.files[path] == content, path
    expected = {"short": "done", "diverges": "dead", "long": "done"}
    assert course.ended.statuses == {f"{k}/seed{s}": v for k, v in expected.items() for s in (0, 1)}
    resumed = json.loads(course.ended.files["runs/long/seed0/header.json"])["resumed"]
    assert len(resumed) == 1


def test_a_continued_run_is_the_run_that_was_never_stopped(course: Course, terminal: Terminal, tmp_path: Path) -> None:
    command = next(s for s in open_study(course.folder).runs if s.name() == "long/seed0").setting.flags()
    done = terminal.call("train", *command, "--seed", 0, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert timeless(tmp_path / "run") == timeless(course.folder / "runs" / "long" / "seed0")


def test_the_dead_one_is_written_down_and_the_rest_goes_on(course: Course) -> None:
    failed = course.ended.files["failed/diverges/seed0.txt"].decode()
    assert failed.startswith("diverges/seed0: exit code 1.")
    assert "Training diverged" in failed
    assert str(course.folder / "logs" / "diverges" / "seed0.log") in failed
    table = " ".join(course.ended.out.partition("Died")[2].split())
    assert "diverges/seed0: exit code 1." in table
    assert "Training diverged" in table
    assert "--retry" in table
    assert "4 of 6 runs are done" in course.ended.out


def test_a_study_that_is_done_does_nothing(course: Course) -> None:
    assert course.again.code == 1, "the dead ones are told again"
    changed = {p for p in course.again.files if course.again.files[p] != course.ended.files.get(p)}
    assert changed <= {"study.toml"}
    assert course.again.files.keys() == course.ended.files.keys()
    assert "4 of 6 runs done, 2 dead" in course.again.out


def test_finished_policies_are_evaluated_elsewhere(course: Course) -> None:
    for run in open_study(course.folder).runs:
        if run.status == "done":
            assert 0 <= run.evaluated["fixed"]["eval/success_any"] <= 1
            assert run.evaluated["fixed"]["eval/episode_length"] == 30
    assert "long/seed0, evaluation fixed: distance_end" in course.ended.out


def test_every_run_is_an_ordinary_one(course: Course) -> None:
    config = course.ended.files["runs/short/seed1/config.toml"].decode()
    assert "seed = 1" in config
    assert {"metrics.jsonl", "header.json"} <= {p.name for p in (course.folder / "runs" / "short" / "seed1").iterdir()}


@pytest.fixture
def copied(course: Course, tmp_path: Path) -> Path:
    return Path(shutil.copytree(course.folder, tmp_path / "study"))


def test_the_report(course: Course, copied: Path, eqcrl: Command) -> None:
    answer = eqcrl("study", "report", copied)
    assert answer.code == 0, answer.err
    out = " ".join(answer.out.split())
    assert "short 2 of 2" in out
    assert "diverges 0 of 2, 2 dead -" in out
    assert re.search(r"long 2 of 2 [\d.]+ \[[\d.]+, [\d.]+\] [\d.]+ \[", out)
    assert "diverges/seed1: dead. Error: Training diverged" in out
    assert (copied / "figures" / "01-bars.png").stat().st_size > 1000
    page = (copied / "report.html").read_text()
    assert "Does it go on?" in page
    assert "Training diverged" in page
    as_json = json.loads(eqcrl("study", "report", copied, "--json").out)
    assert [s["statuses"] for s in as_json["settings"]] == [{"done": 2}, {"dead": 2}, {"done": 2}]


def test_another_definition_is_refused(copied: Path, eqcrl: Command, tmp_path: Path) -> None:
    before = snapshot(copied)
    (tmp_path / "tiny.toml").write_text(study_text())
    answer = eqcrl("study", "run", tmp_path / "tiny.toml", "--out", copied, "--set", "train.batch_size=4")
    assert answer.code == 2
    assert_message(answer.err, f"{copied} holds another study (tiny)", "settings.train.batch_size is 8 there, 4 was")
    assert snapshot(copied) == before


def test_a_study_is_run_by_one_process_at_a_time(copied: Path, eqcrl: Command, tmp_path: Path) -> None:
    from eqcrl.lock import claimed

    (tmp_path / "tiny.toml").write_text(study_text())
    with claimed(copied, "study"):
        answer = eqcrl("study", "run", tmp_path / "tiny.toml", "--out", copied)
    assert answer.code == 1
    assert_message(answer.err, f"The study {copied} is being written by another process", str(os.getpid()))


def test_a_retry_and_a_run_without_a_checkpoint(copied: Path, terminal: Terminal, tmp_path: Path) -> None:
    """The dead one is tried again and dies again; the one that lost its checkpoints begins anew, the same."""
    (tmp_path / "tiny.toml").write_text(study_text())
    lost = copied / "runs" / "short" / "seed1"
    before = timeless(lost)
    shutil.rmtree(lost / "checkpoints")
    only = ["--seeds", 2, "--only", "case=short", "--only", "case=diverges"]
    done = terminal.call("study", "run", tmp_path / "tiny.toml", "--out", copied, "--retry", *only)
    assert done.returncode == 1
    assert "diverges/seed0 continues" in done.stdout
    assert "short/seed1 continues" in done.stdout
    assert "short/seed0 " not in done.stdout.replace("short/seed0,", "")
    assert timeless(lost) == before
    assert "2 of 4 runs are done" in done.stdout


def test_a_built_in_study_is_run(terminal: Terminal, tmp_path: Path) -> None:
    """Stitching, for its further evaluations; all that differs from its laptop scale is how little is done."""
    out = tmp_path / "stitching"
    small = {**SHARED, "train.total_env_steps": 960, "arch.width": 16}
    sizes = {k: v for k, v in small.items() if k not in ("arch.depth",)}
    flags = ["--seeds", 1, "--only", "arch=resnet-4", *sets(sizes)]
    done = terminal.call("study", "run", "stitching", "--scale", "laptop", "--out", out, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = [run for run in open_study(out).runs if run.status == "done"]
    assert list(run.evaluated) == ["3 cells", "4 cells", "5 cells", "6 cells"]
    assert open_study(out).study.settings["train.batch_size"] == 8


def test_the_plan(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    answer = eqcrl("study", "plan", "tiny.toml")
    assert answer.code == 0, answer.err
    out = " ".join(answer.out.split())
    assert re.search(r"short 2 3.2 k \d+ 8 [\d.]+ k \d+ KiB [\d.]+ s", out), out
    assert "6 runs on 1 x" in out
    assert re.search(r"Time, compiling apart: .* one after another, about .* side by side", out)
    answer = eqcrl("study", "plan", "tiny.toml", "--no-timing", "--only", "case=long", "--seeds", 3, "--json")
    plan = json.loads(answer.out)
    assert [run["seed"] for run in plan["runs"]] == [0, 1, 2]
    assert plan["total_seconds"] is None
    assert plan["runs"][0]["env_steps"] == 100_160
    assert plan["runs"][0]["axes"] == {"case": "long"}
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.toml"]


def test_the_commands_of_a_dry_run_are_those_that_would_be_started(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    answer = eqcrl("study", "run", "tiny.toml", "--dry-run", "--out", "new")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("eqcrl train --preset quickstart --arch.depth=4 ")
    assert lines[0].endswith("--seed 0 --out new/runs/short/seed0")
    assert not (tmp_path / "new").exists()


def test_seeds_as_one_program_on_request(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    answer = eqcrl("study", "run", "tiny.toml", "--dry-run", "--out", "new", "--vmap-seeds", "yes", "--seeds", 3)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("--seed 0 --num-seeds 3 --out new/runs/short")


def test_the_list(eqcrl: Command) -> None:
    answer = eqcrl("study", "list")
    assert answer.code == 0
    assert re.search(r"depth +Does a deeper network .* 30 +\d+ +250 +eqcrl", answer.out)
    rows = {row["name"]: row for row in json.loads(eqcrl("study", "list", "--json").out)}
    assert rows["depth"]["runs"]["laptop"] == 30
    assert all(row["error"] is None for row in rows.values())


WRONG = [
    (("depth", "--scale", "labtop"), "", ("no scale 'labtop'", "'laptop'")),
    (("dept",), "", ("There is no study called 'dept'", "'depth'")),
    (("mine.toml",), "[axes]\narch = []", ("mine.toml:3: the axis `arch` is empty",)),
    (("mine.toml",), "seeds = 0", ("mine.toml:2: a study of no seeds",)),
    (("mine.toml", "--seeds", 0), "", ("--seeds: a study of no seeds",)),
    (("mine.toml",), "figure = 3", ("mine.toml:2: a study has no `figure`", "'figures'")),
    (("mine.toml",), "[axes]\narch.widht = [4, 8]", ("mine.toml:3: there is no setting `arch.widht`", "'arch.width'")),
    (("mine.toml",), "[settings]\narch.width = 'wide'", ("mine.toml:3: `arch.width = 'wide'` does not fit",)),
    (("mine.toml",), "[axes]\narch = ['resnet-4', 'resnet-6']", ("setting resnet-6", "depth 6 does not exist", "4 or 8")),
    (("mine.toml", "--set", "arch.widht=4"), "", ("--set: there is no setting `arch.widht`",)),
    (("mine.toml", "--set", "arch"), "", ("--set arch: not a key with a value",)),
    (("mine.toml", "--only", "arch=resnet-4"), "", ("--only arch=resnet-4: not one of the axes",)),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text", "parts"), WRONG, ids=[parts[0] for _, _, parts in WRONG])
def test_nothing_is_begun_with_bad_input(
    eqcrl: Command, tmp_path: Path, arguments: tuple[Any, ...], text: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "mine.toml").write_text(f'title = "mine"\n{text}\n')
    answer = eqcrl("study", "run", *arguments, "--out", "new")
    assert answer.code == 2, answer.out + answer.err
    assert_message(answer.err, *parts)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


def test_reports_of_nothing(eqcrl: Command, tmp_path: Path) -> None:
    for name, part in (("depth", "There is no study folder studies/depth-laptop"), (tmp_path, "is no study folder")):
        answer = eqcrl("study", "report", name)
        assert answer.code == 2
        assert_message(answer.err, part)
