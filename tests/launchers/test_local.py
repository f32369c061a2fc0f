"""Processes on this machine: so many at once, in turn, stopped and ended."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eqcrl.jobs import processes
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.runs import is_done, newest_checkpoint
from eqcrl.launchers.base import Job, Site
from eqcrl.launchers.local import Local
from sweeps.conftest import BASE, TRAINER

FLAGS = [f"--{k.replace('_', '-')}={v}" for k, v in BASE.items()]


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "EQCRL", (sys.executable, str(TRAINER)))


def job(folder: Path, number: int, width: int = 16, need: int = 1) -> Job:
    run = folder / "runs" / str(number)
    arguments = ("train", "--preset", "quickstart", *FLAGS, f"--arch.width={width}", "--seed", "0", "--out", str(run))
    return Job(str(number), run, arguments, folder / f"{number}.log", need)


def opened(folder: Path, jobs: int | None = None, host: int | None = None, needs: int = 9) -> Local:
    launcher = Local(jobs)
    launcher.check()
    cores = tuple(sorted(os.sched_getaffinity(0)))[:2]
    launcher.open(Site("mine", folder, Machine("", "cpu", None, host, cores), (1,) * needs))
    return launcher


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kinds(launcher: Local, ids: list[str]) -> list[str]:
    return [launcher.states(ids)[name].kind for name in ids]


def test_so_many_at_once_and_the_rest_in_turn(tmp_path: Path) -> None:
    launcher = opened(tmp_path, jobs=2)
    assert not launcher.lasting()
    assert launcher.room() == 2
    ids = launcher.submit([job(tmp_path, i, 13 if i == 1 else 16) for i in range(3)])
    assert launcher.room() == -1
    assert kinds(launcher, ids) == ["running", "running", "waiting"]
    wait(lambda: all(state.over() for state in launcher.states(ids).values()))
    assert kinds(launcher, ids) == ["done", "failed", "done"]
    assert launcher.states(ids)[ids[1]].how == "exit code 1"
    assert "thirteen" in (tmp_path / "1.log").read_text()
    assert launcher.states(["7"])["7"].kind == "lost"
    assert launcher.room() == 2


def test_what_fits_is_decided_by_cores_and_memory(tmp_path: Path) -> None:
    cores = min(len(os.sched_getaffinity(0)), 2)
    assert opened(tmp_path).room() == cores
    assert opened(tmp_path, needs=1).room() == 1
    assert opened(tmp_path, host=2 * 2**30).room() == 1
    launcher = opened(tmp_path, jobs=2, host=100)
    ids = launcher.submit([job(tmp_path, i, need=60) for i in range(2)])
    assert kinds(launcher, ids) == ["running", "waiting"], "90 bytes hold one of 60"
    launcher.close()


def test_cancelled_runs_save_and_those_that_wait_do_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.1")
    launcher = opened(tmp_path, jobs=2)
    jobs = [job(tmp_path, i) for i in range(3)]
    ids = launcher.submit(jobs)
    wait(lambda: all(newest_checkpoint(one.run) >= 0 for one in jobs[:2]))
    launcher.cancel(ids[:1])
    launcher.cancel(ids[1:], hard=True)
    wait(lambda: all(state.over() for state in launcher.states(ids).values()))
    assert kinds(launcher, ids) == ["stopped", "failed", "stopped"]
    assert "signal 9" in launcher.states(ids)[ids[1]].how
    assert not is_done(jobs[0].run)
    assert not jobs[2].run.exists()
    again = launcher.submit(jobs[:1])
    wait(lambda: launcher.states(again)[again[0]].over())
    assert kinds(launcher, again) == ["done"]
    assert is_done(jobs[0].run)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "30")
    launcher = opened(tmp_path, jobs=1)
    launcher.submit([job(tmp_path, 0)])
    started = next(iter(launcher._running.values())).started.process
    launcher.close()
    assert started.returncode is not None
