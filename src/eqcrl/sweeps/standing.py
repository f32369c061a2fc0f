"""Where a sweep stands: state, progress and score of every setting, the best first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eqcrl.jobs.runs import is_written, last_records, total_env_steps
from eqcrl.launchers.base import Kind
from eqcrl.sweeps.folder import SweepFolder, Trial, TrialRun
from eqcrl.sweeps.spec import Sweep

RunState = Literal["done", "running", "waiting", "unfinished", "dead", "missing"]
ORDER: tuple[RunState, ...] = ("running", "waiting", "unfinished", "missing", "dead", "done")
"""What of its seeds a trial is called by: the first of these that one of them is."""


@dataclass(frozen=True)
class RunStanding:
    """One run; steps are of the environment, over all environments."""

    seed: int
    state: RunState
    env_steps: int
    total_env_steps: int
    score: float | None
    """So far: of the last evaluations that there are."""
    seconds_left: float | None
    message: str


@dataclass(frozen=True)
class TrialStanding:
    """One setting with its runs."""

    name: str
    values: Mapping[str, Any]
    runs: tuple[RunStanding, ...]

    def state(self) -> RunState:
        """In one word."""
        return next(state for state in ORDER if any(run.state == state for run in self.runs))

    def score(self) -> float | None:
        """The mean over the seeds, so far; None if one that died, or one that is done, has none."""
        if any(run.state == "dead" or (run.state == "done" and run.score is None) for run in self.runs):
            return None
        scores = [run.score for run in self.runs if run.score is not None]
        return sum(scores) / len(scores) if scores else None

    def final(self) -> bool:
        """Whether the score will not change any more."""
        return all(run.state == "done" for run in self.runs)

    def share(self) -> float:
        """How much of the steps is done."""
        return sum(run.env_steps for run in self.runs) / sum(run.total_env_steps for run in self.runs)


@dataclass(frozen=True)
class Standing:
    """All settings so far, in order: scores that are final, the best first, then those so far, then the rest."""

    sweep: Sweep
    trials: tuple[TrialStanding, ...]

    def best(self) -> TrialStanding | None:
        """The best final score."""
        first = self.trials[0] if self.trials else None
        return first if first is not None and first.final() and first.score() is not None else None

    def counts(self) -> dict[str, int]:
        """How many runs there are in each state, those of trials included that were not asked for yet."""
        states = [run.state for trial in self.trials for run in trial.runs]
        states += ["missing"] * ((self.sweep.trials - len(self.trials)) * len(self.sweep.seeds))
        return {state: states.count(state) for state in reversed(ORDER) if state in states}

    def seconds_left(self) -> float | None:
        """Until all is done, if as many runs go on side by side as now; None if that cannot be told."""
        runs = [run for trial in self.trials for run in trial.runs]
        going = [run for run in runs if run.state == "running" and run.seconds_left is not None and run.env_steps]
        if not going:
            return None
        pace = [run.seconds_left / max(run.total_env_steps - run.env_steps, 1) for run in going if run.seconds_left]
        if not pace:
            return 0.0
        rest = sum(r.total_env_steps - r.env_steps for r in runs if r.state not in ("done", "dead"))
        to_come = (self.sweep.trials - len(self.trials)) * len(self.sweep.seeds)
        rest += to_come * (sum(r.total_env_steps for r in runs) // max(len(runs), 1))
        return rest * sum(pace) / len(pace) / max(sum(run.state == "running" for run in runs), 1)


def look(
    folder: SweepFolder, sweep: Sweep, trials: Sequence[Trial], jobs: Mapping[str, Kind], kept: dict[str, RunStanding]
) -> Standing:
    """The standing now. `jobs` says how the job of a run is, where that is known; `kept` remembers what is done."""
    rows = []
    for trial in trials:
        runs = []
        for seed in sweep.seeds:
            name = f"{trial.name()}/seed{seed}"
            if name not in kept:
                run = folder.look(trial, seed)
                found = _standing(sweep, run, jobs.get(run.name()))
                if found.state != "done":
                    runs.append(found)
                    continue
                kept[name] = found
            runs.append(kept[name])
        rows.append(TrialStanding(trial.name(), trial.setting.values, tuple(runs)))
    return Standing(sweep, tuple(sorted(rows, key=lambda row: _rank(sweep, row))))


def _rank(sweep: Sweep, row: TrialStanding) -> tuple[int, float]:
    score = row.score()
    if row.state() == "dead":
        return 3, 0.0
    if score is None:
        return 2, 0.0
    return (0 if row.final() else 1), -sweep.better(score)


def _standing(sweep: Sweep, run: TrialRun, job: Kind | None) -> RunStanding:
    records = last_records(run.path, sweep.last)
    state: RunState = run.status
    if state in ("unfinished", "missing") and (job == "running" or is_written(run.path)):
        state = "running"
    elif state in ("unfinished", "missing") and job == "waiting":
        state = "waiting"
    total = total_env_steps(run.trial.setting.config)
    steps = int(records[-1].get("env_steps", 0)) if records else 0
    wall = records[-1].get("wall_seconds") if records else None
    left = (total - steps) * wall / steps if steps and isinstance(wall, int | float) and state == "running" else None
    return RunStanding(
        run.seed, state, total if state == "done" else steps, total, run_score(sweep, run), left, run.message
    )


def run_score(sweep: Sweep, run: TrialRun) -> float | None:
    """The mean of the metric over the last evaluations so far, but for those that lack it; None if all do."""
    records = last_records(run.path, sweep.last)
    values = [value for r in records if isinstance(value := r.get(sweep.metric), int | float)]
    return sum(values) / len(values) if values else None


def as_json(standing: Standing, busy: bool) -> dict[str, Any]:
    """The same as plain data."""
    best = standing.best()
    return {
        "sweep": standing.sweep.name,
        "method": standing.sweep.method,
        "metric": standing.sweep.metric,
        "direction": standing.sweep.direction,
        "launcher": standing.sweep.launcher,
        "running": busy,
        "trials": standing.sweep.trials,
        "runs": standing.counts(),
        "seconds_left": standing.seconds_left(),
        "best": best.name if best else None,
        "settings": [
            {
                "trial": row.name,
                "values": dict(row.values),
                "state": row.state(),
                "score": row.score(),
                "final": row.final(),
                "seeds": [vars(run) for run in row.runs],
            }
            for row in standing.trials
        ],
    }
