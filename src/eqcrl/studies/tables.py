"""The result of a study in the terminal: a row for each setting, and what is missing or died."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from eqcrl import plots
from eqcrl.statistics import Interval, interval
from eqcrl.studies.folder import OpenStudy, StudyRun
from eqcrl.studies.scores import Scored, evaluated, finished, scores_of


def rows(study: OpenStudy) -> tuple[list[dict[str, Any]], list[str]]:
    """For each setting: axes, runs by status, interval of the metric and of each further evaluation; and problems."""
    runs, problems = finished(study)
    found = []
    for slug in dict.fromkeys(run.slug() for run in study.runs):
        all_seeds = [run for run in study.runs if run.slug() == slug]
        scored = [one for one in runs if one.run.slug() == slug]
        found.append(
            {
                "setting": slug,
                "axes": dict(all_seeds[0].settings),
                "seeds": len(all_seeds),
                "statuses": {s: n for s in ("done", "unfinished", "dead", "missing") if (n := _count(all_seeds, s))},
                "score": _interval(scores_of(scored, study.metric)),
                "evaluations": _evaluations(scored, study.metric),
            }
        )
    return found, problems


def _count(runs: Sequence[StudyRun], status: str) -> int:
    return sum(run.status == status for run in runs)


def _interval(scores: Sequence[float]) -> Interval | None:
    return interval([np.array(scores)]) if scores else None


def _evaluations(runs: Sequence[Scored], metric: str) -> dict[str, Interval | None]:
    return {label: _interval([score for _, score in pairs]) for label, pairs in evaluated(runs, metric).items()}


def as_json(study: OpenStudy) -> dict[str, Any]:
    """The same as plain data."""
    found, problems = rows(study)

    def plain(one: Interval | None) -> dict[str, Any] | None:
        return None if one is None else vars(one)

    for row in found:
        row["score"] = plain(row["score"])
        row["evaluations"] = {label: plain(one) for label, one in row["evaluations"].items()}
    return {
        "study": study.study.name,
        "scale": study.scale,
        "metric": study.metric,
        "settings": found,
        "problems": [*problems, *(f"{run.name()}: {run.message}" for run in study.runs if run.message)],
    }


def print_result(console: Console, study: OpenStudy) -> None:
    """The table, and a line for everything that is not in it."""
    found, problems = rows(study)
    console.print(study.title + (f" (scale {study.scale})" if study.scale else ""), style="bold", markup=False)
    if study.question:
        console.print(study.question, highlight=False, markup=False)
    labels = [e.label for e in study.study.evaluations]
    table = Table(box=None, header_style="bold")
    for axis in study.study.axes:
        table.add_column(axis, overflow="fold")
    table.add_column("runs")
    table.add_column(plots.metric_name(study.metric), justify="right")
    for label in labels:
        table.add_column(label, justify="right")
    for row in found:
        axes = (str(v).lower() if isinstance(v, bool) else str(v) for v in row["axes"].values())
        scores = (_text(row["evaluations"].get(label)) for label in labels)
        table.add_row(*axes, _runs(row), _text(row["score"]), *scores)
    console.print(table)
    console.print(
        "Interquartile mean over the runs that are done, each the mean of its last five evaluations, "
        "[95% bootstrap interval over seeds].",
        highlight=False,
        markup=False,
    )
    print_troubles(console, study, problems)


def _runs(row: dict[str, Any]) -> str:
    others = [f"{n} {status}" for status, n in row["statuses"].items() if status != "done"]
    return ", ".join([f"{row['statuses'].get('done', 0)} of {row['seeds']}", *others])


def _text(found: Interval | None) -> str:
    return "-" if found is None else found.text()


def print_troubles(console: Console, study: OpenStudy, problems: Sequence[str]) -> None:
    """What is not done and why; nothing if all is."""
    for run in study.runs:
        if run.message or run.status in ("unfinished", "dead"):
            lines = [line for line in run.message.splitlines() if line]
            said = next((line for line in lines if line.startswith("Error:")), lines[0] if lines else "")
            console.print(f"{run.name()}: {run.status}{f'. {said}' if said else ''}", highlight=False, markup=False)
    missing = [run.name() for run in study.of("missing")]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        console.print(f"Not begun: {shown}.", highlight=False, markup=False)
    for problem in problems:
        console.print(problem, highlight=False, markup=False)
