"""What starts the runs of a sweep, wherever they are computed."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eqcrl.jobs import processes
from eqcrl.jobs.machine import Machine

Kind = Literal["waiting", "running", "done", "stopped", "evicted", "failed", "lost"]
"""`stopped` was asked to, `evicted` lost its place through no fault of its own, of a `lost` one nothing is known."""


@dataclass(frozen=True)
class Job:
    """One run to begin or to continue."""

    name: str
    run: Path
    arguments: tuple[str, ...]
    """Of `eqcrl`, for a run that has not begun."""
    log: Path
    bytes: int
    """Memory that it is expected to take."""

    def command(self) -> list[str]:
        """What begins it."""
        return [*processes.EQCRL, *self.arguments]


@dataclass(frozen=True)
class State:
    """How a job is; `how` says it in words where it ended badly."""

    kind: Kind
    how: str = ""

    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.kind not in ("waiting", "running")


@dataclass(frozen=True)
class Site:
    """What a launcher is told before the first job."""

    name: str
    """Of the sweep."""
    folder: Path
    """Of the sweep, for files of the launcher's own; absolute."""
    machine: Machine
    """Where the sweep was started."""
    needs: tuple[int, ...]
    """Bytes of each run that is left, as far as they are known."""


class AbstractLauncher(abc.ABC):
    """Submits runs, says how they are, and cancels them. Its settings are the fields that it is made with.

    Third parties name theirs in the entry-point group `eqcrl.launchers`; making one must neither start nor import
    anything heavy.
    """

    @abc.abstractmethod
    def check(self) -> None:
        """Raises: UsageError, ConfigError, RunError if it cannot be used here, or not with these settings."""

    @abc.abstractmethod
    def lasting(self) -> bool:
        """Whether jobs outlive the process that submitted them, and are known by their ids to the next one."""

    @abc.abstractmethod
    def open(self, site: Site) -> None:
        """Called once, before everything below."""

    @abc.abstractmethod
    def room(self) -> int:
        """How many more jobs would be computed at once; all that are submitted are taken, the rest waits."""

    @abc.abstractmethod
    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """An id for each job. Raises: RunError."""

    @abc.abstractmethod
    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """How these jobs are; called several times a second."""

    @abc.abstractmethod
    def cancel(self, ids: Sequence[str], *, hard: bool = False) -> None:
        """Ask jobs to save and stop, or with `hard` end them; those that wait are dropped. Does not wait."""

    @abc.abstractmethod
    def close(self) -> None:
        """Called once at the end: what does not outlive this process is ended and waited for."""
