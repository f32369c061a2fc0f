"""Trajectories as the critic represents them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqcrl.analysis import Embeddings
from eqcrl.errors import UsageError
from eqcrl.plots.layout import legend_below, panel_figure
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import BLACK, GRADUAL, INK, VERMILLION, house_style


def embeddings(found: Mapping[str, Embeddings], path: str | Path, *, title: str = "") -> Figure:
    """A panel for each label (`eqcrl.analysis.trajectory_embeddings`): φ along evaluated episodes on its first two
    principal components, colored by time, and ψ of the goals.

    Raises: UsageError for nothing to draw or an unknown suffix; RunError if the disk refuses.
    """
    if not found:
        raise UsageError("There are no embeddings to draw.", mend="Give those of one run at least.")
    handles = _legend(found)
    with house_style():
        figure, grid = panel_figure(
            len(found), width=4.2, height=4.0, single=5.6, columns=3, entries=[label for _, label in handles]
        )
        steps = max(len(one.points) for one in found.values()) - 1
        norm = Normalize(0, max(steps, 1))
        for axes, (label, one) in zip(grid, found.items(), strict=True):
            _draw(axes, one, norm)
            axes.set_title(label)
        bar = figure.colorbar(
            ScalarMappable(norm, GRADUAL), ax=grid, label="step of the episode", fraction=0.04, pad=0.02
        )
        bar.outline.set_visible(False)  # type: ignore[operator]
        if title:
            figure.suptitle(title, fontsize=11)
        legend_below(figure, handles)
        save_figure(figure, Path(path))
    return figure


def _draw(axes: Axes, one: Embeddings, norm: Normalize) -> None:
    for episode, success in enumerate(one.success.tolist()):
        points = one.points[:, episode]
        points = points[np.isfinite(points).all(axis=1)]
        segments = np.stack([points[:-1], points[1:]], axis=1)
        # Every other segment of a failure is left out: dashes that a collection of short segments cannot have.
        shown = slice(None) if success else slice(None, None, 2)
        lines = LineCollection(
            list(segments[shown]), array=np.arange(len(segments))[shown], cmap=GRADUAL, norm=norm, linewidths=1.3
        )
        axes.add_collection(lines)
        axes.plot(*points[0], "s", color="white", markeredgecolor=BLACK, markersize=5.5, zorder=4)
        marker, face = ("o", "white") if success else ("X", INK)
        axes.plot(*points[-1], marker=marker, markerfacecolor=face, markeredgecolor=INK, markersize=6, zorder=5)
    axes.plot(*one.goals.T, "+", color=VERMILLION, markersize=9, markeredgewidth=1.8, zorder=6)
    axes.autoscale_view()
    axes.margins(0.06)
    for name, share, put in zip(("first", "second"), one.explained, (axes.set_xlabel, axes.set_ylabel), strict=True):
        put(f"{name} principal component ({share:.0%})")


def _legend(found: Mapping[str, Embeddings]) -> list[tuple[Line2D, str]]:
    reached = sum(int(one.success.sum()) for one in found.values())
    failed = sum(int((~one.success).sum()) for one in found.values())
    handles = [
        (
            Line2D([], [], linestyle="", marker="s", color="white", markeredgecolor=BLACK, markersize=5.5),
            "φ at the start",
        )
    ]
    if reached:
        style = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": INK, "markersize": 6}
        handles.append((Line2D([], [], color=INK, **style), f"φ along an episode that reached the goal ({reached})"))
    if failed:
        style = {"marker": "X", "markerfacecolor": INK, "markeredgecolor": INK, "markersize": 6}
        dashed = Line2D([], [], color=INK, linestyle=":", **style)
        handles.append((dashed, f"φ along an episode that did not ({failed})"))
    goal = Line2D([], [], linestyle="", marker="+", color=VERMILLION, markersize=9, markeredgewidth=1.8)
    return [*handles, (goal, "ψ of its goal")]
