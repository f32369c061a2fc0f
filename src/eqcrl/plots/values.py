"""The critic over the maze."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from eqcrl.analysis import ValueMap
from eqcrl.errors import UsageError
from eqcrl.plots.ground import draw_ground
from eqcrl.plots.layout import color_bar, legend_below, panel_figure
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import BLACK, GRADUAL, VERMILLION, WALL, house_style

LEVELS = 9
SIDE = 3.4
"""Longer side of a map in inches."""


def q_map(maps: Mapping[str, ValueMap], path: str | Path, *, title: str = "") -> Figure:
    """A map for each label (`eqcrl.analysis.value_map`): the critic's value by color and contour lines, walls, goal and
    start. Every map has colors of its own, since energies of two critics have no common scale.

    Raises: UsageError for no maps, one without free positions, or an unknown suffix; RunError if the disk refuses.
    """
    if not maps or not all(np.isfinite(found.values).any() for found in maps.values()):
        raise UsageError("There is no map of the critic to draw.", mend="Give one with free positions at least.")
    walled = any(len(found.view.walls) for found in maps.values())
    first = next(iter(maps.values()))
    extent = np.subtract(first.view.high, first.view.low)
    height, width = (SIDE * extent / extent.max()).tolist()
    entries = ["start", "goal and its success radius"] + (["wall"] if walled else [])
    with house_style():
        figure, grid = panel_figure(
            len(maps), width=width + 1.3, height=height + 0.75, single=width + 1.4, entries=entries
        )
        for axes, (label, found) in zip(grid, maps.items(), strict=True):
            _draw(figure, axes, found)
            axes.set_title(label)
        if title:
            figure.suptitle(title, fontsize=11)
        handles: list[tuple[Line2D | Patch, str]] = [
            (Line2D([], [], linestyle="", marker="s", color="white", markeredgecolor=BLACK, markersize=6), entries[0]),
            (Line2D([], [], linestyle="", marker="+", color=VERMILLION, markersize=8, markeredgewidth=1.8), entries[1]),
        ]
        handles += [(Patch(facecolor=WALL), "wall")] if walled else []
        legend_below(figure, handles)
        save_figure(figure, Path(path))
    return figure


def _draw(figure: Figure, axes: Axes, found: ValueMap) -> None:
    low, high = np.array(found.view.low, float), np.array(found.view.high, float)
    # Positions need not end where a wall begins: what is left between them is drawn as wall.
    shown = axes.imshow(
        found.values,
        cmap=colormaps[GRADUAL].with_extremes(bad=WALL),
        origin="upper",
        extent=(low[1], high[1], high[0], low[0]),
        interpolation="nearest",
    )
    values = found.values[np.isfinite(found.values)]
    if np.ptp(values) > 0 and min(found.values.shape) > 1:
        levels = np.linspace(values.min(), values.max(), LEVELS + 2)[1:-1]
        axes.contour(
            found.second, found.first, np.ma.masked_invalid(found.values), levels, colors="white", linewidths=0.7,
            linestyles="solid",
        )  # fmt: skip
    draw_ground(axes, np.asarray(found.view.walls, float).reshape(-1, 4), low, high)
    axes.plot(found.start[1], found.start[0], "s", color="white", markeredgecolor=BLACK, markersize=6)
    center = (float(found.goal[1]), float(found.goal[0]))
    axes.add_patch(Circle(center, found.success_radius, fill=False, edgecolor=VERMILLION, linewidth=1.6))
    axes.plot(*center, "+", color=VERMILLION, markersize=8, markeredgewidth=1.8)
    color_bar(figure, axes, shown, "critic f(φ(s, π(s, g)), ψ(g))")
