"""Processes side by side: never more than asked for, on their own cores, gone when their parent is."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eqcrl.jobs import processes
from eqcrl.lock import claimed
from eqcrl.studies.folder import StudyRun
from eqcrl.studies.grid import expand
from eqcrl.studies.pool import Pool, Running
from eqcrl.studies.source import Source
from eqcrl.studies.work import Task

# Stands for `eqcrl`: tells its cores, and how many are at work beside it.
PROGRAM = """
import os, pathlib, sys, time
here = pathlib.Path(sys.argv[1]); mine = here / str(os.getpid()); mine.touch()
seconds, code = float(sys.argv[2]), int(sys.argv[3])
least, until = time.time() + min(seconds, 0.3), time.time() + seconds
most = 0
while time.time() < until and (most < 2 or seconds > 100 or time.time() < least):
    most = max(most, len(list(here.iterdir())))
    time.sleep(0.02)
print("cores", sorted(os.sched_getaffinity(0)), "at once", most, "variable", os.environ.get("MINE"))
mine.unlink()
sys.exit(code)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(processes, "EQCRL", (sys.executable, str(tmp_path / "program.py")))
    return tmp_path


def task(folder: Path, name: str, seconds: float = 0.3, code: int = 0, need: int = 1) -> Task:
    (folder / "t.toml").write_text('title = "t"\n')
    setting = expand(Source(folder / "t.toml").study(None))[0]
    run = StudyRun(folder / name, {}, 0, "missing", "", setting)
    return Task((str(folder / "here"), str(seconds), str(code)), (run,), folder / f"{name}.log", need)


class Seen:
    """What the pool told."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.started: list[Task] = []
        self.codes: list[int] = []
        self.waited: list[Task] = []
        self.renewed: list[Task] = []

    def call(self, pool: Pool, tasks: Sequence[Task], more: Sequence[Task] = ()) -> int | None:
        pending = list(more)

        def ended(one: Running, code: int) -> list[Task]:
            self.codes.append(code)
            return [pending.pop()] if pending else []

        def renewed(task: Task) -> list[Task]:
            self.renewed.append(task)
            return [task]

        def started(task: Task) -> None:
            self.started.append(task)
            if len(self.started) == self.stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        return pool.run(
            tasks, started=started, ended=ended, waiting=self.waited.append, renewed=renewed,
            tick=lambda _: None,
        )  # fmt: skip


def pool(jobs: int, limit: int | None = None, share: Sequence[Sequence[int]] = (), **environment: str) -> Pool:
    return Pool(jobs, limit=limit, share=share, environment=environment)


def at_once(folder: Path) -> list[int]:
    return [int(log.read_text().split("at once ")[1].split()[0]) for log in sorted(folder.glob("*.log"))]


def test_so_many_side_by_side_and_no_more(program: Path) -> None:
    seen = Seen()
    assert seen.call(pool(2, MINE="yes"), [task(program, str(i), 20, code=i) for i in range(4)]) is None
    assert sorted(seen.codes) == [0, 1, 2, 3]
    assert max(at_once(program)) == 2
    assert all("variable yes" in log.read_text() for log in program.glob("*.log"))


def test_not_more_than_memory_holds(program: Path) -> None:
    seen = Seen()
    seen.call(pool(3, limit=10), [task(program, "a", need=6), task(program, "b", need=6), task(program, "c", need=99)])
    assert seen.codes == [0, 0, 0]
    assert max(at_once(program)) == 1, "one that is beyond is tried alone"


def test_what_an_end_gives_to_do_next_is_done(program: Path) -> None:
    seen = Seen()
    seen.call(pool(1), [task(program, "a", 0.0)], more=[task(program, "b", 0.0), task(program, "c", 0.0)])
    assert seen.codes == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="cores are chosen on Linux only")
def test_each_has_cores_of_its_own(program: Path) -> None:
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        pytest.skip("one core only")
    Seen().call(pool(2, share=[available[:1], available[1:2]]), [task(program, "a", 20), task(program, "b", 20)])
    told = {log.read_text().split("cores ")[1].split("]")[0] for log in program.glob("*.log")}
    assert told == {f"[{available[0]}", f"[{available[1]}"}


def test_a_signal_goes_to_all_and_nothing_more_is_begun(program: Path) -> None:
    seen = Seen(stop_after=2)
    before = time.monotonic()
    assert seen.call(pool(2), [task(program, str(i), 600) for i in range(4)]) == signal.SIGTERM
    assert time.monotonic() - before < 300
    assert seen.codes == [-signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "as before"


def test_a_run_that_another_process_writes_is_waited_for(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqcrl.studies.pool.WAIT", 0.1)
    mine, other = task(program, "mine", 0.0), task(program, "other", 0.0)
    (program / "mine").mkdir()
    seen, holding = Seen(), claimed(program / "mine")
    holding.__enter__()
    threading.Timer(1.0, holding.__exit__, (None, None, None)).start()
    assert seen.call(pool(1), [mine, other]) is None
    assert seen.codes == [0, 0]
    assert seen.waited == [mine]
    assert seen.renewed == [mine], "what is left of it may be something else by now"
