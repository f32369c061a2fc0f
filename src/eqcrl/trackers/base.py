"""What a tracker is: it is told of one run, line by line, on a thread of its own."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Line = Mapping[str, float]
"""The numbers of one evaluation by name, as metrics.jsonl has them; `env_steps` ascends."""

Status = Literal["finished", "stopped", "diverged", "failed"]
"""How a run ended: `stopped` may be continued, `failed` is an error of eqcrl or of the machine."""


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of its run when it starts."""

    path: Path
    """The run directory. A tracker may write there, under names of its own."""
    name: str
    """Of the directory; of several seeds trained together `folder-seed3`."""
    group: str | None
    """The name of the folder if several seeds are trained together."""
    config: Mapping[str, Any]
    """Every setting by its dotted key."""
    history: Sequence[Mapping[str, float | None]]
    """Lines that count already: those before the checkpoint from which a run is continued. What a tracker recorded
    beyond them will come again. A number that was not finite is None."""


class AbstractTracker(abc.ABC):
    """Takes the lines of one run somewhere. Its settings are the annotated fields of a dataclass.

    All methods of one tracker are called by one thread, which is not the main one; trackers of several runs are at work
    at the same time. Whatever is raised is told once, and training goes on; a method may take its time, within limits.
    """

    @abc.abstractmethod
    def start(self, run: Tracked) -> None:
        """Before anything else. A run that is continued goes on in the same record, which then holds `run.history`.

        If this fails, the tracker is not used.
        """

    @abc.abstractmethod
    def log(self, line: Line) -> None:
        """One evaluation. If this fails the line is lost, and the next is tried."""

    @abc.abstractmethod
    def finish(self, status: Status) -> None:
        """No more lines come. Raised or not, the process may end soon after."""
