"""What the conductor does about jobs that do not simply end: on a launcher whose jobs do what the test says."""

import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from eqcrl.config import Config
from eqcrl.errors import RunError
from eqcrl.jobs.runs import last_unroll
from eqcrl.launchers.base import AbstractLauncher, Job, Site, State
from eqcrl.lock import claimed
from eqcrl.rundir import RunDir
from eqcrl.sweeps.begin import Sizes, run_sweep
from eqcrl.sweeps.folder import SweepFolder
from eqcrl.sweeps.running import Result
from eqcrl.sweeps.source import Source
from sweeps.conftest import BASE, quick, sweep_text

Act = Callable[[Job], State]


class Played(AbstractLauncher):
    """Every job is over as soon as it is submitted; what it does is the next of `acts`."""

    def __init__(self, acts: Sequence[Act], known: Mapping[str, State] | None = None):
        self.acts = list(acts)
        self.found = dict(known or {})
        self.submitted: list[str] = []

    def check(self) -> None:
        pass

    def lasting(self) -> bool:
        return True

    def open(self, site: Site) -> None:
        self.site = site

    def room(self) -> int:
        return 1

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        ids = []
        for job in jobs:
            self.submitted.append(job.name)
            ids.append(f"job{len(self.submitted)}")
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.write_text("Error: it says so.\n")
            self.found[ids[-1]] = self.acts.pop(0)(job)
        return ids

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        return {name: self.found[name] for name in ids}

    def cancel(self, ids: Sequence[str], *, hard: bool = False) -> None:
        raise AssertionError("nobody asked")

    def close(self) -> None:
        pass


def reach(job: Job, number: int, value: float | None = 0.5) -> None:
    """The run of a job gets a checkpoint and an evaluation."""
    pairs = [w.removeprefix("--").split("=", 1) for w in job.arguments if "=" in w]
    words = {key.replace("-", "_"): value for key, value in pairs}
    run = RunDir(job.run)
    if not run.config_file.exists():
        RunDir.create(job.run, Config.load(overrides=words), {})
    (run.checkpoints / f"{number:09d}").mkdir()
    run.append_metrics({"env_steps": 80 * number, "eval/success_any": float("nan") if value is None else value})


def end(job: Job) -> State:
    reach(job, 12)
    return State("done")


def evicted_at(number: int | None) -> Act:
    def act(job: Job) -> State:
        if number is not None:
            reach(job, number)
        return State("evicted", "TIMEOUT in SLURM")

    return act


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16]'))
    return SweepFolder(tmp_path / "sweep")


def play(folder: SweepFolder, launcher: Played) -> tuple[Result, str]:
    sweep = Source(folder.path.with_name("mine.toml")).sweep()
    console = Console(file=io.StringIO(), width=200)
    machine, _ = quick(sweep, [])
    result = run_sweep(folder, sweep, launcher, Sizes(machine, 7), console, retry=False, detach=False)
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tiny_run_ends_where_these_tests_think() -> None:
    assert last_unroll(Config.load(overrides=BASE)) == 12


def test_a_run_that_lost_its_place_is_submitted_again_while_it_comes_further(folder: SweepFolder) -> None:
    launcher = Played([evicted_at(2), evicted_at(5), end])
    result, _ = play(folder, launcher)
    assert launcher.submitted == ["0000/seed0"] * 3
    assert result.standing.counts() == {"done": 1}
    assert folder.jobs() == {}
    assert (launcher.site.name, launcher.site.needs) == ("mine", (7,))


def test_one_that_does_not_come_further_has_died(folder: SweepFolder) -> None:
    launcher = Played([evicted_at(2), evicted_at(None)])
    result, said = play(folder, launcher)
    assert launcher.submitted == ["0000/seed0"] * 2
    (row,) = result.standing.trials
    assert row.state() == "dead"
    assert "0000/seed0 died: TIMEOUT in SLURM." in said
    assert row.runs[0].message.startswith("0000/seed0: TIMEOUT in SLURM.\nError: it says so.")


def test_a_job_that_is_done_and_its_run_is_not(folder: SweepFolder) -> None:
    def act(job: Job) -> State:
        reach(job, 3)
        return State("done")

    result, said = play(folder, Played([act]))
    assert result.standing.counts() == {"dead": 1}
    assert "it ended before its run was done" in said


def test_a_job_of_which_nothing_is_known_may_have_done_its_work(folder: SweepFolder) -> None:
    def act(job: Job) -> State:
        reach(job, 12)
        return State("lost")

    result, _ = play(folder, Played([act]))
    assert result.standing.counts() == {"done": 1}


def test_a_score_that_is_not_finite_is_none(folder: SweepFolder) -> None:
    def act(job: Job) -> State:
        reach(job, 12, None)
        return State("done")

    result, _ = play(folder, Played([act]))
    assert result.standing.trials[0].score() is None
    assert result.standing.best() is None


@pytest.mark.parametrize(
    ("state", "submitted"), [("stopped", 1), ("lost", 1), ("evicted", 1), ("failed", 0), ("done", 0)]
)
def test_jobs_of_an_earlier_process(folder: SweepFolder, state: str, submitted: int) -> None:
    sweep = Source(folder.path.with_name("mine.toml")).sweep()
    folder.make()
    folder.begin(sweep)
    folder.keep_jobs({"0000/seed0": "old"})
    launcher = Played([end], {"old": State(state, "it says so")})  # type: ignore[arg-type]
    result, _ = play(folder, launcher)
    assert len(launcher.submitted) == submitted
    assert result.standing.counts() == ({"done": 1} if submitted else {"dead": 1})


def test_a_run_that_another_process_writes_is_waited_for(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqcrl.sweeps.running.WAIT", 0.1)
    run = folder.run("0000", 0)
    run.mkdir(parents=True)
    folder.sweep_file.write_text(Source(folder.path.with_name("mine.toml")).sweep().to_toml())
    holding = claimed(run)
    holding.__enter__()
    threading.Timer(0.7, holding.__exit__, (None, None, None)).start()
    launcher = Played([lambda job: State("failed", "as told")])
    _, said = play(folder, launcher)
    assert said.count("0000/seed0 is being written by another process") == 1
    assert launcher.submitted == ["0000/seed0"]


def test_files_that_cannot_be_read(folder: SweepFolder) -> None:
    play(folder, Played([end]))
    trial = folder.path / "trials" / "0000.json"
    whole = json.loads(trial.read_text())
    for text in ("{", "[]", "{}", json.dumps(whole | {"overrides": 3})):
        trial.write_text(text)
        with pytest.raises(RunError, match=r"0000.json cannot be read"):
            folder.trials()
    folder.jobs_file.write_text("{")
    with pytest.raises(RunError, match=r"jobs.json cannot be read"):
        folder.jobs()
