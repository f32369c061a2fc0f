"""Processes that are killed or asked to stop, at random moments."""

import random
import signal
import time
from pathlib import Path

from benchmarks.faults import runs
from benchmarks.faults.runs import Result

UNROLLS = 500
# Seconds after the beginning within which a process is harmed.
WINDOW = 4.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def reference(place: Path) -> tuple[Path, float]:
    """The run that is left alone, and how long a process takes to begin."""
    path = place / "reference"
    runs.must_finish(path, UNROLLS)
    began = time.monotonic()
    runs.must_finish(path, UNROLLS)  # nothing is left to do
    return path, time.monotonic() - began


def killed(place: Path, alone: Path, start: float, times: int, rng: random.Random) -> Result:
    """SIGKILL, again and again in the same run, until it ends; then in the next one."""
    result, worst, path = Result("SIGKILL at a random moment"), 0, place / "killed"
    number = 0
    while result.tried < times:
        process = runs.start(runs.begin(path, UNROLLS))
        # A fourth of them while it begins: imports, reads the checkpoint, compiles.
        moment = rng.uniform(0, start) if rng.random() < 0.25 else start + rng.uniform(0, WINDOW)
        if runs.wait_for(process, moment):
            process.kill()
            result.tried += 1
        said = process.communicate()[0]
        if process.returncode not in (0, -signal.SIGKILL) or "Traceback" in said:
            result.notes.append(said)
            return result
        if process.returncode == -signal.SIGKILL:
            worst = max(worst, runs.progress(path) - runs.newest(path))
            continue
        if runs.same(path, alone):
            result.recovered = result.tried
        number += 1
        path = place / f"killed{number}"
    runs.must_finish(path, UNROLLS)
    if runs.same(path, alone):
        result.recovered = result.tried
    result.lost = f"at most {worst} unrolls since the checkpoint before, and taken again to the bit"
    return result


def stopped(place: Path, alone: Path, start: float, number: signal.Signals, times: int, rng: random.Random) -> Result:
    """A signal that asks for a stop: everything is saved, with the exit code that says so."""
    result, path = Result(f"{number.name} at a random moment"), place / f"stopped-{number.name}"
    slowest, run, early = 0.0, 0, 0
    while result.tried < times:
        process = runs.start(runs.begin(path, UNROLLS))
        if not runs.wait_for(process, start * 0.5 + rng.uniform(0, WINDOW)):
            process.communicate()
            run += 1
            path = place / f"stopped-{number.name}{run}"
            continue
        sent = time.monotonic()
        process.send_signal(number)
        said = process.communicate()[0]
        if process.returncode == 0:  # it came after the last epoch
            continue
        result.tried += 1
        slowest = max(slowest, time.monotonic() - sent)
        if process.returncode == -number and runs.progress(path) == runs.newest(path):
            # While Python starts there are no handlers: it ends as any process does, and has nothing to lose.
            early += 1
        # All that was recorded is saved.
        elif process.returncode != CODES[number] or "Traceback" in said or runs.progress(path) > runs.newest(path):
            result.notes.append(f"exit code {process.returncode}: {said}")
    runs.must_finish(path, UNROLLS)
    result.recovered = result.tried - len(result.notes) if runs.same(path, alone) else 0
    result.lost = f"nothing; it ended within {slowest:.1f} s"
    if early:
        result.lost += f" ({early} of them before it had begun)"
    return result
