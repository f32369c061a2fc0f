"""What a person sees of a sweep: a table of its settings, a live one on a terminal, and a line for each event."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eqcrl.jobs.runs import last_words
from eqcrl.progress import human_seconds
from eqcrl.sweeps.folder import Trial, TrialRun
from eqcrl.sweeps.spec import Sweep
from eqcrl.sweeps.standing import Standing, TrialStanding

REFRESH = 1.0
"""Seconds between two pictures on a terminal."""
BAR = 10
"""Characters of a bar of progress."""
STYLES = {"done": "green", "running": "cyan", "dead": "red", "unfinished": "yellow"}


def value_text(value: object) -> str:
    """A value of a setting for people."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def score_text(score: float | None) -> str:
    """A score for people."""
    return "-" if score is None else f"{score:.4g}"


def table(standing: Standing, most: int | None = None) -> Table:
    """A row for each setting, the best first; of more than `most` the first ones."""
    sweep = standing.sweep
    made = Table(box=None, header_style="bold")
    made.add_column("trial")
    for axis in sweep.axes:
        made.add_column(axis.axis, overflow="fold")
    made.add_column("state")
    made.add_column("env steps", no_wrap=True)
    made.add_column(sweep.metric, justify="right")
    made.add_column("time left", justify="right")
    rows = standing.trials if most is None else standing.trials[:most]
    for row in rows:
        made.add_row(
            row.name,
            *(value_text(row.values[axis.axis]) for axis in sweep.axes),
            Text(_state(row), style=STYLES.get(row.state(), "")),
            _bar(row.share()),
            score_text(row.score()) + ("" if row.final() or row.score() is None else " so far"),
            _left(row),
            style="bold" if row is standing.best() else "",
        )
    if len(rows) < len(standing.trials):
        made.add_row("...", *[""] * len(sweep.axes), f"{len(standing.trials) - len(rows)} more", "", "", "")
    return made


def _state(row: TrialStanding) -> str:
    if len(row.runs) == 1 or all(run.state == row.state() for run in row.runs):
        return row.state()
    states = [run.state for run in row.runs]
    return ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))


def _bar(share: float) -> str:
    full = int(BAR * min(share, 1.0))
    return f"{'█' * full}{'░' * (BAR - full)} {share:4.0%}"


def _left(row: TrialStanding) -> str:
    left = [run.seconds_left for run in row.runs if run.seconds_left is not None]
    return human_seconds(max(left)) if left else "-"


def counts_text(counts: Mapping[str, int]) -> str:
    """How many runs there are of each kind."""
    rest = [f"{n} {state}" for state, n in counts.items() if state != "done"]
    return ", ".join([f"{counts.get('done', 0)} of {sum(counts.values())} runs done", *rest])


def summary(standing: Standing) -> str:
    """Counts, and the time that is left if it is known."""
    left = standing.seconds_left()
    return counts_text(standing.counts()) + (f"; about {human_seconds(left)} left" if left else "")


def troubles(standing: Standing) -> Table | None:
    """What died, with its last words; None if nothing did."""
    dead = [(row, run) for row in standing.trials for run in row.runs if run.state == "dead"]
    if not dead:
        return None
    made = Table(title="Died", title_justify="left")
    for name in ("run", "last words"):
        made.add_column(name, overflow="fold")
    for row, run in dead:
        made.add_row(f"{row.name}/seed{run.seed}", Text(last_words(run.message or "it is broken")))
    return made


def picture(standing: Standing, most: int | None = None) -> RenderableType:
    """The table with a line below it."""
    return Group(table(standing, most), Text(summary(standing)))


class Screen:
    """Prints the course of a sweep to a console."""

    def __init__(self, console: Console, sweep: Sweep):
        self.console = console
        self.sweep = sweep
        self.live: Live | None = None
        self.began = time.monotonic()
        self.drawn = 0.0

    @contextmanager
    def showing(self, left: Sequence[TrialRun]) -> Iterator[None]:
        """The live table is there within the block."""
        sweep = self.sweep
        what = f"{sweep.trials} settings by {sweep.method}, {len(sweep.seeds)} seed{'s'[: len(sweep.seeds) > 1]} each"
        self.say(
            f"Sweep {sweep.name}: {what}; launcher {sweep.launcher}; {len(left)} runs to begin or continue so far."
        )
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self.live:
            yield
        self.live = None

    def say(self, text: str) -> None:
        """A line, above the table."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def suggested(self, trial: Trial) -> None:
        """The method chose a setting."""
        self.say(f"{trial.name()} is {setting_text(trial.setting.values)}")

    def submitted(self, run: TrialRun) -> None:
        """A job was handed to the launcher."""
        self.say(f"{run.name()} {'is to continue' if run.status == 'unfinished' else 'is submitted'}")

    def waiting(self, run: TrialRun) -> None:
        """Another process has this run."""
        self.say(f"{run.name()} is being written by another process; it is tried again when that has ended")

    def stopping(self, jobs: int) -> None:
        """All are asked to stop."""
        self.say(f"Stopping {jobs} run{'s'[: jobs != 1]}; each saves first.")

    def ended(self, run: TrialRun, score: float | None, counts: Mapping[str, int]) -> None:
        """What became of a run."""
        value = f"{self.sweep.metric.rpartition('/')[2]} {score_text(score)}"
        words = {"done": f"done, {value}", "unfinished": f"stopped, {value}", "missing": "stopped before it began"}
        died = "died: " + (run.message.splitlines() or ["?"])[0].removeprefix(f"{run.name()}: ")
        took = human_seconds(time.monotonic() - self.began)
        self.say(f"{run.name()} {words.get(run.status, died)}; {counts_text(counts)}, {took}")

    def tick(self, standing: Callable[[], Standing]) -> None:
        """Draw the table again, if it is time."""
        if self.live is None or time.monotonic() - self.drawn < REFRESH:
            return
        self.drawn = time.monotonic()
        self.live.update(picture(standing(), max(self.console.height - 6, 5)), refresh=True)


def setting_text(values: Mapping[str, object]) -> str:
    """`arch resnet-16, critic_rate 0.0003`."""
    return ", ".join(f"{axis.rpartition('.')[2]} {value_text(value)}" for axis, value in values.items())
