"""A sweep folder: which settings are tried, and what became of each.

sweep.toml           the sweep; itself a sweep file     failed/NNNN/seedK.txt   why a run died
trials/NNNN.json     a setting that is tried            jobs.json               jobs of a cluster, by run
runs/NNNN/seedK/     run directories                    optuna.journal          what Optuna was told
logs/NNNN/seedK.log  what a run printed                 stop                    asks whoever runs the sweep to stop
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eqcrl.config import Config
from eqcrl.errors import RunError, UsageError
from eqcrl.files import write_atomically, writing
from eqcrl.jobs.runs import Status, status_of
from eqcrl.jobs.setting import Setting
from eqcrl.lock import claimed
from eqcrl.sweeps.source import Source
from eqcrl.sweeps.spec import Sweep


@dataclass(frozen=True)
class Trial:
    """A setting that is tried; `extra` is what the method keeps of it."""

    number: int
    setting: Setting
    extra: Mapping[str, Any]

    def name(self) -> str:
        """`0007`."""
        return self.setting.slug


@dataclass(frozen=True)
class TrialRun:
    """One seed of a trial, and how far it is."""

    trial: Trial
    seed: int
    path: Path
    status: Status
    message: str
    """Of a dead run its last words."""

    def name(self) -> str:
        """Trial and seed, for people."""
        return f"{self.trial.name()}/seed{self.seed}"


class SweepFolder:
    """Paths of a sweep folder; holds no state of its own."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.sweep_file = self.path / "sweep.toml"
        self.journal = self.path / "optuna.journal"
        self.jobs_file = self.path / "jobs.json"
        self.stop_file = self.path / "stop"

    def run(self, trial: str, seed: int) -> Path:
        """The run directory."""
        return self.path / "runs" / trial / f"seed{seed}"

    def log(self, trial: str, seed: int) -> Path:
        """What the run printed."""
        return self.path / "logs" / trial / f"seed{seed}.log"

    def failure(self, trial: str, seed: int) -> Path:
        """Why the run died; absent if it did not."""
        return self.path / "failed" / trial / f"seed{seed}.txt"

    def refuse_foreign(self, sweep: Sweep) -> None:
        """Raises: UsageError if the folder holds another sweep or other files."""
        if self.sweep_file.is_file():
            _refuse_other(self.path, Source(self.sweep_file).sweep(), sweep)
        elif self.path.exists() and (not self.path.is_dir() or any(p.name[0] != "." for p in self.path.iterdir())):
            raise UsageError(f"{self.path} exists and is no sweep folder.", mend="Choose another --out.")

    def refuse_busy(self) -> None:
        """Raises: RunError if another process runs the sweep."""
        if self.path.is_dir():
            with claimed(self.path, "sweep"):
                pass

    def make(self) -> None:
        """Create the folder. Raises: RunError."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def begin(self, sweep: Sweep) -> Sweep:
        """Write the sweep down, or go on with the one that is there: the more trials of both, and the seeds of both.

        Raises: UsageError if the folder holds another sweep or other files.
        """
        self.refuse_foreign(sweep)
        if self.sweep_file.is_file():
            sweep = _together(Source(self.sweep_file).sweep(), sweep)
        self.stop_file.unlink(missing_ok=True)
        write_atomically(self.sweep_file, sweep.to_toml())
        return sweep

    def sweep(self) -> Sweep:
        """The sweep that is written down. Raises: UsageError if this is no sweep folder; ConfigError, PluginError."""
        if not self.sweep_file.is_file():
            raise UsageError(
                f"{self.path} is no sweep folder: it has no sweep.toml.", mend="Give what `eqcrl sweep FILE.toml` made."
            )
        return Source(self.sweep_file).sweep()

    def trials(self) -> list[Trial]:
        """Those that were begun, by number. Raises: RunError for one that cannot be read; ConfigError."""
        folder = self.path / "trials"
        files = sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []
        return [_read_trial(file) for file in files]

    def add(self, trial: Trial) -> None:
        """Write a trial down."""
        tree = {
            "number": trial.number,
            "values": dict(trial.setting.values),
            "preset": trial.setting.preset,
            "overrides": dict(trial.setting.overrides),
            **trial.extra,
        }
        write_atomically(self.path / "trials" / f"{trial.name()}.json", json.dumps(tree, indent=1) + "\n")

    def look(self, trial: Trial, seed: int) -> TrialRun:
        """One run in its present state."""
        path = self.run(trial.name(), seed)
        status, message = status_of(path, self.failure(trial.name(), seed))
        return TrialRun(trial, seed, path, status, "" if status == "done" else message)

    def jobs(self) -> dict[str, str]:
        """Name of a run -> id of its job, of a launcher whose jobs outlive the sweep's process."""
        try:
            tree = json.loads(self.jobs_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise _unreadable(self.jobs_file, error) from None
        return {str(k): str(v) for k, v in tree.items()} if isinstance(tree, dict) else {}

    def keep_jobs(self, jobs: Mapping[str, str]) -> None:
        """Write these down in their place."""
        write_atomically(self.jobs_file, json.dumps(dict(jobs), indent=1) + "\n")


def trial_name(number: int) -> str:
    """What the folders of a trial are called."""
    return f"{number:04d}"


def _read_trial(file: Path) -> Trial:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        number, values, preset, overrides = (tree.pop(k) for k in ("number", "values", "preset", "overrides"))
        config, _ = Config.merge(preset=preset, overrides=overrides, origin=str(file))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unreadable(file, error) from None
    return Trial(number, Setting(trial_name(number), values, preset, overrides, config), tree)


def _unreadable(file: Path, error: Exception) -> RunError:
    return RunError(f"{file} cannot be read: {error}.", mend="Restore it, or begin the sweep anew in another folder.")


def _refuse_other(path: Path, before: Sweep, now: Sweep) -> None:
    old, new = before.definition(), now.definition()
    if before.method == "optuna" and before.seeds != now.seeds:
        old["seeds"], new["seeds"] = list(before.seeds), list(now.seeds)  # what Optuna was told cannot be taken back
    keys = [k for k in dict.fromkeys((*old, *new)) if old.get(k) != new.get(k)]
    if keys:
        rows = "; ".join(f"{k} is {_shown(old.get(k))} there, {_shown(new.get(k))} was asked for" for k in keys)
        raise UsageError(
            f"{path} holds another sweep ({before.name}): {rows}.",
            mend="Choose another --out; or ask for the same to continue it.",
        )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _together(before: Sweep, now: Sweep) -> Sweep:
    seeds = tuple(dict.fromkeys((*before.seeds, *now.seeds)))
    return replace(now, name=before.name, trials=max(before.trials, now.trials), seeds=seeds)
