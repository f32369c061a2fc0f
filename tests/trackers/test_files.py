"""The built-in trackers keep the contract, and come back from a full disk."""

import csv
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from eqcrl.errors import CheckFailed
from eqcrl.trackers import files
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked
from eqcrl.trackers.check import check_tracker, tracked
from eqcrl.trackers.console import Console
from eqcrl.trackers.files import CSV, JSONL
from eqcrl.trackers.tensorboard import TensorBoard

Numbers = dict[int, dict[str, float]]


def read_csv(path: Path) -> Numbers:
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    assert len({row["env_steps"] for row in rows}) == len(rows), "a step twice"
    return {int(row["env_steps"]): row for row in rows}


def read_jsonl(path: Path) -> Numbers:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["env_steps"] for row in rows}) == len(rows), "a step twice"
    return {int(row["env_steps"]): {k: v for k, v in row.items() if v is not None} for row in rows}


def events(folder: Path) -> list[Event]:
    """What TensorBoard would read, every checksum verified; a record that is cut short ends a file."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            size, of_size = struct.unpack("<QI", data[place : place + 12])
            message = data[place + 12 : place + 12 + size]
            (of_message,) = struct.unpack("<I", data[place + 12 + size : place + 16 + size])
            assert of_size == masked_crc32c(data[place : place + 8])
            assert of_message == masked_crc32c(message)
            found.append(Event.FromString(message))
            place += 16 + size
    return found


def read_events(folder: Path) -> Numbers:
    found: Numbers = {}
    for event in events(folder):
        if event.HasField("summary"):
            assert event.step not in found, "a step twice"
            found[event.step] = {value.tag: value.simple_value for value in event.summary.value}
    return found


BUILT_IN: dict[str, tuple[Callable[[Path], AbstractTracker], Callable[[Path], Numbers]]] = {
    "csv": (lambda folder: CSV(), lambda path: read_csv(path / "metrics.csv")),
    "csv elsewhere": (
        lambda folder: CSV(str(folder / "all")),
        lambda path: read_csv(path.parent / "all" / f"{path.name}.csv"),
    ),
    "jsonl": (
        lambda folder: JSONL(str(folder / "all")),
        lambda path: read_jsonl(path.parent / "all" / f"{path.name}.jsonl"),
    ),
    "tensorboard": (lambda folder: TensorBoard(), lambda path: read_events(path / "tensorboard")),
    "tensorboard elsewhere": (
        lambda folder: TensorBoard(str(folder / "all")),
        lambda path: read_events(path.parent / "all" / path.name),
    ),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_trackers_keep_the_contract(name: str, tmp_path: Path) -> None:
    make, read = BUILT_IN[name]
    check_tracker(lambda: make(tmp_path), tmp_path, read)


def test_the_console_keeps_the_contract_and_prints_what_is_asked_for(tmp_path: Path, capsys) -> None:
    check_tracker(Console, tmp_path)
    capsys.readouterr()
    console = Console("eval/*, train/critic_loss")
    console.start(tracked(tmp_path))
    console.log({"env_steps": 1234567, "train/critic_loss": 0.25, "train/alpha": 1.0, "eval/success_any": 0.5})
    console.finish("diverged")
    name = tmp_path.name
    said = f"{name} env_steps=1234567 train/critic_loss=0.25 eval/success_any=0.5\n{name} diverged\n"
    assert capsys.readouterr().out == said


class Careless(AbstractTracker):
    """Appends to what is there, whatever the history says."""

    def start(self, run: Tracked) -> None:
        self.path = run.path / "careless.jsonl"

    def log(self, line: Line) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(files._finite(line)) + "\n")

    def finish(self, status: Status) -> None:
        pass


def last_of_each(path: Path) -> Numbers:
    rows = [json.loads(line) for line in (path / "careless.jsonl").read_text().splitlines()]
    return {int(row["env_steps"]): {k: v for k, v in row.items() if v is not None} for row in reversed(rows)}


class Forgetful(AbstractTracker):
    """Begins anew, and leaves out the history."""

    def start(self, run: Tracked) -> None:
        self.path = run.path / "careless.jsonl"
        self.path.unlink(missing_ok=True)

    def log(self, line: Line) -> None:
        Careless.log(self, line)  # type: ignore[arg-type]

    def finish(self, status: Status) -> None:
        pass


class Failing(AbstractTracker):
    """Has no disk."""

    def start(self, run: Tracked) -> None:
        raise OSError("no space left")

    def log(self, line: Line) -> None:
        raise AssertionError

    def finish(self, status: Status) -> None:
        pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Careless, "at step 400"),
        (Forgetful, r"steps \[100, 200, 300\] are missing"),
        (Failing, "OSError: no space left"),
    ],
)
def test_the_contract_finds_what_is_wrong(make: type[AbstractTracker], said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=said):
        check_tracker(make, tmp_path, last_of_each)


def test_a_metric_that_appears_later_gets_a_column(tmp_path: Path) -> None:
    table = CSV()
    table.start(tracked(tmp_path))
    table.log({"env_steps": 1, "a": 1.0})
    table.log({"env_steps": 2, "a": 2.0, "b": math.inf})
    table.log({"env_steps": 3, "b": 3.0})
    assert (tmp_path / "metrics.csv").read_text() == "env_steps,a,b\n1,1.0,\n2,2.0,\n3,,3.0\n"


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_what_was_written_in_part_is_cut_off_by_the_next_line(name: str, tmp_path: Path) -> None:
    """As when a disk was full in the midst of a line."""
    make, read = BUILT_IN[name]
    tracker = make(tmp_path)
    tracker.start(tracked(tmp_path))
    tracker.log({"env_steps": 1, "a": 1.0})
    written = tmp_path / "metrics.csv" if name == "csv" else next((tmp_path / "tensorboard").iterdir())
    with written.open("ab") as file:
        file.write(b"2,2.")
    tracker.log({"env_steps": 3, "a": 3.0})
    assert {step: row["a"] for step, row in read(tmp_path).items()} == {1: 1.0, 3: 3.0}


def test_event_files_say_their_version_and_when(tmp_path: Path) -> None:
    tracker = TensorBoard()
    history: list[Line] = [{"env_steps": 10, "wall_seconds": 5.0, "a": 0.1}, {"env_steps": 20, "wall_seconds": 8.0}]
    tracker.start(tracked(tmp_path, history))
    tracker.log({"env_steps": 2**40, "wall_seconds": 9.0, "a": -1e30, "b": math.nan})
    first, one, two, three = events(tmp_path / "tensorboard")
    assert first.file_version == "brain.Event:2"
    assert two.wall_time - one.wall_time == pytest.approx(3.0)
    assert three.step == 2**40
    assert {v.tag: v.simple_value for v in three.summary.value} == {"wall_seconds": 9.0, "a": pytest.approx(-1e30)}
