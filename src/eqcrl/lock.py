"""One process at a time in a run directory."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from eqcrl.errors import RunError
from eqcrl.files import write_atomically, writing

LOCK, HOLDER = ".lock", ".writer.json"


@contextmanager
def claimed(directory: Path, what: str = "run") -> Iterator[None]:
    """Within the block no other process writes this run, or whatever `what` says lies there.

    The operating system holds the lock and lets go of it when the process ends, however it ends: a run that was killed
    is free at once, though its lock file is still there.

    Raises: RunError if another process has it, or the directory cannot be written.
    """
    lock = FileLock(directory / LOCK)
    with writing(directory / LOCK):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(
                f"The {what} {directory} is being written by another process{_holder(directory)}.",
                mend="Wait for it or stop it (Ctrl-C or SIGTERM: it saves everything), then resume.",
            ) from None
    try:
        write_atomically(directory / HOLDER, json.dumps({"pid": os.getpid(), "host": platform.node()}) + "\n")
        yield
    finally:
        # While the lock is still held, so that it is ours to remove: whoever tried and failed leaves no trace.
        with contextlib.suppress(OSError):
            (directory / HOLDER).unlink()
        lock.release()


def _holder(directory: Path) -> str:
    """Who it is, as far as that is known; only for the message."""
    try:
        holder = json.loads((directory / HOLDER).read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
