"""What a person sees of a study: a live table on a terminal, a line for each event elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eqcrl.jobs.runs import newest, total_env_steps
from eqcrl.progress import human_seconds
from eqcrl.studies.folder import StudyRun
from eqcrl.studies.pool import Running
from eqcrl.studies.work import Task

REFRESH = 1.0
"""Seconds between two pictures on a terminal."""


class Screen:
    """Prints the course of a study to a console."""

    def __init__(self, console: Console, metric: str):
        self.console = console
        self.metric = metric
        self.live: Live | None = None
        self.status: dict[str, str] = {}
        self.began = time.monotonic()
        self.drawn = 0.0

    @contextmanager
    def showing(self, runs: Sequence[StudyRun], jobs: int) -> Iterator[None]:
        """The live table is there within the block."""
        self.status = {run.name(): run.status for run in runs}
        self.say(f"{self.counts()}; {jobs} side by side.")
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self.live:
            yield
        self.live = None

    def say(self, text: str) -> None:
        """A line, above the table."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def counts(self) -> str:
        """How many runs there are of each kind."""
        states = list(self.status.values())
        rest = [f"{states.count(s)} {s}" for s in ("unfinished", "dead", "missing") if s in states]
        return ", ".join([f"{states.count('done')} of {len(states)} runs done", *rest])

    def started(self, task: Task) -> None:
        """A process began."""
        if task.evaluation is None:
            again = "continues" if "--resume" in task.arguments else "begins"
            self.say(f"{task.name()} {again}")

    def waiting(self, task: Task) -> None:
        """Another process has this run."""
        self.say(f"{task.name()} is being written by another process; it is tried again when that has ended")

    def ended(self, task: Task, run: StudyRun, one: Running) -> None:
        """What became of a run."""
        self.status[run.name()] = run.status
        if task.evaluation is not None:
            failed = task.evaluation.label not in run.evaluated
            self.say(
                f"{task.name()}{' failed' if failed else f': {self._value(run.evaluated[task.evaluation.label])}'}"
            )
            return
        took = human_seconds(time.monotonic() - one.started.at)
        value = self._value(newest(run.path))
        state = {"done": f"done, {value}", "unfinished": f"stopped, {value}", "missing": "stopped before it began"}
        words = state.get(run.status, "died: " + (run.message.splitlines() or ["?"])[0])
        self.say(f"{run.name()} {words} ({took}); {self.counts()}, {human_seconds(time.monotonic() - self.began)}")

    def _value(self, record: dict[str, object]) -> str:
        value = record.get(self.metric)
        name = self.metric.rpartition("/")[2]
        return f"{name} {value:.3g}" if isinstance(value, int | float) else f"no {name}"

    def tick(self, running: Sequence[Running]) -> None:
        """Draw the table again, if it is time."""
        if self.live is None or time.monotonic() - self.drawn < REFRESH:
            return
        self.drawn = time.monotonic()
        table = Table(box=None, header_style="bold")
        for name in ("running", "environment steps", "of", self.metric, "for"):
            table.add_column(name, justify="left" if name == "running" else "right", no_wrap=True)
        for one in running:
            run = one.task.runs[0]
            record = newest(run.path)
            total = total_env_steps(run.setting.config)
            value = record.get(self.metric)
            table.add_row(
                one.task.name(),
                f"{int(record['env_steps']):,}" if record else "-",
                f"{total:,}",
                f"{value:.3f}" if isinstance(value, int | float) else "-",
                human_seconds(self.drawn - one.started.at),
            )
        self.live.update(Group(table, Text(f"{self.counts()}, {human_seconds(self.drawn - self.began)}")), refresh=True)
