"""Back into SLURM's queue, with a scontrol that takes notes."""

from pathlib import Path

import pytest

from eqcrl.requeue import SWITCH, requeue

SCONTROL = """#!/bin/sh
echo "$@" >> {notes}
case "$*" in
  *show*) {show} ;;
  *) {requeue} ;;
esac
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Within a running job; what scontrol was asked."""
    for name in ("SLURM_PROCID", SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    scontrol(tmp_path)
    return tmp_path / "notes"


def scontrol(folder: Path, state: str = "RUNNING", show: str = "", requeue: str = "true") -> None:
    (folder / "bin").mkdir(exist_ok=True)
    text = SCONTROL.format(
        notes=folder / "notes", show=show or f"echo JobId=4711 JobState={state} Requeue=1", requeue=requeue
    )
    (folder / "bin" / "scontrol").write_text(text)
    (folder / "bin" / "scontrol").chmod(0o755)


def asked(notes: Path) -> list[str]:
    return [line for line in notes.read_text().splitlines() if "show" not in line] if notes.exists() else []


def test_a_job_goes_back(notes: Path) -> None:
    assert requeue()
    assert asked(notes) == ["requeue 4711"]


@pytest.mark.parametrize("state", ["PREEMPTED", "COMPLETING"])
def test_one_that_loses_its_place_goes_back_too(notes: Path, tmp_path: Path, state: str) -> None:
    scontrol(tmp_path, state)
    assert requeue()


def test_a_cancelled_job_stays_cancelled(notes: Path, tmp_path: Path) -> None:
    scontrol(tmp_path, "CANCELLED")
    assert not requeue()
    assert not asked(notes)


def test_where_slurm_does_not_tell_the_state_it_is_asked_all_the_same(notes: Path, tmp_path: Path) -> None:
    scontrol(tmp_path, show="exit 1")
    assert requeue()


def test_a_refusal_is_told(notes: Path, tmp_path: Path) -> None:
    scontrol(tmp_path, requeue="exit 1")
    assert not requeue()
    assert asked(notes) == ["requeue 4711"]


@pytest.mark.parametrize(("name", "value"), [("SLURM_JOB_ID", None), (SWITCH, "0"), ("SLURM_PROCID", "3")])
def test_who_does_not_ask(notes: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert not requeue()
    assert not notes.exists()


def test_the_first_of_several_processes_asks(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv(SWITCH, "1")
    assert requeue()


def test_without_scontrol(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not requeue()
