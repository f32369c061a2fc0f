"""The tracker `tensorboard`: scalars in an event file."""

import math
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from eqcrl.files import atomic
from eqcrl.settings import Meta
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked
from eqcrl.trackers.events import begin, record, scalars

AXES = ("env_steps", "grad_steps")


@dataclass
class TensorBoard(AbstractTracker):
    """Every metric against environment steps: `tensorboard/` in the run directory, or `FOLDER/RUN/`.

    A run that is continued gets a new file with the lines that count in place of the older one, so that no reader sees
    a step twice. What is not finite is left out. Raises (in `start` and `log`): RunError, OSError.
    """

    folder: Annotated[
        str | None, Meta(description="folder for the event files of many runs; by default the run directory")
    ] = None
    path: Path = field(default=Path(), init=False)
    whole: int = field(default=0, init=False)
    """Bytes of complete records."""

    def start(self, run: Tracked) -> None:
        """Write the lines that count."""
        place = Path(self.folder) / run.name if self.folder else run.path / "tensorboard"
        older = sorted(place.glob("events.out.tfevents.*.eqcrl"))
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}.eqcrl"
        self.path = place / name
        last = max((row.get("wall_seconds") or 0.0 for row in run.history), default=0.0)
        data = record(begin(now))
        for row in run.history:
            kept = {k: v for k, v in row.items() if v is not None}
            data += _record(kept, now - last + (row.get("wall_seconds") or 0.0))
        with atomic(self.path) as temporary:
            temporary.write_bytes(data)
        self.whole = len(data)
        for path in older:
            path.unlink(missing_ok=True)

    def log(self, line: Line) -> None:
        """Append one record with all scalars. A record that was cut short is cut off first."""
        data = _record(line, time.time())
        with self.path.open("r+b") as file:
            file.truncate(self.whole)
            file.seek(self.whole)
            file.write(data)
        self.whole += len(data)

    def finish(self, status: Status) -> None:
        """Nothing is left to do."""


def _record(line: Line, at: float) -> bytes:
    values = {name: value for name, value in line.items() if name not in AXES[:1] and math.isfinite(value)}
    return record(scalars(at, int(line["env_steps"]), values))
