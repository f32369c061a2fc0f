"""The contract of trackers, run: what every tracker of a third party should pass."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqcrl.errors import CheckFailed
from eqcrl.trackers.base import AbstractTracker, Line, Tracked

Recorded = Mapping[int, Mapping[str, float]]
"""What a tracker kept: numbers by environment step and name."""

BROKEN_OFF, KEPT, LAST = 5, 3, 7
"""A run is killed after five lines and continued from its checkpoint after the third; it ends after seven."""


def check_tracker(
    make: Callable[[], AbstractTracker],
    folder: Path,
    read: Callable[[Path], Recorded] | None = None,
    *,
    keep: bool = True,
) -> None:
    """Track two runs at once from two threads, kill both, continue both from an earlier step, and end them.

    `make` gives a fresh tracker. `read` takes a run directory and returns what is recorded of it; without it only
    errors are found, not what is missing or twice. With `keep` false, steps past the checkpoint may stay in the record
    (a service that cannot forget), but must have the numbers of the run that was continued. Raises: CheckFailed.
    """
    runs = [folder / "one", folder / "other"]
    for path in runs:
        path.mkdir(parents=True)
    _all(_first, make, runs)
    _all(_continued, make, runs)
    for number, path in enumerate(runs):
        if read is not None:
            _compare(path, read(path), [_line(number, step, again=step > KEPT) for step in range(1, LAST + 1)], keep)


def tracked(path: Path, history: Sequence[Line] = ()) -> Tracked:
    """What a tracker would be told of a run in this directory."""
    config: dict[str, Any] = {"seed": 0, "env": "point-u-maze", "arch": "resnet", "arch.depth": 64, "eval_env": None}
    return Tracked(path, path.name, None, config, history)


def _line(number: int, step: int, *, again: bool = False) -> dict[str, float]:
    loss = 10.0 * number + step + (0.5 if again else 0.0)
    # A loss that is not finite is what one most wants to see recorded of a run.
    actor = math.nan if step == 2 else -loss
    return {
        "env_steps": 100 * step,
        "grad_steps": 10 * step,
        "wall_seconds": 1.5 * step,
        "train/critic_loss": loss,
        "train/actor_loss": actor,
        "eval/success_any": step / 10,
    }


def _first(make: Callable[[], AbstractTracker], path: Path, number: int) -> None:
    """A run whose process dies: nobody says that it ends, but a program that is stopped may still write it out."""
    tracker = make()
    tracker.start(tracked(path))
    for step in range(1, BROKEN_OFF + 1):
        tracker.log(_line(number, step))
    tracker.finish("stopped")


def _continued(make: Callable[[], AbstractTracker], path: Path, number: int) -> None:
    tracker = make()
    tracker.start(tracked(path, [_line(number, step) for step in range(1, KEPT + 1)]))
    for step in range(KEPT + 1, LAST + 1):
        tracker.log(_line(number, step, again=True))
    tracker.finish("finished")


def _all(act: Callable[..., None], make: Callable[[], AbstractTracker], runs: Sequence[Path]) -> None:
    errors: list[BaseException] = []

    def guarded(path: Path, number: int) -> None:
        try:
            act(make, path, number)
        except (Exception, SystemExit) as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(path, number)) for number, path in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        what = "two runs at once" if act is _first else "two runs that are continued"
        raise CheckFailed(f"The tracker fails with {what}: {type(errors[0]).__name__}: {errors[0]}") from errors[0]


def _compare(path: Path, found: Recorded, lines: Sequence[Line], keep: bool) -> None:
    wanted = {int(line["env_steps"]): line for line in lines}
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise CheckFailed(f"Of the run {path.name!r} the steps {missing} are missing.")
    if more and keep:
        raise CheckFailed(f"Of the run {path.name!r} there are steps that it never took: {more}.")
    for step, line in wanted.items():
        for name, value in line.items():
            if name not in found[step] and (name in ("env_steps", "grad_steps", "wall_seconds") or math.isnan(value)):
                continue  # an axis, or what a format cannot say
            got = found[step].get(name)
            if got is None or not (math.isclose(got, value, rel_tol=1e-6) or (math.isnan(got) and math.isnan(value))):
                raise CheckFailed(
                    f"Of the run {path.name!r} at step {step}, {name} is recorded as {got}, not {value}.",
                    mend="Lines past `Tracked.history` come again and replace those from before."
                    if step > lines[KEPT - 1]["env_steps"]
                    else None,
                )
