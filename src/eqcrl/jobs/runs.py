"""How far the run in a directory is, from its files alone."""

import json
import os
import platform
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from eqcrl.config import Config
from eqcrl.errors import EqcrlError, RunError
from eqcrl.lock import HOLDER, LOCK
from eqcrl.rundir import RunDir

Status = Literal["done", "unfinished", "dead", "missing"]
LINE_BYTES = 4096
"""More than a line of metrics.jsonl has."""


def is_done(run: Path) -> bool:
    """Whether the run's last checkpoint is that of its last epoch. Raises: RunError, ConfigError for a broken run."""
    newest = newest_checkpoint(run)
    return newest >= 0 and has_begun(run) and newest >= last_unroll(RunDir(run).config())


def status_of(run: Path, failure: Path) -> tuple[Status, str]:
    """How far a run is, and its last words if it died; `failure` is where they are written down."""
    message = failure.read_text(encoding="utf-8").strip() if failure.is_file() else ""
    status: Status = "dead" if message else "missing"
    try:
        if is_done(run):
            status = "done"
        elif has_begun(run) and not message:
            status = "unfinished"
    except EqcrlError as error:
        status, message = "dead", message or str(error)
    return status, message


def last_unroll(config: Config) -> int:
    """The number of the checkpoint at the end of a run."""
    return config.prefill_epochs() + config.num_epochs()


def total_env_steps(config: Config) -> int:
    """Environment steps of a whole run, over all environments: whole unrolls."""
    return last_unroll(config) * config.env_steps_per_epoch()


def has_begun(run: Path) -> bool:
    """Whether there is a run to continue; without a checkpoint it is begun anew in its directory."""
    return (run / "config.toml").is_file()


def held(run: Path) -> bool:
    """Whether another process writes the run, such as one that outlived what began it.

    Takes the lock for a moment: only for someone who may start the run.
    """
    if not (run / LOCK).is_file():
        return False
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def is_written(directory: Path) -> bool:
    """Whether a process writes here, as far as can be told without taking its lock: for a look from outside."""
    try:
        holder = json.loads((directory / HOLDER).read_text(encoding="utf-8"))
        if holder["host"] != platform.node():
            return True
        os.kill(holder["pid"], 0)
    except PermissionError:  # alive, and somebody else's
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def newest(run: Path) -> dict[str, Any]:
    """The last whole line of a run's metrics; empty before the first evaluation."""
    lines = last_records(run, 1)
    return lines[-1] if lines else {}


def last_records(run: Path, count: int) -> list[dict[str, Any]]:
    """The last whole lines of a run's metrics, so many at most; none before the first evaluation."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(0, os.SEEK_END)
            start = max(file.tell() - LINE_BYTES * (count + 1), 0)
            file.seek(start)
            lines = file.read().split(b"\n")[1 if start else 0 : -1]
        return [dict(json.loads(line)) for line in lines[-count:] if line]
    except (OSError, ValueError, TypeError):
        return []


def newest_checkpoint(run: Path) -> int:
    """The number of the newest checkpoint to continue from; -1 if there is none."""
    folder = run / "checkpoints"
    return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=-1) if folder.is_dir() else -1


def last_lines(log: Path, count: int = 12) -> str:
    """The end of what a process printed. Raises: RunError."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RunError(f"{log} cannot be read: {error.strerror}.") from None
    return "\n".join(line.rstrip() for line in lines[-count:] if line.strip())


def obituary(name: str, how: str, log: Path) -> str:
    """What is written down of a run that died: how, its last lines, and where all of them are. Raises: RunError."""
    if not log.is_file():
        return f"{name}: {how}.\nIt printed nothing.\n"
    return f"{name}: {how}.\n{last_lines(log)}\n\nAll that it printed: {log}\n"


def last_words(message: str) -> str:
    """An obituary in a few lines: how it ended, and the error or the end of what it printed."""
    lines = [line for line in message.splitlines() if line and not line.startswith("All that it printed")]
    error = next((i for i, line in enumerate(lines) if line.startswith("Error:")), None)
    return "\n".join([lines[0], *(lines[error : error + 2] if error is not None else lines[-2:])])
