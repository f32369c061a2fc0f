"""Scores over two numbers, such as the depths of actor and critic."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eqcrl.errors import UsageError
from eqcrl.plots.layout import color_bar
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import BLACK, GRADUAL, house_style, new_figure
from eqcrl.statistics import Interval, Runs, interval, is_finite

Key = float | str
CELL = 0.85
"""Edge of a cell in inches."""


def heat_map(
    scores: Mapping[tuple[Key, Key], Runs],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    zlabel: str,
    title: str = "",
) -> Figure:
    """A cell for each (x, y): the interquartile mean over seeds by color and in digits, its 95% interval below it.

    Cells of one seed say so; cells without runs are hatched. Numbers grow to the right and upwards, names stand as they
    come. Raises: UsageError for no cells, a cell without scores or with some that are not finite, or an unknown suffix;
    RunError if the disk refuses.
    """
    if not scores or not all(len(of_cell) for of_cell in scores.values()):
        raise UsageError("There are no scores to draw.", mend="Give at least one run in every cell.")
    cells = {key: interval([np.asarray(of_cell, float)]) for key, of_cell in scores.items()}
    xs, ys = _ordered(x for x, _ in cells), _ordered(y for _, y in cells)
    values = [cell.value for cell in cells.values()]
    norm = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1.0)
    with house_style():
        # Names along the axes, and the bar of colors.
        figure = new_figure(CELL * len(xs) + 1.65, max(CELL * len(ys) + 0.5, 2.4) + (0.3 if title else 0.0))
        axes = figure.add_subplot()
        table = np.full((len(ys), len(xs)), np.nan)
        for (x, y), cell in cells.items():
            table[ys.index(y), xs.index(x)] = cell.value
        image = axes.imshow(table, cmap=GRADUAL, norm=norm, origin="lower", aspect="equal")
        for i, y in enumerate(ys):
            for j, x in enumerate(xs):
                cell = cells.get((x, y))
                if cell is None:
                    axes.add_patch(
                        Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="white", edgecolor="#B8BCC2", hatch="///", lw=0)
                    )
                    continue
                _write(axes, j, i, cell, dark=_is_light(colormaps[GRADUAL](norm(cell.value))))
        axes.set_xticks(range(len(xs)), [_text(x) for x in xs])
        axes.set_yticks(range(len(ys)), [_text(y) for y in ys])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_title(title)
        color_bar(figure, axes, image, zlabel, gap=0.15 / len(xs), width=0.25 / len(xs))
        save_figure(figure, Path(path))
    return figure


def _ordered(keys: object) -> list[Key]:
    unique: list[Key] = list(dict.fromkeys(keys))  # type: ignore[call-overload]
    return sorted(unique, key=float) if all(is_finite(key) for key in unique) else unique


def _text(key: Key) -> str:
    return key if isinstance(key, str) else f"{key:g}"


def _is_light(rgba: Sequence[float]) -> bool:
    """Whether black stands out more than white, by the contrast ratio of WCAG 2: from this relative luminance on."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return bool(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179)


def _write(axes: Axes, x: float, y: float, cell: Interval, *, dark: bool) -> None:
    color = BLACK if dark else "white"
    digits = f"{cell.value:.2f}" if abs(cell.value) < 10 else f"{cell.value:.0f}"
    below = "1 seed" if cell.runs == 1 else ""
    if cell.low is not None and cell.high is not None:
        form = "{:.2f}" if max(abs(cell.low), abs(cell.high)) < 10 else "{:.0f}"
        below = f"{form.format(cell.low)} to {form.format(cell.high)}"
    axes.text(x, y + 0.1, digits, ha="center", va="center", color=color, fontsize=12)
    axes.text(x, y - 0.25, below, ha="center", va="center", color=color, fontsize=7.5)
