"""How far a run is, from its files."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from eqcrl.jobs.runs import (
    held,
    is_written,
    last_lines,
    last_records,
    last_words,
    newest,
    newest_checkpoint,
    obituary,
)
from eqcrl.lock import HOLDER, claimed


def test_the_newest_evaluation(tmp_path: Path) -> None:
    assert newest(tmp_path) == {}
    (tmp_path / "metrics.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3')
    assert newest(tmp_path) == {"a": 2}
    (tmp_path / "metrics.jsonl").write_text("broken\n")
    assert newest(tmp_path) == {}


def test_the_end_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(100))) + "\n\n")
    assert last_lines(tmp_path / "log", 3) == "98\n99"


def test_the_last_evaluations(tmp_path: Path) -> None:
    rows = [{"n": n, "long": "x" * 3000} for n in range(9)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["n"] for row in last_records(tmp_path, 3)] == [6, 7, 8]
    assert [row["n"] for row in last_records(tmp_path, 99)] == list(range(9))
    assert last_records(tmp_path / "none", 3) == []


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == -1
    for name in ("000000003", "000000012", "best", ".000000099"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == 12


@pytest.mark.parametrize("how", ["claimed", "elsewhere", "killed", "free", "broken"])
def test_whether_someone_writes_here_is_seen_from_outside(tmp_path: Path, how: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    holder = {"elsewhere": {"pid": 1, "host": "other"}, "killed": {"pid": child.pid, "host": platform.node()}}
    if how in holder:
        (tmp_path / HOLDER).write_text(json.dumps(holder[how]))
    if how == "broken":
        (tmp_path / HOLDER).write_text("{")
    if how == "claimed":
        with claimed(tmp_path):
            assert is_written(tmp_path)
            assert held(tmp_path)
    assert is_written(tmp_path) == (how == "elsewhere")
    assert not held(tmp_path)


def test_last_words(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\ntwo\nError: it cannot be.\n  Mend it.\nmore\n")
    text = obituary("a/seed0", "exit code 1", tmp_path / "log")
    assert last_words(text) == "a/seed0: exit code 1.\nError: it cannot be.\n  Mend it."
    assert last_words(obituary("a/seed0", "signal 9", tmp_path / "none")).endswith("It printed nothing.")
