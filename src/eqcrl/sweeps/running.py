"""The runs of a sweep that are not done yet, wherever they are computed, whatever happens to single ones."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eqcrl.errors import ConfigError, did_you_mean
from eqcrl.files import write_atomically
from eqcrl.jobs.processes import STOP_SIGNALS
from eqcrl.jobs.runs import held, last_records, newest_checkpoint, obituary
from eqcrl.launchers.base import AbstractLauncher, Job, Kind, State
from eqcrl.sweeps.folder import SweepFolder, Trial, TrialRun
from eqcrl.sweeps.methods import AbstractMethod
from eqcrl.sweeps.screen import Screen
from eqcrl.sweeps.spec import Sweep
from eqcrl.sweeps.standing import RunStanding, Standing, look, run_score

POLL = 0.2
"""Seconds between two looks at the jobs."""
WAIT = 5.0
"""Seconds until a run that another process writes is tried again."""


@dataclass(frozen=True)
class Result:
    """How it ended: where it stands, and what stopped it, if it was stopped."""

    standing: Standing
    stopped_by: int | None
    detached: bool = False


class Conductor:
    """Asks for settings, submits their runs, and writes down what became of them. Holds the sweep's lock meanwhile."""

    def __init__(
        self, folder: SweepFolder, sweep: Sweep, launcher: AbstractLauncher, method: AbstractMethod, screen: Screen
    ):
        self.folder = folder
        self.sweep = sweep
        self.launcher = launcher
        self.method = method
        self.screen = screen
        self.bytes = 0
        self.trials: list[Trial] = []
        self.pending: list[TrialRun] = []
        self.active: dict[str, tuple[TrialRun, str]] = {}
        """Name of a run -> the run, and the id of its job."""
        self.kinds: dict[str, Kind] = {}
        self.asides: dict[str, float] = {}
        self.begun_at: dict[str, int] = {}
        """Name of a run -> its newest checkpoint when it was submitted."""
        self.kept: dict[str, RunStanding] = {}
        self.metric_seen = False

    def prepare(self, *, retry: bool) -> list[TrialRun]:
        """What is left of the trials that are known, the first seed of all of them first. Raises: ConfigError."""
        self.trials = self.folder.trials()
        if not self.method.learns():
            for number in range(len(self.trials), self.sweep.trials):
                self._add(self.method.next(number))
        runs = [self.folder.look(trial, seed) for seed in self.sweep.seeds for trial in self.trials]
        for trial in self.trials:
            self._tell(trial)
        statuses = ("missing", "unfinished", "dead") if retry else ("missing", "unfinished")
        self.pending = [run for run in runs if run.status in statuses]
        return self.pending

    def adopt(self) -> None:
        """Take up the jobs that outlived an earlier process; those that were stopped since are submitted anew.

        Raises: RunError.
        """
        known = self.folder.jobs() if self.launcher.lasting() else {}
        states = self.launcher.states(list(known.values()))
        for run in [run for run in self.pending if run.name() in known]:
            job = known[run.name()]
            if states[job].kind not in ("stopped", "evicted", "lost"):
                self.pending.remove(run)
                self.active[run.name()] = (run, job)
                self.begun_at[run.name()] = newest_checkpoint(run.path)

    def run(self, *, detach: bool = False) -> Result:
        """Until nothing is left, or a signal or the stop file ends it; with `detach` until all is submitted.

        The first signal asks all jobs to stop and save, the second asks again, the third ends them.
        """
        asked = 0
        with _signals() as came:
            try:
                while self.active or (not came and self._more()):
                    if self.folder.stop_file.exists() and not came:
                        came.append(signal.SIGTERM)
                    if len(came) > asked:
                        asked = len(came)
                        self.screen.stopping(len(self.active))
                        self.launcher.cancel([job for _, job in self.active.values()], hard=asked > 2)
                    self._settle()
                    if not came:
                        self._submit()
                        if detach and not self.pending:
                            return Result(self.standing(), None, detached=True)
                    self.screen.tick(self.standing)
                    if self.active or self.pending:
                        time.sleep(POLL)
            finally:
                self.launcher.close()
        return Result(self.standing(), came[0] if came else None)

    def standing(self) -> Standing:
        """Where it stands now."""
        return look(self.folder, self.sweep, self.trials, self.kinds, self.kept)

    def _more(self) -> bool:
        return bool(self.pending) or len(self.trials) < self.sweep.trials

    def _add(self, trial: Trial) -> None:
        self.folder.add(trial)
        self.trials.append(trial)

    def _submit(self) -> None:
        while (
            self.method.learns()
            and not self.pending
            and len(self.trials) < self.sweep.trials
            and self.launcher.room() > 0
        ):
            trial = self.method.next(len(self.trials))
            self._add(trial)
            self.screen.suggested(trial)
            self.pending += [self.folder.look(trial, seed) for seed in self.sweep.seeds]
            self._submit_pending()
        self._submit_pending()

    def _submit_pending(self) -> None:
        now = time.monotonic()
        ready = []
        for run in list(self.pending):
            if self.asides.get(run.name(), 0.0) > now:
                continue
            if held(run.path):
                if run.name() not in self.asides:
                    self.screen.waiting(run)
                self.asides[run.name()] = now + WAIT
                continue
            self.pending.remove(run)
            # Whoever wrote it may have ended it.
            present = self.folder.look(run.trial, run.seed) if self.asides.pop(run.name(), None) else run
            if present.status == "done":
                self._ended(present)
            else:
                ready.append(present)
        if not ready:
            return
        for run in ready:
            self.folder.failure(run.trial.name(), run.seed).unlink(missing_ok=True)
            self.begun_at[run.name()] = newest_checkpoint(run.path)
        jobs = self.launcher.submit([self._job(run) for run in ready])
        self.active |= {run.name(): (run, job) for run, job in zip(ready, jobs, strict=True)}
        self._keep_jobs()
        for run in ready:
            self.screen.submitted(run)

    def _job(self, run: TrialRun) -> Job:
        setting, path = run.trial.setting, run.path.resolve()
        arguments = ("train", *setting.flags(), "--seed", str(run.seed), "--out", str(path))
        log = self.folder.log(run.trial.name(), run.seed).resolve()
        return Job(run.name(), path, arguments, log, self.bytes)

    def _settle(self) -> None:
        """See what became of the jobs."""
        if not self.active:
            return
        states = self.launcher.states([job for _, job in self.active.values()])
        self.kinds = {name: states[job].kind for name, (_, job) in self.active.items()}
        over = {name: states[job] for name, (_, job) in self.active.items() if states[job].over()}
        for name, state in over.items():
            run, _ = self.active.pop(name)
            self._judge(self.folder.look(run.trial, run.seed), state)
        if over:
            self._keep_jobs()

    def _judge(self, run: TrialRun, state: State) -> None:
        came_further = newest_checkpoint(run.path) > self.begun_at.get(run.name(), -1)
        if run.status == "done" or state.kind == "stopped":
            pass
        elif state.kind in ("lost", "evicted") and came_further:
            self.pending.append(run)
            return
        else:
            log = self.folder.log(run.trial.name(), run.seed)
            how = state.how or "it ended before its run was done"
            write_atomically(self.folder.failure(run.trial.name(), run.seed), obituary(run.name(), how, log))
        self._ended(self.folder.look(run.trial, run.seed))

    def _ended(self, run: TrialRun) -> None:
        self._refuse_unknown_metric(run)
        self.screen.ended(run, run_score(self.sweep, run), self.standing().counts())
        self._tell(run.trial)

    def _tell(self, trial: Trial) -> None:
        """Once all seeds of a trial are done or dead."""
        runs = [self.folder.look(trial, seed) for seed in self.sweep.seeds]
        if all(run.status in ("done", "dead") for run in runs):
            scores = [run_score(self.sweep, run) if run.status == "done" else None for run in runs]
            found = [score for score in scores if score is not None]
            self.method.tell(trial, sum(found) / len(found) if len(found) == len(scores) else None)

    def _refuse_unknown_metric(self, run: TrialRun) -> None:
        """Raises: ConfigError if the first run that is done does not record what the sweep is about."""
        if self.metric_seen or run.status != "done":
            return
        records = last_records(run.path, self.sweep.last)
        if records and not any(self.sweep.metric in record for record in records):
            raise ConfigError(
                f"{self.sweep.place()}: its runs record no `{self.sweep.metric}`.",
                mend=f"{did_you_mean(self.sweep.metric, records[-1])} Begin the sweep anew in another folder.",
            )
        self.metric_seen = True

    def _keep_jobs(self) -> None:
        if self.launcher.lasting():
            self.folder.keep_jobs({name: job for name, (_, job) in self.active.items()})


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The stop signals that came within the block."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in STOP_SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
