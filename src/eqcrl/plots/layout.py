"""Figures of several panels, and legends below them whose every word stays inside of the picture."""

from collections import Counter
from collections.abc import Iterable
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqcrl.plots.style import new_figure

CHARACTERS_PER_INCH = 13
LINE = 0.2
"""Height of a line of the legend in inches."""


def panel_figure(
    count: int, *, width: float, height: float, single: float, columns: int = 3, entries: Iterable[str] = ()
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes of that size in inches (`single`: the width of one alone), row by row, and room below
    for a legend with these entries."""
    columns = min(count, columns)
    rows = -(-count // columns)
    total = single if count == 1 else width * columns
    lines = sum(wrapped(entry, total).count("\n") + 1 for entry in entries)
    figure = new_figure(total, height * rows + LINE * lines + 0.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def color_bar(figure: Figure, axes: Axes, shown: Any, label: str, *, gap: float = 0.03, width: float = 0.045) -> None:
    """A bar of the colors of `shown` beside axes of fixed aspect, exactly as high as they are; sizes are shares of the
    axes' width."""
    bar = figure.colorbar(shown, cax=axes.inset_axes((1 + gap, 0.0, width, 1.0)), label=label)
    bar.outline.set_visible(False)  # type: ignore[operator]


def legend_below(figure: Figure, handles: Iterable[tuple[Any, str]]) -> None:
    """A legend under all panels, an entry a line, folded where it would leave the picture."""
    width = float(figure.get_size_inches()[0])
    pairs = [(handle, wrapped(label, width)) for handle, label in handles]
    figure.legend(
        [handle for handle, _ in pairs],
        [label for _, label in pairs],
        loc="outside lower center",
        ncols=1,
        handlelength=3.2,
    )


def wrapped(text: str, width: float) -> str:
    """The text folded to a figure of that width in inches."""
    room = max(int(CHARACTERS_PER_INCH * width), 30)
    return fill(text, room, subsequent_indent="  ", break_on_hyphens=False)


def by_panel(notes: dict[str, str]) -> str:
    """What is to be said of a line in each panel; what holds for most of them is said once, of the others."""
    counted = Counter(notes.values())
    if len(counted) <= 1:
        return next(iter(notes.values()), "")
    usual, times = counted.most_common(1)[0]
    apart = [f"{panel}: {note}" for panel, note in notes.items() if times == 1 or note != usual]
    return "; ".join(apart if times == 1 else [*apart, f"others: {usual}"])


def seeds_text(runs: int) -> str:
    """How many, and that one alone says nothing about others."""
    return f"{runs} seeds" if runs > 1 else "1 seed, no interval"
