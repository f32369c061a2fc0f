"""Final scores side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqcrl.errors import UsageError
from eqcrl.plots.layout import wrapped
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import HATCHES, INK, LINE_COLORS, house_style, new_figure
from eqcrl.statistics import Runs, interval

LABEL = 2.6
"""Most inches for the names at the left."""
ROW = 0.36


def score_bars(groups: Mapping[str, Mapping[str, Runs]], path: str | Path, *, ylabel: str, title: str = "") -> Figure:
    """A panel for each environment, in it a bar for each label: the interquartile mean over seeds, its 95% bootstrap
    interval, both in digits, and a dot for each run.

    `ylabel` is what the scores are. A label without runs in an environment keeps its place there. Raises: UsageError
    for no scores, some that are not finite, or an unknown suffix; RunError if the disk refuses.
    """
    if not groups or not all(len(scores) for panel in groups.values() for scores in panel.values()):
        raise UsageError("There are no scores to draw.", mend="Give at least one run for every bar.")
    labels = list(dict.fromkeys(label for panel in groups.values() for label in panel))
    if not labels:
        raise UsageError("There are no scores to draw.", mend="Give at least one run.")
    columns = 1 if len(groups) <= 3 else 2
    rows = -(-len(groups) // columns)
    with house_style():
        names = [wrapped(label, LABEL) for label in labels]
        height = sum(max(ROW, 0.17 * (name.count("\n") + 1)) for name in names)
        figure = new_figure(6.8 * columns, (height + 0.75) * rows + (0.4 if title else 0.1))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, panel) in zip(grid, groups.items(), strict=False):
            _draw(axes, labels, panel)
            axes.set_yticks(range(len(labels)), names)
            axes.set_title(name, loc="left")
            axes.set_xlabel(ylabel)
        for axes in grid[len(groups) :]:
            axes.remove()
        if title:
            figure.suptitle(title, fontsize=11)
        save_figure(figure, Path(path))
    return figure


def _draw(axes: Axes, labels: Sequence[str], panel: Mapping[str, Runs]) -> None:
    aside = axes.get_yaxis_transform()
    for i, label in enumerate(labels):
        if label not in panel:
            axes.text(1.02, i, "no runs", transform=aside, va="center", fontsize=9, color="#777777")
            continue
        scores = np.asarray(panel[label], float)
        found = interval([scores])
        color = LINE_COLORS[i % len(LINE_COLORS)]
        axes.barh(
            i, found.value, height=0.66, color=color, alpha=0.55, hatch=HATCHES[i % len(HATCHES)], edgecolor="white",
            linewidth=0,
        )  # fmt: skip
        if found.low is not None and found.high is not None:
            axes.errorbar(
                found.value, i, xerr=[[max(found.value - found.low, 0.0)], [max(found.high - found.value, 0.0)]],
                color=INK, capsize=3.5, linewidth=1.5,
            )  # fmt: skip
        spread = np.linspace(-0.2, 0.2, len(scores)) if len(scores) > 1 else np.zeros(1)
        axes.plot(
            scores, i + spread, linestyle="", marker="o", markersize=3.4, color=color, markeredgecolor=INK,
            markeredgewidth=0.5,
        )  # fmt: skip
        axes.text(1.02, i, found.text(), transform=aside, va="center", fontsize=9, color=INK)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
