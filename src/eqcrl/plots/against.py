"""Final scores against a number such as the depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from eqcrl.errors import UsageError
from eqcrl.plots.layout import by_panel, legend_below, panel_figure, seeds_text
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import INK, house_style, line_style, marker_style
from eqcrl.statistics import Interval, Runs, critical_depths, interval

Line = Mapping[float, Runs]
"""x -> final scores of the seeds."""

APART = 0.012
"""Share of the axis by which points of different lines at one x stand apart, so that their bars do not cover."""


def score_against(
    lines: Mapping[str, Line],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    mark: bool = False,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """A line for each label: the interquartile mean over seeds at each x, and its 95% bootstrap interval as a bar.

    Points of one seed are hollow and have no bar. The axis is logarithmic where every x is a power of two. `mark` puts
    a star over each x whose interval lies above that of the x before (`eqcrl.statistics.critical_depths`).
    Raises: UsageError for no lines, a line without scores or with some that are not finite, or an unknown suffix;
    RunError if the disk refuses.
    """
    return score_panels({"": lines}, path, xlabel=xlabel, ylabel=ylabel, title=title, mark=mark, ylim=ylim)


def score_panels(
    panels: Mapping[str, Mapping[str, Line]],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    mark: bool = False,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """The same with a panel for each environment; a label looks the same in all of them."""
    if not panels or not all(panels.values()) or not all(line for lines in panels.values() for line in lines.values()):
        raise UsageError("There are no scores to draw.", mend="Give at least one run at one value for every line.")
    found = {name: {label: _intervals(line) for label, line in lines.items()} for name, lines in panels.items()}
    labels = list(dict.fromkeys(label for lines in found.values() for label in lines))
    xs = sorted({x for lines in found.values() for points in lines.values() for x in points})
    notes = {label: by_panel({name: _seeds(lines[label]) for name, lines in found.items() if label in lines})
             for label in labels}  # fmt: skip
    entries = [f"{label} ({note})" if label else note for label, note in notes.items()]
    said = [] if not mark else [f"critical: interval above that of the {xlabel} before"]
    with house_style():
        figure, grid = panel_figure(len(found), width=4.2, height=3.6, single=6.4, columns=2, entries=entries + said)
        for axes, (name, lines) in zip(grid, found.items(), strict=True):
            _dress(axes, xs)
            for label, points in lines.items():
                index = labels.index(label)
                place = min(APART, 0.07 / len(labels)) * (index - (len(labels) - 1) / 2)
                _draw(axes, points, index, place)
                if mark:
                    _mark(axes, points, index, place)
            low, high = ylim or axes.get_ylim()
            # Room for a star above the highest score.
            axes.set_ylim(low, high + (0.07 * (high - low) if mark else 0.0))
            axes.set_xlabel(xlabel)
            axes.set_title(name or title)
        if title and "" not in found:
            figure.suptitle(title, fontsize=11)
        for axes in grid[:: 2 if len(grid) > 1 else 1]:
            axes.set_ylabel(ylabel)
        handles = [(Line2D([], [], **marker_style(i)), entry) for i, entry in enumerate(entries)]
        star = Line2D([], [], linestyle="", marker="*", color=INK, markersize=11)
        legend_below(figure, [*handles, *((star, text) for text in said)])
        save_figure(figure, Path(path))
    return figure


def _intervals(line: Line) -> dict[float, Interval]:
    return {x: interval([np.asarray(line[x], float)]) for x in sorted(line)}


def _seeds(points: Mapping[float, Interval]) -> str:
    counts = sorted({point.runs for point in points.values()})
    if len(counts) == 1:
        return seeds_text(counts[0])
    return f"{counts[0]} to {counts[-1]} seeds" + ("; hollow: 1 seed, no interval" if counts[0] == 1 else "")


def _dress(axes: Axes, xs: Sequence[float]) -> None:
    """Ticks at the values that there are; logarithmic where all are powers of two."""
    if len(xs) > 1 and all(x > 0 and float(np.log2(x)).is_integer() for x in xs):
        axes.set_xscale("log", base=2)
        axes.set_xlim(xs[0] / 2**0.4, xs[-1] * 2**0.4)
    else:
        margin = 0.08 * (xs[-1] - xs[0]) or 1.0
        axes.set_xlim(xs[0] - margin, xs[-1] + margin)
    if len(xs) <= 12:
        axes.xaxis.set_major_locator(FixedLocator(list(xs)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _moved(axes: Axes, xs: Sequence[float], place: float) -> list[float]:
    """The xs moved to the side by that share of the axis."""
    transform = axes.transScale + axes.transLimits
    points = transform.transform(np.column_stack([xs, np.zeros(len(xs))]))
    points[:, 0] += place
    return transform.inverted().transform(points)[:, 0].tolist()


def _draw(axes: Axes, points: Mapping[float, Interval], index: int, place: float) -> None:
    style = marker_style(index)
    xs = _moved(axes, list(points), place)
    values = [point.value for point in points.values()]
    axes.plot(xs, values, **line_style(index))
    for x, point in zip(xs, points.values(), strict=True):
        look: dict[str, Any] = style | {"linestyle": ""}
        if point.low is None or point.high is None:
            look |= {"markerfacecolor": "white", "markeredgewidth": 1.4}
        else:
            axes.plot([x, x], [point.low, point.high], color=style["color"], linewidth=1.3)
            for end in (point.low, point.high):
                axes.plot([x], [end], marker="_", markersize=7, color=style["color"], markeredgewidth=1.3)
        axes.plot([x], [point.value], **look)


def _mark(axes: Axes, points: Mapping[float, Interval], index: int, place: float) -> None:
    style = marker_style(index)
    above = axes.transData + ScaledTranslation(0.0, 9 / 72, axes.figure.dpi_scale_trans)
    for depth in critical_depths(list(points), list(points.values())):
        (x,), high = _moved(axes, [depth], place), points[depth].high
        assert high is not None, "without an interval no depth is critical"
        axes.plot(
            [x], [high], marker="*", markersize=11, color=style["color"], markeredgecolor=INK, markeredgewidth=0.6,
            transform=above, zorder=5,
        )  # fmt: skip
