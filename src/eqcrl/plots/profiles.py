"""Performance profiles: how many runs score more than what."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqcrl.errors import UsageError
from eqcrl.plots.layout import legend_below, panel_figure
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import house_style, line_style
from eqcrl.statistics import Scores, has_interval, performance_profile, profile_band

MOST_THRESHOLDS = 400


def profiles(groups: Mapping[str, Scores], path: str | Path, *, xlabel: str, title: str = "") -> Figure:
    """A falling line for each label: the share of its runs, mean over tasks, that score more than the threshold below,
    with the 95% bootstrap interval of that share as a band.

    Scores must be comparable between tasks: shares, or normalized. A label with one run a task has no band. Raises:
    UsageError for no scores, some that are not finite, labels with different numbers of tasks, or an unknown suffix;
    RunError if the disk refuses.
    """
    if not groups:
        raise UsageError("There are no scores to draw.", mend="Give at least one group of runs.")
    tasks = {label: len(scores) for label, scores in groups.items()}
    if len(set(tasks.values())) > 1:
        few, many = min(tasks, key=lambda label: tasks[label]), max(tasks, key=lambda label: tasks[label])
        raise UsageError(
            f"Profiles over different tasks are not comparable: {few!r} has {tasks[few]}, {many!r} has {tasks[many]}.",
            mend="Give every group runs of the same environments.",
        )
    thresholds = _thresholds(groups)
    entries = [f"{label} ({_counted(scores)})" for label, scores in groups.items()]
    with house_style():
        figure, (axes,) = panel_figure(1, width=6.4, height=3.8, single=6.4, entries=entries)
        for i, scores in enumerate(groups.values()):
            style = line_style(i)
            # A share changes at a score and holds until the next.
            axes.step(thresholds, performance_profile(scores, thresholds), where="post", **style)
            if has_interval(scores):
                low, high = profile_band(scores, thresholds)
                axes.fill_between(thresholds, low, high, step="post", color=style["color"], alpha=0.2, linewidth=0)
        axes.set_xlim(thresholds[0], thresholds[-1])
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"threshold: {xlabel}")
        axes.set_ylabel("share of runs above the threshold")
        axes.set_title(title)
        legend_below(figure, [(Line2D([], [], **line_style(i)), entry) for i, entry in enumerate(entries)])
        save_figure(figure, Path(path))
    return figure


def _thresholds(groups: Mapping[str, Scores]) -> Float[np.ndarray, "thresholds"]:
    """Every score, where shares change, and a little room; of very many, evenly many."""
    seen = np.unique(np.concatenate([np.asarray(task, float) for scores in groups.values() for task in scores]))
    if len(seen) > MOST_THRESHOLDS:
        seen = seen[np.linspace(0, len(seen) - 1, MOST_THRESHOLDS).round().astype(int)]
    margin = 0.04 * (seen[-1] - seen[0]) or 0.5
    return np.concatenate([[seen[0] - margin], seen, [seen[-1] + margin]])


def _counted(scores: Scores) -> str:
    runs = sum(len(task) for task in scores)
    counted = f"{runs} run{'s' if runs != 1 else ''} over {len(scores)} task{'s' if len(scores) != 1 else ''}"
    return counted if has_interval(scores) else f"{counted}, no interval"
