"""What a person sees while training: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

# What of an agent's losses a line shows: not every agent has every one.
_LOSSES = (
    ("critic", "train/critic_loss"),
    ("actor", "train/actor_loss"),
    ("accuracy", "train/categorical_accuracy"),
)


class Reporter:
    """Prints the course of a run to a console, or of several with different seeds that are trained side by side."""

    def __init__(self, console: Console, total_epochs: int, first_epoch: int, resets: Mapping[int, int] | None = None):
        self.console = console
        self.total = total_epochs
        self.first = first_epoch
        self.done = first_epoch
        self.started: float | None = None
        self.resets = dict(resets or {})
        """Seed -> resets of diverged physics that were told, or happened in an earlier process."""
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self.task = self.progress.add_task("training", total=total_epochs, completed=first_epoch, status="")

    def __enter__(self) -> "Reporter":
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.progress.console.print(text, highlight=False)

    def learning_starts(self) -> None:
        """The clock for the estimate of the end starts here, after compiling and filling the replay."""
        self.started = time.monotonic()

    def epoch_done(self, epoch: int) -> None:
        """An epoch is complete; after the first one, say when the run will be."""
        self.done = epoch
        self.progress.update(self.task, completed=epoch)
        if epoch == self.first + 1 and self.started is not None:
            each = time.monotonic() - self.started
            left = each * (self.total - epoch)
            at = time.strftime("%a %H:%M", time.localtime(time.time() + left))
            self.say(
                f"First epoch took {human_seconds(each)}; {self.total - epoch} to go: about "
                f"{human_seconds(left)} without evaluations, done {at}."
            )

    def evaluated(self, record: Mapping[str, float], seed: int) -> None:
        """One line per evaluation of a run."""
        self._line(record, [f"{label} {form(record[key])}" for label, key, form in SHOWN if key in record])
        self._tell_resets(seed, record, "The physics diverged")
        self.progress.update(self.task, status=f"success {record['eval/success_any']:.2f}")

    def evaluated_seeds(self, records: Mapping[int, Mapping[str, float]]) -> None:
        """One line for all seeds: means, and of what is scored the least and greatest too."""
        first = next(iter(records.values()))
        told = [f"{len(records)} seeds"]
        for label, key, form in SHOWN:
            values = [record[key] for record in records.values() if key in record]
            if values:
                mean, *ends = (form(x).strip() for x in (sum(values) / len(values), min(values), max(values)))
                told.append(f"{label} {mean}" + (f" ({' to '.join(ends)})" if key.startswith("eval/") else ""))
        self._line(first, told)
        for seed, record in records.items():
            self._tell_resets(seed, record, f"Seed {seed}: the physics diverged")
        success = sum(record["eval/success_any"] for record in records.values()) / len(records)
        self.progress.update(self.task, status=f"success {success:.2f}")

    def _line(self, record: Mapping[str, float], measures: Sequence[str]) -> None:
        self.say(
            f"{int(record['env_steps']):>11,} env steps  {int(record['grad_steps']):>9,} gradient steps  "
            f"{'  '.join(measures)}  {human_seconds(record['wall_seconds'])}"
        )

    def _tell_resets(self, seed: int, record: Mapping[str, float], what: str) -> None:
        now, before = int(record["train/physics_resets"]), self.resets.get(seed, 0)
        if now > before:
            self.say(f"{what}: {now - before:,} resets since the last line, {now:,} so far.")
            self.resets[seed] = now


SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("success", "eval/success_any", "{:.2f}".format),
    ("time at goal", "eval/time_at_goal", "{:6.1f}".format),
    ("critic", "train/critic_loss", "{:.3f}".format),
    ("accuracy", "train/categorical_accuracy", "{:.2f}".format),
)
"""What the line of an evaluation tells, where the agent records it."""


def human_seconds(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 5 h 02 min, 3 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {whole:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def summary_table(records: list[dict[str, Any]], compile_seconds: float) -> Table:
    """First, best and last evaluation side by side."""
    table = Table(title="Summary", title_justify="left")
    table.add_column("measure")
    last = records[-1]
    best = max(records, key=lambda r: (r["eval/success_any"] or 0.0, r["eval/time_at_goal"] or 0.0))
    columns = {"first evaluation": records[0], "best": best, "last": last}
    for name in columns:
        table.add_column(name, justify="right")
    for label, key, form in (
        ("environment steps", "env_steps", "{:,.0f}"),
        ("gradient steps", "grad_steps", "{:,.0f}"),
        ("eval/success_any", "eval/success_any", "{:.3f}"),
        ("eval/success_end", "eval/success_end", "{:.3f}"),
        ("eval/time_at_goal (steps)", "eval/time_at_goal", "{:.1f}"),
        ("eval/distance_end", "eval/distance_end", "{:.3f}"),
        ("train/critic_loss", "train/critic_loss", "{:.3f}"),
        ("train/actor_loss", "train/actor_loss", "{:.3f}"),
        ("train/categorical_accuracy", "train/categorical_accuracy", "{:.3f}"),
        ("train/grad_steps_per_second", "train/grad_steps_per_second", "{:,.3g}"),
    ):
        if key in last:
            cells = [form.format(r[key]) if r.get(key) is not None else "-" for r in columns.values()]
            table.add_row(label, *cells)
    table.add_section()
    table.add_row("wall time, compiling included", "", "", human_seconds(last["wall_seconds"]))
    table.add_row("of it tracing and compiling", "", "", human_seconds(compile_seconds))
    return table


def seeds_table(finals: Mapping[int, Mapping[str, Any] | None], compile_seconds: float) -> Table:
    """The last evaluation of each seed (None: it has none) and their mean, a row each."""
    table = Table(title="Summary: the last evaluation of each seed", title_justify="left")
    columns = (
        ("env steps", "env_steps", "{:,.0f}"),
        ("success_any", "eval/success_any", "{:.3f}"),
        ("success_end", "eval/success_end", "{:.3f}"),
        ("time_at_goal (steps)", "eval/time_at_goal", "{:.1f}"),
        ("distance_end", "eval/distance_end", "{:.3f}"),
        ("critic_loss", "train/critic_loss", "{:.3f}"),
    )
    table.add_column("seed")
    for label, _, _ in columns:
        table.add_column(label, justify="right")

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    for seed, record in finals.items():
        table.add_row(str(seed), *(cell((record or {}).get(key), form) for _, key, form in columns))
    table.add_section()
    means = []
    for _, key, form in columns:
        values = [r[key] for r in finals.values() if r is not None and r.get(key) is not None]
        means.append(cell(sum(values) / len(values) if values else None, form))
    table.add_row("mean", *means)
    wall = max((r["wall_seconds"] for r in finals.values() if r is not None), default=0.0)
    table.caption = (
        f"All seeds together took {human_seconds(wall)}, {human_seconds(compile_seconds)} of it tracing and compiling."
    )
    return table
