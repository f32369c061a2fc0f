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
from eqcrl import registry
from eqcrl.studies.folder import StudyFolder, open_study
from eqcrl.studies.source import Source, find_study
from helpers import TINY, Terminal, assert_message, snapshot, timeless

SHARED = {k: v for k, v in TINY.items() if k not in ("env", "arch")} | {"eval.every": 20, "checkpoint.every": 2}
# What only decides how long a run goes on is not compiled, so the settings share their programs.
STUDY = """\
title = "Tiny"
question = "Does it go on?"
metric = "eval/distance_end"
seeds = 1

[axes]
case = [
    { label = "short", train.total_env_steps = 3_200 },
    { label = "broken", train.total_env_steps = 4_000 },
    { label = "long", train.total_env_steps = 200_160 },
    { label = "late", train.total_env_steps = 2_400 },
]

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
    StudyFolder(folder).begin(Source(file).study(None))
    # A run that dies as soon as it begins: something else lies in its place.
    in_the_way = folder / "runs" / "broken" / "seed0" / "notes.txt"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("mine")
    process = terminal.start("study", "run", file, "--out", folder, "--jobs", 1)
    long = folder / "runs" / "long" / "seed0" / "checkpoints"
    wait_for(process, lambda: long.is_dir() and any(p.name.isdecimal() for p in long.iterdir()))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err
    stopped = told(folder, process.returncode, out)
    calls = []
    for _ in range(2):
        done = terminal.call("study", "run", file, "--out", folder, "--jobs", 2)
        assert "Traceback" not in done.stdout + done.stderr
        calls.append(told(folder, done.returncode, done.stdout))
    return Course(folder, stopped, *calls)


def test_a_signal_stops_everything_gently(course: Course) -> None:
    assert course.stopped.code == 75, course.stopped.out
    assert "Stopped by SIGTERM; the same command goes on." in course.stopped.out
    assert course.stopped.statuses == {
        "short/seed0": "done", "broken/seed0": "dead", "long/seed0": "unfinished", "late/seed0": "missing",
    }  # fmt: skip
    # It saved when it was asked to, which is not when checkpoints are due: every forty unrolls after two.
    kept = {int(p.split("/")[4]) for p in course.stopped.files if p.startswith("runs/long/seed0/checkpoints/0")}
    assert len(kept) == 2


def test_the_same_command_goes_on_and_nothing_finished_is_redone(course: Course) -> None:
    assert course.ended.code == 1, "one died"
    assert "long/seed0 continues" in course.ended.out
    assert "late/seed0 begins" in course.ended.out
    assert "short/seed0" not in course.ended.out
    assert "broken/seed0 begins" not in course.ended.out
    for path, content in course.stopped.files.items():
        if path.startswith(("runs/short/", "logs/short/", "logs/broken/", "failed/")):
            assert course.ended.files[path] == content, path
    assert course.ended.statuses == {
        "short/seed0": "done", "broken/seed0": "dead", "long/seed0": "done", "late/seed0": "done",
    }  # fmt: skip
    assert len(json.loads(course.ended.files["runs/long/seed0/header.json"])["resumed"]) == 1


def test_the_dead_one_is_written_down_and_the_rest_goes_on(course: Course) -> None:
    failed = course.ended.files["failed/broken/seed0.txt"].decode()
    assert failed.startswith("broken/seed0: exit code 2.")
    assert "exists and is not an empty directory" in failed
    assert str(course.folder / "logs" / "broken" / "seed0.log") in failed
    table = " ".join(course.ended.out.partition("Died")[2].split())
    assert "broken/seed0: exit code 2." in table
    assert "exists and is not an empty" in table
    assert "--retry" in table
    assert "3 of 4 runs are done" in course.ended.out


def test_a_study_that_is_done_does_nothing(course: Course) -> None:
    assert course.again.code == 1, "the dead one is told again"
    assert course.again.files == course.ended.files
    assert "Nothing is left to do" in course.again.out
    assert "broken/seed0: exit code 2." in " ".join(course.again.out.split())


def test_every_run_is_an_ordinary_one(course: Course) -> None:
    files = {p.name for p in (course.folder / "runs" / "late" / "seed0").iterdir()}
    assert {"config.toml", "metrics.jsonl", "header.json", "checkpoints"} <= files


@pytest.fixture
def copied(course: Course, tmp_path: Path) -> Path:
    return Path(shutil.copytree(course.folder, tmp_path / "study"))


def test_the_report(copied: Path, eqcrl: Command) -> None:
    answer = eqcrl("study", "report", copied)
    assert answer.code == 0, answer.err
    out = " ".join(answer.out.split())
    assert "short 1 of 1" in out
    assert "broken 0 of 1, 1 dead -" in out
    assert re.search(r"long 1 of 1 [\d.]+ \(1 run, no interval\)", out)
    assert "broken/seed0: dead. Error: " in out
    assert (copied / "figures" / "01-bars.png").stat().st_size > 1000
    page = (copied / "report.html").read_text()
    assert "Does it go on?" in page
    assert "is not an empty directory" in page
    as_json = json.loads(eqcrl("study", "report", copied, "--json").out)
    assert [s["statuses"] for s in as_json["settings"]] == [{"done": 1}, {"dead": 1}, {"done": 1}, {"done": 1}]


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
        answer = eqcrl("study", "run", tmp_path / "tiny.toml", "--out", copied, "--retry")
    assert answer.code == 1
    assert_message(answer.err, f"The study {copied} is being written by another process", str(os.getpid()))


@pytest.mark.faults
def test_a_retry_and_a_run_without_a_checkpoint(course: Course, copied: Path, terminal: Terminal) -> None:
    """What was in the way is gone, and the dead one is tried again; what lost its checkpoints begins anew."""
    (copied / "runs" / "broken" / "seed0" / "notes.txt").unlink()
    lost = copied / "runs" / "short" / "seed0"
    before = timeless(lost)
    shutil.rmtree(lost / "checkpoints")
    done = terminal.call("study", "run", course.folder.with_name("tiny.toml"), "--out", copied, "--retry")
    assert done.returncode == 0, done.stdout
    assert "broken/seed0 begins" in done.stdout
    assert "short/seed0 continues" in done.stdout
    assert "4 of 4 runs are done" in done.stdout
    assert "study report" in done.stdout
    assert timeless(lost) == before
    assert not (copied / "failed" / "broken" / "seed0.txt").exists()


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


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(entry.name for entry in registry.entries("study")))
def test_every_built_in_study_is_run(terminal: Terminal, tmp_path: Path, name: str) -> None:
    """All settings of its laptop scale, each for a moment, and its figures."""
    out = tmp_path / "study"
    axes = find_study(name).study("laptop").axes
    varied = {key for choices in axes.values() for choice in choices for key in choice.sets}
    small = {k: v for k, v in SHARED.items() if not k.startswith(("arch.", "agent.")) and k not in varied}
    small |= {"train.num_envs": 64, "train.total_env_steps": 64 * 10 * 12, "eval.every": 5}
    done = terminal.call("study", "run", name, "--scale", "laptop", "--out", out, "--seeds", 1, *sets(small))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = open_study(out)
    assert {run.status for run in folder.runs} == {"done"}
    done = terminal.call("study", "report", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((out / "figures").glob("*.png"))) >= len(folder.study.figures)
    assert (out / "report.html").is_file()


def test_the_plan(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    answer = eqcrl("study", "plan", "tiny.toml", "--seeds", 3, "--only", "case=long", "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert [run["seed"] for run in plan["runs"]] == [0, 1, 2]
    first = plan["runs"][0]
    assert (first["axes"], first["env_steps"], first["grad_steps"]) == ({"case": "long"}, 200_160, 3 * 2500)
    assert 0 < first["seconds"] < 10_000
    assert plan["total_seconds"] == pytest.approx(3 * first["seconds"])
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.toml"]


def test_the_commands_of_a_dry_run_are_those_that_would_be_started(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    arguments = ["--dry-run", "--out", "new", "--vmap-seeds", "yes", "--seeds", 3]
    answer = eqcrl("study", "run", "tiny.toml", *arguments)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("eqcrl train --preset quickstart --arch.depth=4 ")
    assert lines[0].endswith("--seed 0 --num-seeds 3 --out new/runs/short")
    assert not (tmp_path / "new").exists()


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
    (("mine.toml",), "[settings]\narch.width = 'wide'", ("mine.toml:3: `arch.width = 'wide'` does not fit",)),
    (("mine.toml",), "[axes]\narch = ['resnet-4', 'resnet-6']", ("setting resnet-6", "depth 6 does not exist")),
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
