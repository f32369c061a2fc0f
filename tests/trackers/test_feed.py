"""Trackers at work: nothing that one of them does reaches training, nor the others."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eqcrl.config import Config, Part
from eqcrl.rundir import RunDir
from eqcrl.trackers import feed
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked
from eqcrl.trackers.feed import Feed, Tracking, finishing

SHORT = {"train.total_env_steps": 400, "train.num_envs": 1, "train.unroll_length": 40, "replay.min_filled": 40}
SHORT |= {"train.batch_size": 8}
STEPS = range(80, 441, 40)


class Notes(AbstractTracker):
    """Takes notes of what it is told; fails or waits where it is asked to."""

    def __init__(self, fail: tuple[Any, ...] = (), gate: threading.Event | None = None):
        self.fail = fail
        self.gate = gate
        self.notes: list[Any] = []

    def start(self, run: Tracked) -> None:
        if "start" in self.fail:
            raise OSError("no route to host")
        self.notes.append(("start", [row["env_steps"] for row in run.history]))

    def log(self, line: Line) -> None:
        if self.gate is not None:
            self.gate.wait()
        if line["env_steps"] in self.fail:
            raise OSError("no space left on device")
        self.notes.append(line["env_steps"])

    def finish(self, status: Status) -> None:
        if "finish" in self.fail:
            raise SystemExit(3)
        self.notes.append(status)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    directory = RunDir(tmp_path / "run")
    directory.path.mkdir()
    return directory


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to people."""
    said: list[str] = []
    monkeypatch.setattr(feed, "tell", said.append)
    return said


def tracking(run: RunDir, trackers: dict[str, AbstractTracker], monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """Of a run with these trackers, whatever is installed."""
    monkeypatch.setattr(feed, "build", lambda part: trackers[part.name])
    config = Config.load(overrides=SHORT).replace(trackers=tuple(Part(name) for name in trackers))
    return Tracking(config, run, lambda: "stopped")


def record(run: RunDir, to: Tracking, steps: Any) -> None:
    """As a logbook does it."""
    for step in steps:
        line = {"env_steps": float(step), "wall_seconds": step / 100}
        run.append_metrics(line)
        to.log(line)


def test_lines_arrive_in_order_and_the_end_is_told(run: RunDir, told: list[str], monkeypatch) -> None:
    notes = Notes()
    followed = tracking(run, {"notes": notes}, monkeypatch)
    with finishing([followed]):
        record(run, followed, STEPS)
    assert notes.notes == [("start", []), *STEPS, "finished"]
    assert told == []


def test_a_run_that_ends_early_was_stopped_and_one_that_raises_failed(run: RunDir, monkeypatch) -> None:
    for error, status in ((None, "stopped"), (ValueError, "failed")):
        notes = Notes()
        followed = tracking(run, {"notes": notes}, monkeypatch)
        try:
            with finishing([followed]):
                record(run, followed, [80])
                if error:
                    raise error
        except ValueError:
            pass
        assert notes.notes[-1] == status


def test_a_tracker_that_fails_is_told_once_and_the_others_go_on(run: RunDir, told: list[str], monkeypatch) -> None:
    broken, late, good = Notes(fail=("start",)), Notes(fail=(120, 160, "finish")), Notes()
    followed = tracking(run, {"broken": broken, "late": late, "good": good}, monkeypatch)
    with finishing([followed]):
        record(run, followed, STEPS)
    assert broken.notes == []
    assert late.notes == [("start", []), 80, *STEPS[3:]]
    assert good.notes == [("start", []), *STEPS, "finished"]
    assert sorted(told) == [
        "Tracker 'broken' fails: OSError: no route to host. Training goes on; this is told once.",
        f"Tracker 'broken' lost {len(STEPS)} lines; metrics.jsonl has them.",
        "Tracker 'late' fails: OSError: no space left on device. Training goes on; this is told once.",
        "Tracker 'late' lost 2 lines; metrics.jsonl has them.",
    ]


def test_a_slow_tracker_holds_nobody_up(run: RunDir, told: list[str], monkeypatch) -> None:
    gate = threading.Event()
    slow, quick = Notes(gate=gate), Notes()
    followed = tracking(run, {"slow": slow, "quick": quick}, monkeypatch)
    with finishing([followed], patience=0.5):
        record(run, followed, STEPS)
    assert quick.notes == [("start", []), *STEPS, "finished"]
    assert slow.notes == [("start", [])]
    assert told == [f"Tracker 'slow' is not done and is left behind, {len(STEPS) - 1} lines short."]
    gate.set()


def test_a_full_queue_loses_lines_and_says_so(told: list[str]) -> None:
    gate = threading.Event()
    notes = Notes(gate=gate)
    fed = Feed("slow", lambda: notes, limit=3)
    fed.put("start", Tracked(Path(), "", None, {}, ()))
    while not notes.notes:
        time.sleep(0.001)
    for step in range(10):
        fed.put("log", {"env_steps": step})
    fed.end()
    gate.set()
    fed.join(10)
    arrived = notes.notes[1:]
    assert arrived == list(range(len(arrived)))
    assert 3 <= len(arrived) <= 4
    assert told == [
        "Tracker 'slow' fails: it is 3 lines behind. Training goes on; this is told once.",
        f"Tracker 'slow' lost {10 - len(arrived)} lines; metrics.jsonl has them.",
    ]


def test_a_run_that_is_continued_or_goes_back_starts_its_trackers_with_what_counts(run: RunDir, monkeypatch) -> None:
    notes = Notes()
    followed = tracking(run, {"notes": notes}, monkeypatch)
    with finishing([followed]):
        record(run, followed, [80, 120, 160])
        run.forget_metrics_after(100)
        record(run, followed, [120, 160])
    first = [("start", []), 80, 120, 160, "stopped", ("start", [80]), 120, 160, "stopped"]
    assert notes.notes == first
    followed = tracking(run, {"notes": notes}, monkeypatch)
    with finishing([followed]):
        record(run, followed, [200])
    assert notes.notes[len(first) :] == [("start", [80, 120, 160]), 200, "stopped"]


def test_runs_of_several_seeds_have_names_of_their_own(tmp_path: Path, monkeypatch) -> None:
    class Named(Notes):
        def start(self, run: Tracked) -> None:
            self.notes.append((run.name, run.group, run.config["seed"]))

    named = Named()
    directory = RunDir(tmp_path / "five" / "seed3")
    directory.path.mkdir(parents=True)
    followed = tracking(directory, {"named": named}, monkeypatch)
    with finishing([followed]):
        record(directory, followed, [80])
    assert named.notes[0] == ("five-seed3", "five", 0)


def test_without_trackers_there_is_no_thread(run: RunDir) -> None:
    followed = Tracking(Config.load(overrides=SHORT), run, lambda: "stopped")
    before = threading.active_count()
    with finishing([followed]):
        record(run, followed, STEPS)
        assert threading.active_count() == before
