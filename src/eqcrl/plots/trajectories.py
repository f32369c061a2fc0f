"""Evaluated trajectories over the maze."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eqcrl.envs.base import TopView
from eqcrl.errors import UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots.ground import draw_ground
from eqcrl.plots.output import save_figure
from eqcrl.plots.plane import Plane, plane_of
from eqcrl.plots.style import BLACK, BLUE, GREEN, VERMILLION, WALL, house_style, new_figure

LONG_SIDE = 6.5
"""Longer side of the maze in inches."""


def trajectories(
    episodes: Episodes,
    top_view: TopView | None,
    path: str | Path,
    *,
    success_radius: float,
    num_drawn: int = 32,
    title: str = "",
) -> Figure:
    """The paths of the first `num_drawn` episodes, seen from above as the layout is written.

    The title has the share of all episodes that succeeded. Successful paths are solid and end in a
    dot, failed ones are dashed and end in a cross. `success_radius` is in the unit of the goal.

    Raises: UsageError for an environment without a top view, no episodes, or an unknown suffix; RunError
    if the disk refuses.
    """
    plane = plane_of(episodes, top_view, success_radius)
    if num_drawn < 1:
        raise UsageError(f"{num_drawn} episodes cannot be drawn.", mend="Draw at least one.")
    drawn = min(num_drawn, plane.num_episodes())
    with house_style():
        figure, axes = _lay_out(plane)
        draw_ground(axes, plane.walls, plane.low, plane.high)
        _draw_goals(axes, plane, drawn)
        _draw_paths(axes, plane, drawn)
        share = f"success in {int(plane.success().sum())} of {plane.num_episodes()} episodes"
        share += f" ({plane.success().mean():.0%})"
        share += f", the first {drawn} drawn" if drawn < plane.num_episodes() else ""
        axes.set_title(f"{title}\n{share}" if title else share, loc="left")
        axes.legend(handles=_legend(plane, drawn), loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        save_figure(figure, Path(path))
    return figure


def _lay_out(plane: Plane) -> tuple[Figure, Axes]:
    """Figure and axes of the plane's proportions, with room for labels, two lines of title, and the legend.

    By hand, because the automatic layouts lose labels beside axes of fixed aspect.
    """
    extent = np.maximum(plane.high - plane.low, 1e-9)
    height, width = np.maximum(extent * LONG_SIDE / extent.max(), 0.8).tolist()
    left, right, bottom, top = 0.75, 2.15, 0.6, 0.65
    total_width, total_height = left + max(width, 3.0) + right, bottom + max(height, 1.6) + top
    figure = new_figure(total_width, total_height)
    figure.set_layout_engine("none")
    box = (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    return figure, figure.add_axes(box)


def _draw_goals(axes: Axes, plane: Plane, drawn: int) -> None:
    goals = plane.goals[:drawn, ::-1]
    size = np.full(drawn, 2 * plane.success_radius)
    axes.add_collection(
        EllipseCollection(
            size,
            size,
            np.zeros(drawn),
            units="xy",
            offsets=goals,
            offset_transform=axes.transData,
            facecolors=(*to_rgb(GREEN), 0.12),
            edgecolors=(*to_rgb(GREEN), 0.6),
            linewidths=0.8,
        ),
        autolim=False,
    )
    axes.plot(goals[:, 0], goals[:, 1], "+", color=GREEN, markersize=6, markeredgewidth=1.4)


def _draw_paths(axes: Axes, plane: Plane, drawn: int) -> None:
    success = plane.success()[:drawn]
    for reached, color, dash, marker in ((False, VERMILLION, (0, (3.5, 1.8)), "X"), (True, BLUE, "-", "o")):
        paths = plane.paths[:, :drawn][:, success == reached, ::-1]
        if paths.shape[1] == 0:
            continue
        lines = LineCollection(
            list(paths.transpose(1, 0, 2)),
            colors=color,
            linestyles=[dash],
            linewidths=1.3,
            alpha=0.75,
            zorder=3,
        )
        axes.add_collection(lines, autolim=False)
        axes.plot(
            *paths[-1].T,
            linestyle="",
            marker=marker,
            color=color,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=4,
        )
    starts = plane.paths[0, :drawn]
    axes.plot(starts[:, 1], starts[:, 0], "s", color="white", markeredgecolor=BLACK, markersize=6, zorder=5)


def _legend(plane: Plane, drawn: int) -> list[Line2D | Patch]:
    success = plane.success()[:drawn]
    entries: list[Line2D | Patch] = []
    if success.any():
        entries.append(
            Line2D(
                [],
                [],
                color=BLUE,
                marker="o",
                markeredgecolor="white",
                markersize=7,
                label=f"reached the goal ({int(success.sum())})",
            )
        )
    if not success.all():
        entries.append(
            Line2D(
                [],
                [],
                color=VERMILLION,
                marker="X",
                markeredgecolor="white",
                markersize=7,
                linestyle=(0, (3.5, 1.8)),
                label=f"did not reach it ({int((~success).sum())})",
            )
        )
    entries += [
        Line2D(
            [],
            [],
            linestyle="",
            marker="s",
            color="white",
            markeredgecolor=BLACK,
            markersize=6,
            label="start",
        ),
        Line2D([], [], linestyle="", marker="+", color=GREEN, markersize=7, markeredgewidth=1.4, label="goal"),
        Patch(
            facecolor=(*to_rgb(GREEN), 0.12),
            edgecolor=(*to_rgb(GREEN), 0.6),
            label=f"success radius {plane.success_radius:g}",
        ),
    ]
    return [*entries, Patch(facecolor=WALL, label="wall")] if len(plane.walls) else entries
