"""The numbers of the tables: final scores of settings, with intervals, and comparisons between settings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eqcrl import statistics
from eqcrl.report.collect import RunRecord
from eqcrl.report.grouping import Environment, Setting
from eqcrl.statistics import Interval

METRICS = ("eval/success_any", "eval/success_end", "eval/time_at_goal", "eval/distance_end")
"""The columns of the tables; one that no run has recorded is left out."""


@dataclass(frozen=True)
class Row:
    """One setting in the table of one environment; a metric that its runs lack is None."""

    setting: Setting
    runs: list[RunRecord]
    values: dict[str, Interval | None]
    further: dict[str, Interval | None]
    """Label of a further evaluation of the finished policies -> the metric that matters most, there."""
    hours: float
    """Mean wall time of a run."""

    def seeds(self) -> str:
        """Such as `3 (0, 1, 2)`."""
        shown = [str(run.config.seed) for run in self.runs]
        return f"{len(shown)} ({', '.join(shown[:6])}{', ...' if len(shown) > 6 else ''})"

    def left_out(self) -> str:
        """Such as `1 died, 2 unfinished`; empty if all runs count."""
        out = [run for run in self.setting.runs if run not in self.runs]
        died = sum(bool(run.died) for run in out)
        counts = {"died": died, "unfinished": len(out) - died}
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n)

    def env_steps(self) -> float:
        """The fewest environment steps of its runs."""
        return min(run.last("env_steps") or 0.0 for run in self.runs)


def finals(runs: Sequence[RunRecord], metric: str) -> np.ndarray:
    """The final score of each run that has recorded the metric."""
    scores = [statistics.final_score(run.records, metric) for run in runs]
    return np.array([s for s in scores if s is not None], float)


def score_row(setting: Setting, metrics: Iterable[str], primary: str) -> Row:
    """IQM of the final scores and its 95% bootstrap interval, for each metric; `primary` in further evaluations."""
    runs = setting.counted()
    values = {metric: _interval(finals(runs, metric)) for metric in metrics}
    labels = dict.fromkeys(label for run in runs for label in run.further)
    further = {label: _interval(_further(runs, label, primary)) for label in labels}
    return Row(setting, runs, values, further, float(np.mean([run.hours() for run in runs])))


def _interval(scores: np.ndarray) -> Interval | None:
    return statistics.interval([scores]) if len(scores) else None


def _further(runs: Sequence[RunRecord], label: str, metric: str) -> np.ndarray:
    scores = [run.further[label].get(metric) for run in runs if label in run.further]
    return np.array([float(s) for s in scores if s is not None and statistics.is_finite(s)], float)


def across(environments: Sequence[Environment], metric: str) -> dict[str, list[np.ndarray]]:
    """Label -> final scores per environment, for the settings that were run to their end in every environment."""
    labels = list(dict.fromkeys(s.label for env in environments for s in env.settings))
    found = {}
    for label in labels:
        settings = [s for env in environments for s in env.settings if s.label == label and not s.provisional()]
        scores = [finals(s.counted(), metric) for s in settings]
        if len(settings) == len(environments) and all(len(s) for s in scores):
            found[label] = scores
    return found


def improvements(scores: dict[str, list[np.ndarray]], reference: str) -> dict[str, Interval]:
    """How likely a run of each other setting scores higher than one of the reference, over its environments."""
    base = scores[reference]
    return {label: statistics.improvement(tasks, base) for label, tasks in scores.items() if label != reference}
