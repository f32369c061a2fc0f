"""What settings need, asked of a process that may look at the device."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eqcrl import errors
from eqcrl.errors import EqcrlError, RunError
from eqcrl.jobs.child import wrapped
from eqcrl.jobs.machine import Machine, cores
from eqcrl.jobs.setting import Planned, Setting, about


@dataclass(frozen=True)
class Sized:
    """One setting; bytes of its arrays, and seconds of one run without compiling, None if it was not timed."""

    slug: str
    bytes: int
    parameters: int
    env_steps: int
    grad_steps: int
    batch_size: int
    seconds: float | None
    remarks: tuple[str, ...]


def measure(
    plan: Planned,
    settings: Sequence[Setting],
    *,
    timing: bool = False,
    on: Sequence[int] = (),
    heard: Callable[[int], None] = lambda count: None,
) -> tuple[Machine, dict[str, Sized]]:
    """Sizes of every setting by its slug; with `timing` also how long a run of it takes, on the cores `on`.

    `heard` is called with the number of settings that are known so far.
    Raises: ConfigError for a setting whose parts do not fit, PluginError, RunError if the process dies.
    """
    question = {
        "timing": timing,
        "what": plan.place(),
        "settings": [
            {
                "slug": s.slug,
                "preset": s.preset,
                "overrides": dict(s.overrides),
                "origins": {k: plan.origins[k] for k in s.overrides},
            }
            for s in settings
        ],
    }
    command = wrapped([sys.executable, "-m", "eqcrl.jobs.sizing"], cores=on)
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as aside,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=aside, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question))
            process.stdin.close()
            for line in process.stdout:
                rows.append(json.loads(line))
                heard(len(rows) - 1)
        except BrokenPipeError:  # it died before it could read; what it said is told below
            pass
        except BaseException:
            process.kill()
            raise
        process.wait()
        aside.seek(0)
        said = aside.read()
    if rows and "error" in rows[-1]:
        raise _error(plan, rows[-1])
    if process.returncode != 0 or len(rows) != len(settings) + 1:
        raise RunError(
            "The process that should tell the sizes of the runs ended with "
            f"{process.returncode}:\n{said[-2000:].rstrip()}",
            mend="`eqcrl train --dry-run` with the settings of one of them may tell more.",
        )
    machine = Machine(**rows[0], cores=cores())
    return machine, {row["slug"]: Sized(**{**row, "remarks": tuple(row["remarks"])}) for row in rows[1:]}


def _error(plan: Planned, row: dict[str, Any]) -> EqcrlError:
    plain = vars(errors)[row["kind"]](row["error"], mend=row["mend"])
    placed = any(row["error"].startswith(origin) for origin in plan.origins.values())
    return about(plan, row["slug"], plain) if isinstance(plain, errors.ConfigError) and not placed else plain
