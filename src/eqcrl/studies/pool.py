"""Processes side by side: what fits is started, what ended is settled, and a signal to us becomes one to all."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eqcrl.jobs.processes import STOP_SIGNALS, Started, start
from eqcrl.studies.work import Task

POLL = 0.2
"""Seconds between two looks at the processes."""
WAIT = 5.0
"""Seconds until a run that another process writes is tried again."""


@dataclass
class Running:
    """A task that has a process."""

    task: Task
    slot: int
    started: Started


class Pool:
    """At most `jobs` processes, within `limit` bytes; each on its share of the cores, where there are shares."""

    def __init__(self, jobs: int, *, limit: int | None, share: Sequence[Sequence[int]], environment: Mapping[str, str]):
        self.jobs = jobs
        self.limit = limit
        self.share = share
        self.environment = {**os.environ, **environment}
        self.pending: list[Task] = []
        self.running: list[Running] = []
        self.asides: dict[Task, float] = {}

    def run(
        self,
        tasks: Sequence[Task],
        *,
        started: Callable[[Task], None],
        ended: Callable[[Running, int], Sequence[Task]],
        waiting: Callable[[Task], None],
        renewed: Callable[[Task], Sequence[Task]],
        tick: Callable[[Sequence[Running]], None],
    ) -> int | None:
        """Everything, and what `ended` gives to do next, until nothing is left; the signal if one ended it early.

        A task whose runs another process writes waits for that, and is then made anew by `renewed`.

        The first signal asks every process to stop and save, the second interrupts them, the third kills them.
        """
        came: list[int] = []
        before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in STOP_SIGNALS}
        self.pending, forwarded = list(tasks), 0
        try:
            while self.running or (self.pending and not came):
                while len(came) > forwarded:
                    forwarded += 1
                    self._forward(came[0], hard=forwarded > 2)
                if not came:
                    self._start(started, waiting, renewed)
                tick(self.running)
                time.sleep(POLL)
                for one in [r for r in self.running if r.started.process.poll() is not None]:
                    self.running.remove(one)
                    self.pending[:0] = ended(one, one.started.process.returncode)
        finally:
            for one in self.running:  # something of ours failed
                one.started.process.terminate()
            for one in self.running:
                one.started.process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
        return came[0] if came else None

    def _forward(self, number: int, *, hard: bool) -> None:
        for one in self.running:
            one.started.process.send_signal(signal.SIGKILL if hard else number)

    def _start(
        self,
        started: Callable[[Task], None],
        waiting: Callable[[Task], None],
        renewed: Callable[[Task], Sequence[Task]],
    ) -> None:
        now = time.monotonic()
        for task in list(self.pending):
            if len(self.running) >= self.jobs or not self._fits(task):
                return
            again = self.asides.get(task)
            if again is not None and again > now:
                continue
            if task.busy():
                if again is None:
                    waiting(task)
                self.asides[task] = now + WAIT
                continue
            at = self.pending.index(task)
            if again is not None:
                del self.asides[task]
                self.pending[at : at + 1] = renewed(task)
                return
            del self.pending[at]
            self.running.append(self._process(task))
            started(task)

    def _fits(self, task: Task) -> bool:
        used = sum(one.task.bytes for one in self.running)
        return not self.running or self.limit is None or used + task.bytes <= self.limit

    def _process(self, task: Task) -> Running:
        slot = next(i for i in range(self.jobs) if all(one.slot != i for one in self.running))
        cores = self.share[slot] if self.share else ()
        return Running(task, slot, start(task.command(), task.log, cores=cores, environment=self.environment))
