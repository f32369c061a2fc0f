"""The machine that runs are computed on: how many fit side by side, and how they share it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RUNTIME_BYTES = 1.5 * 2**30
"""Main memory of a process beside its arrays: Python, JAX, compiling, drawing."""
WORKING_SHARE = 0.9
"""Of the memory there is, what runs may take together."""
SPARE = 1.25
"""On an accelerator, what a process gets for each byte of its plan: XLA's temporaries are not in it."""
ACCELERATOR_JOBS = 4
"""More processes than this on one accelerator wait for one another."""
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


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

    def overhead(self) -> int:
        """Bytes of the limited memory that a process takes beside its plan."""
        return 0 if self.accelerated() else int(RUNTIME_BYTES)

    def limit(self) -> int | None:
        """Bytes that all processes may take together; None where each one's share is set by `shared`."""
        if self.accelerated() or self.host_bytes is None:
            return None
        return int(WORKING_SHARE * self.host_bytes)

    def shares(self, jobs: int) -> list[Sequence[int]]:
        """The cores of each of so many processes; none if there are more processes than cores, or an accelerator."""
        if self.accelerated() or jobs > len(self.cores):
            return []
        each = len(self.cores) // jobs
        return [self.cores[i * each : (i + 1) * each] for i in range(jobs)]

    def shared(self, jobs: int, environment: Mapping[str, str]) -> dict[str, str]:
        """What processes side by side are told of the accelerator's memory, unless the user chose."""
        if not self.accelerated() or jobs == 1 or FRACTION in environment:
            return {}
        return {FRACTION: f"{WORKING_SHARE / jobs:.3f}"}


def cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return tuple(range(os.cpu_count() or 1))
