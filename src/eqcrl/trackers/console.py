"""The tracker `console`: every number of an evaluation on standard output."""

import fnmatch
from dataclasses import dataclass, field
from typing import Annotated

from eqcrl.settings import Meta
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked


@dataclass
class Console(AbstractTracker):
    """One line `name env_steps=... eval/success_any=...` for each evaluation, for logs and pipes.

    What `eqcrl train` says of its progress stays as it is; with `--quiet` this is all that is said.
    """

    metrics: Annotated[str, Meta(description="what to print, as patterns with commas: eval/*,train/critic_loss")] = "*"
    name: str = field(default="", init=False)

    def start(self, run: Tracked) -> None:
        """Note the name."""
        self.name = run.name

    def log(self, line: Line) -> None:
        """Print the numbers that are asked for."""
        patterns = [pattern.strip() for pattern in self.metrics.split(",")]
        chosen = [k for k in line if k == "env_steps" or any(fnmatch.fnmatchcase(k, p) for p in patterns)]
        print(
            self.name, *(f"{k}={line[k]:.6g}" if k != "env_steps" else f"{k}={line[k]:.0f}" for k in chosen), flush=True
        )

    def finish(self, status: Status) -> None:
        """Say how it ended."""
        print(self.name, status, flush=True)
