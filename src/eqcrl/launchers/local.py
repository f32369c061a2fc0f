"""`local`: processes on this machine, as many as fit, each on its own cores."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from eqcrl.jobs.again import continued
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.processes import STOPPED, Started, how_it_ended, start
from eqcrl.launchers.base import AbstractLauncher, Job, Site, State
from eqcrl.settings import Meta


@dataclass
class _Running:
    job: Job
    slot: int
    started: Started


@dataclass
class Local(AbstractLauncher):
    """Runs as processes on this machine; they end with the sweep.

    By default one a core on a CPU as far as memory goes, on an accelerator as many as its memory holds, up to four.
    """

    jobs: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="runs side by side; by default what fits", extra={"unit": "runs"}),
    ] = None
    _machine: Machine | None = field(init=False, default=None, repr=False)
    _most: int = field(init=False, default=1, repr=False)
    _count: int = field(init=False, default=0, repr=False)
    _waiting: dict[str, Job] = field(init=False, default_factory=dict, repr=False)
    _running: dict[str, _Running] = field(init=False, default_factory=dict, repr=False)
    _ended: dict[str, State] = field(init=False, default_factory=dict, repr=False)

    def check(self) -> None:
        """Nothing can be missing."""

    def lasting(self) -> bool:
        """Processes are stopped when the sweep's own ends, however it ends."""
        return False

    def open(self, site: Site) -> None:
        """Decide how many run side by side."""
        self._machine = site.machine
        self._most = self.jobs or site.machine.side_by_side(site.needs)

    def room(self) -> int:
        """Free places."""
        return self._most - len(self._running) - len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Start what fits, and keep the rest for later. Raises: RunError."""
        ids = [str(self._count + i) for i in range(len(jobs))]
        self._count += len(jobs)
        self._waiting |= dict(zip(ids, jobs, strict=True))
        self._start()
        return ids

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """See which processes have ended, and start what fits now. Raises: RunError."""
        for name, one in list(self._running.items()):
            code = one.started.process.poll()
            if code is not None:
                del self._running[name]
                self._ended[name] = _state(code)
        self._start()
        alive = {k: State("waiting") for k in self._waiting} | {k: State("running") for k in self._running}
        return {name: (alive | self._ended).get(name, State("lost")) for name in ids}

    def cancel(self, ids: Sequence[str], *, hard: bool = False) -> None:
        """SIGTERM, or SIGKILL."""
        for name in ids:
            if self._waiting.pop(name, None) is not None:
                self._ended[name] = State("stopped")
            elif name in self._running:
                self._running[name].started.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)

    def close(self) -> None:
        """Stop the rest, if something of ours failed."""
        self._waiting.clear()
        for one in self._running.values():
            one.started.process.terminate()
        for one in self._running.values():
            one.started.process.wait()

    def _start(self) -> None:
        assert self._machine is not None, "opened first"
        limit = self._machine.limit()
        for name, job in list(self._waiting.items()):
            used = sum(one.job.bytes for one in self._running.values())
            beyond = self._running and limit is not None and used + job.bytes > limit
            if len(self._running) >= self._most or beyond:
                return
            del self._waiting[name]
            slot = min(set(range(self._most)) - {one.slot for one in self._running.values()})
            shares = self._machine.shares(self._most)
            self._running[name] = _Running(
                job,
                slot,
                start(
                    continued(job.command(), job.run),
                    job.log,
                    cores=shares[slot] if shares else (),
                    environment={**os.environ, **self._machine.shared(self._most, os.environ)},
                ),
            )


def _state(code: int) -> State:
    if code == 0:
        return State("done")
    return State("stopped" if code in STOPPED else "failed", how_it_ended(code))
