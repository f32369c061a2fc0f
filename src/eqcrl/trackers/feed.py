"""Trackers at work: each on a thread of its own, fed through a queue, so that training never waits and never fails."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eqcrl.config import Config
from eqcrl.rundir import RunDir
from eqcrl.seedsdir import NAME
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked
from eqcrl.trackers.choose import build

QUEUED = 10_000
"""Lines that wait for a slow tracker; more are lost."""
PATIENCE_SECONDS = 20.0
"""How long the end of a run waits for all its trackers together."""


def tell(text: str) -> None:
    """One line for people, whether or not they asked for silence."""
    print(text, file=sys.stderr, flush=True)


class Feed:
    """One tracker and its thread. Nothing here waits but `join`, and nothing raises."""

    def __init__(self, name: str, make: Callable[[], AbstractTracker], limit: int = QUEUED):
        self.name = name
        self.make = make
        self.told = False
        self.lost = 0
        """Lines that did not arrive."""
        self.tracker: AbstractTracker | None = None
        self.waiting: queue.Queue[tuple[str, Any] | None] = queue.Queue(limit)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.thread.start()

    def put(self, what: str, value: Any) -> None:
        """`start` a Tracked, `log` a Line, or `finish` with a Status, when the tracker comes to it."""
        try:
            self.waiting.put_nowait((what, value))
        except queue.Full:
            self.lost += what == "log"
            self._failed(f"it is {self.waiting.maxsize} lines behind")

    def end(self) -> None:
        """What waits is the last."""
        self.ended.set()
        with contextlib.suppress(queue.Full):  # then the thread sees `ended` when it comes to the last item
            self.waiting.put_nowait(None)

    def join(self, seconds: float) -> None:
        """Wait for the tracker so long, then say what is lost."""
        self.thread.join(max(seconds, 0.0))
        if self.thread.is_alive():
            behind = sum(1 for item in list(self.waiting.queue) if item is not None and item[0] == "log")
            tell(f"Tracker {self.name!r} is not done and is left behind, {behind} lines short.")
        elif self.lost:
            tell(f"Tracker {self.name!r} lost {self.lost} lines; metrics.jsonl has them.")

    def _work(self) -> None:
        while (item := self._next()) is not None:
            what, value = item
            try:
                self._act(what, value)
            except (Exception, SystemExit) as error:
                self.lost += what == "log"
                self._failed(f"{type(error).__name__}: {error}")

    def _next(self) -> tuple[str, Any] | None:
        if self.ended.is_set() and self.waiting.empty():
            return None
        return self.waiting.get()

    def _act(self, what: str, value: Any) -> None:
        if what == "start":
            # A run that goes back to a checkpoint starts its trackers again.
            last, self.tracker = self.tracker, None
            if last is not None:
                last.finish("stopped")
            fresh = self.make()
            fresh.start(value)
            self.tracker = fresh
        elif self.tracker is None:
            self.lost += what == "log"
        elif what == "log":
            self.tracker.log(value)
        else:
            self.tracker.finish(value)

    def _failed(self, why: str) -> None:
        if not self.told:
            self.told = True
            tell(f"Tracker {self.name!r} fails: {' '.join(why.split())}. Training goes on; this is told once.")


class Tracking:
    """All trackers of one run. They are started with its first line."""

    def __init__(self, config: Config, run: RunDir, ended: Callable[[], Status]):
        self.config = config
        self.run = run
        self.ended = ended
        """How the run ended, if it did before its last step."""
        self.feeds: list[Feed] = []
        self.last = -1.0
        """Environment steps of the newest line."""

    def log(self, line: Line) -> None:
        """Hand on a line that was recorded in metrics.jsonl. Raises: RunError if that cannot be read."""
        if not self.config.trackers:
            return
        if not self.feeds or line["env_steps"] <= self.last:
            self._start(line["env_steps"])
        self.last = line["env_steps"]
        for feed in self.feeds:
            feed.put("log", dict(line))

    def end(self, *, failed: bool) -> None:
        """Tell all how it ended; waits for none."""
        config = self.config
        total = (config.prefill_epochs() + config.num_epochs()) * config.env_steps_per_epoch()
        status: Status = "failed" if failed else "finished" if self.last >= total else self.ended()
        for feed in self.feeds:
            feed.put("finish", status)
            feed.end()

    def join(self, until: float) -> None:
        """Wait for all until then, and say what is lost."""
        for feed in self.feeds:
            feed.join(until - time.monotonic())
        self.feeds = []

    def _start(self, env_steps: float) -> None:
        path = self.run.path.resolve()
        group = path.parent.name if NAME.fullmatch(path.name) else None
        told = Tracked(
            path=path,
            name=path.name if group is None else f"{group}-{path.name}",
            group=group,
            config=self.config.flat(),
            history=[r for r in self.run.metrics() if r["env_steps"] < env_steps],
        )
        self.feeds = self.feeds or [Feed(part.name, lambda part=part: build(part)) for part in self.config.trackers]
        for feed in self.feeds:
            feed.put("start", told)


@contextmanager
def finishing(runs: Sequence[Tracking], patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """At the end of the block the trackers of all runs come to their end, for which so many seconds are waited."""
    failed = True
    try:
        yield
        failed = False
    finally:
        until = time.monotonic() + patience
        for tracking in runs:
            tracking.end(failed=failed)
        for tracking in runs:
            tracking.join(until)
