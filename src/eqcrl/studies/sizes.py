"""What the settings of a study need, asked of a process that may look at the device; and how many fit side by side."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eqcrl import errors
from eqcrl.errors import EqcrlError, RunError
from eqcrl.studies.child import wrapped
from eqcrl.studies.grid import Setting, about
from eqcrl.studies.spec import Study

RUNTIME_BYTES = 1.5 * 2**30
"""Main memory of a process beside its arrays: Python, JAX, compiling, drawing."""
WORKING_SHARE = 0.9
"""Of the memory there is, what runs may take together."""
SPARE = 1.25
"""On an accelerator, what a process gets for each byte of its plan: XLA's temporaries are not in it."""
ACCELERATOR_JOBS = 4
"""More processes than this on one accelerator wait for one another."""


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


@dataclass(frozen=True)
class Machine:
    """What the runs will be computed on."""

    device: str
    platform: str
    device_bytes: int | None
    host_bytes: int | None
    cores: tuple[int, ...]

    def accelerated(self) -> bool:
        """Whether JAX computes on something else than the processor."""
        return self.platform != "cpu"

    def side_by_side(self, needs: Sequence[int]) -> int:
        """How many runs of these sizes (bytes) fit at once; at least one.

        On a CPU one a core: XLA computes small networks on one core as fast as on several. On an accelerator as many
        as its memory holds, up to four.
        """
        largest = max(needs, default=0)
        jobs = max(len(self.cores), 1)
        if self.accelerated():
            jobs = min(jobs, ACCELERATOR_JOBS)
            if self.device_bytes is not None:
                jobs = min(jobs, int(self.device_bytes // (SPARE * largest + 0.25 * RUNTIME_BYTES)))
            largest = 0
        if self.host_bytes is not None:
            jobs = min(jobs, int(WORKING_SHARE * self.host_bytes // (largest + RUNTIME_BYTES)))
        return max(min(jobs, len(needs)), 1)


def cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return tuple(range(os.cpu_count() or 1))


def measure(
    study: Study,
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
        "settings": [
            {
                "slug": s.slug,
                "preset": s.preset,
                "overrides": dict(s.overrides),
                "origins": {k: study.origins[k] for k in s.overrides},
            }
            for s in settings
        ],
    }
    command = wrapped([sys.executable, "-m", "eqcrl.studies.sizing"], cores=on)
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
        raise _error(study, rows[-1])
    if process.returncode != 0 or len(rows) != len(settings) + 1:
        raise RunError(
            "The process that should tell the sizes of the runs ended with "
            f"{process.returncode}:\n{said[-2000:].rstrip()}",
            mend="`eqcrl train --dry-run` with the settings of one of them may tell more.",
        )
    machine = Machine(**rows[0], cores=cores())
    return machine, {row["slug"]: Sized(**{**row, "remarks": tuple(row["remarks"])}) for row in rows[1:]}


def _error(study: Study, row: dict[str, Any]) -> EqcrlError:
    plain = vars(errors)[row["kind"]](row["error"], mend=row["mend"])
    placed = any(row["error"].startswith(origin) for origin in study.origins.values())
    return about(study, row["slug"], plain) if isinstance(plain, errors.ConfigError) and not placed else plain
