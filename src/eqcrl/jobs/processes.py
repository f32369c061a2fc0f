"""Starting `eqcrl` as a process of its own: what it prints goes to a file, and it ends when its parent does."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eqcrl.files import writing
from eqcrl.jobs.child import wrapped

EQCRL = (sys.executable, "-m", "eqcrl")
STOPPED = {130, 75, -signal.SIGINT, -signal.SIGTERM}
"""Exit codes of a process that was asked to stop."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
"""How a command ends that one of the signals stopped."""


@dataclass
class Started:
    """A process and its log."""

    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Bytes that the log had before."""
    at: float = field(default_factory=time.monotonic)

    def printed(self) -> str:
        """What it wrote so far."""
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", errors="replace")


def start(command: Sequence[str], log: Path, *, cores: Sequence[int], environment: Mapping[str, str]) -> Started:
    """Begin the command on these cores (none: on all); what it prints is added to the log. Raises: RunError."""
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        size = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            # A session of its own: Ctrl-C goes to everyone at the terminal, and a second one would interrupt it.
            process = subprocess.Popen(
                wrapped(command, cores=cores),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
    return Started(process, log, size)


def how_it_ended(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + (", perhaps for memory" if code == -9 else "")
