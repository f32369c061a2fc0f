"""Learning curves: of one run, and of groups of runs that differ by seed only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from eqcrl.errors import UsageError, did_you_mean
from eqcrl.plots.groups import align, require_metric
from eqcrl.plots.layout import by_panel, legend_below, panel_figure, seeds_text
from eqcrl.plots.metrics import SHARE_LIMITS, SHARES, metric_limits, metric_name
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import house_style, line_style, new_figure
from eqcrl.statistics import Records, curve_band, iqm_curve, series

X_AXES = ("env_steps", "grad_steps", "wall_seconds")

# Title of the panel, its lines and their names. Panels of which a run has no metric are left out.
_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("success (share)", (("eval/success_any", "at any step"), ("eval/success_end", "at the last step"))),
    ("time at goal (steps per episode)", (("eval/time_at_goal", ""),)),
    ("distance to goal at the end", (("eval/distance_end", ""),)),
    ("critic loss", (("train/critic_loss", ""),)),
    ("actor loss", (("train/actor_loss", ""),)),
    ("categorical accuracy (share)", (("train/categorical_accuracy", ""),)),
)


def learning_curve(records: Records, path: str | Path, *, title: str = "", x: str = "env_steps") -> Figure:
    """How one run went: success, time at goal, final distance, losses, accuracy, as far as recorded.

    `records` are the lines of `metrics.jsonl`; the suffix of `path` (.png, .pdf, .svg) chooses the format.
    Raises: UsageError for records with none of these, an unknown `x` or suffix; RunError if the disk refuses.
    """
    _check_x(x)
    recorded = {metric for _, lines in _PANELS for metric, _ in lines if len(series(records, metric, x)[0])}
    panels = [(name, [line for line in lines if line[0] in recorded]) for name, lines in _PANELS]
    panels = [(name, lines) for name, lines in panels if lines]
    if not panels:
        wanted = ", ".join(metric for _, lines in _PANELS for metric, _ in lines)
        raise UsageError(
            f"There is no learning curve to draw: {len(records)} records, none with {x} and one of {wanted}.",
            mend="Wait for the first evaluation.",
        )
    shown = [series(records, metric, x) for _, lines in panels for metric, _ in lines]
    first, last = min(xs[0] for xs, _ in shown), max(xs[-1] for xs, _ in shown)
    scale = _XScale(x, last)
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(max(3.5 * columns, 4.5), 2.6 * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for place, (axes, (name, lines)) in enumerate(zip(grid, panels, strict=False)):
            for i, (metric, label) in enumerate(lines):
                xs, values = series(records, metric, x)
                axes.plot(xs / scale.divisor, values, **line_style(i), **_marker(len(xs)), label=label)
            axes.set_title(name)
            if all(metric in SHARES for metric, _ in lines):
                axes.set_ylim(*SHARE_LIMITS)
            if last > first:  # the same range everywhere, though losses begin one evaluation later
                margin = 0.04 * (last - first)
                axes.set_xlim((first - margin) / scale.divisor, (last + margin) / scale.divisor)
            scale.dress(axes, label=place + columns >= len(panels))
            if len(lines) > 1:
                axes.legend(loc="best")
        for axes in grid[len(panels) :]:
            axes.remove()
        if title:
            figure.suptitle(title, fontsize=12)
        save_figure(figure, Path(path))
    return figure


def compare(
    groups: Mapping[str, Sequence[Records]],
    metric: str,
    path: str | Path,
    *,
    x: str = "env_steps",
    title: str = "",
) -> Figure:
    """One curve per group: the interquartile mean over its runs, and its 95% bootstrap interval as a band.

    The runs of a group (`group_runs`) are interpolated onto one grid and cut where the shortest ends. A group
    of one run is drawn without a band. Raises: UsageError for an empty group, a metric that a run lacks, an
    unknown `x` or suffix; RunError if the disk refuses.
    """
    return compare_panels({"": groups}, metric, path, x=x, title=title)


def compare_panels(
    panels: Mapping[str, Mapping[str, Sequence[Records]]],
    metric: str,
    path: str | Path,
    *,
    x: str = "env_steps",
    title: str = "",
) -> Figure:
    """The same with a panel for each environment (`eqcrl.plots.groups.panels`); a label looks the same in all of them.

    Raises: UsageError as `compare` does, also if nothing is left to compare.
    """
    _check_x(x)
    if not panels or not all(groups and all(groups.values()) for groups in panels.values()):
        raise UsageError("There are no runs to compare.", mend="Give at least one run in every group.")
    require_metric([records for groups in panels.values() for runs in groups.values() for records in runs], metric)
    curves = {
        name: {label: _curves(label, runs, metric, x) for label, runs in groups.items()}
        for name, groups in panels.items()
    }
    everything = [curve for groups in curves.values() for runs in groups.values() for curve in runs]
    scale = _XScale(x, max(xs[-1] for xs, _ in everything))
    marker = _marker(max(len(xs) for xs, _ in everything))
    labels = list(dict.fromkeys(label for groups in curves.values() for label in groups))
    notes = {
        label: by_panel({name: _note(groups[label]) for name, groups in curves.items() if label in groups})
        for label in labels
    }
    entries = [f"{label} ({note})" for label, note in notes.items()]
    several = any(len(runs) > 1 for groups in curves.values() for runs in groups.values())
    said = "interquartile mean over seeds with its 95% bootstrap interval" if several else ""
    with house_style():
        figure, grid = panel_figure(len(curves), width=4.2, height=3.8, single=6.4, columns=2, entries=entries)
        for axes, (name, groups) in zip(grid, curves.items(), strict=True):
            for label, runs in groups.items():
                _draw_group(axes, runs, labels.index(label), scale, marker)
            scale.dress(axes)
            limits = metric_limits(metric)
            if limits is not None:
                axes.set_ylim(*limits)
            axes.set_title(name or title or said)
        if "" not in curves and (title or said):
            figure.suptitle(title or said, fontsize=11)
        for axes in grid[:: 2 if len(grid) > 1 else 1]:
            axes.set_ylabel(metric_name(metric))
        legend_below(figure, [(Line2D([], [], **line_style(i), **marker), entry) for i, entry in enumerate(entries)])
        save_figure(figure, Path(path))
    return figure


Curve = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]


def _curves(label: str, runs: Sequence[Records], metric: str, x: str) -> list[Curve]:
    curves = [series(records, metric, x) for records in runs]
    missing = sum(len(xs) == 0 for xs, _ in curves)
    if missing:
        raise UsageError(
            f"{missing} of the {len(runs)} runs of {label!r} lack {metric!r} over {x}.",
            mend="Leave them out, or choose another metric.",
        )
    return curves


def _note(runs: Sequence[Curve]) -> str:
    grid, _ = align(runs)
    longest = max(xs[-1] for xs, _ in runs)
    # Runs stopped early shorten their group's curve; that must not look as if training had ended there.
    cut = ", cut where the shortest ends" if grid[-1] < 0.95 * longest else ""
    return seeds_text(len(runs)) + cut


def _draw_group(axes: Axes, runs: Sequence[Curve], index: int, scale: "_XScale", marker: dict[str, Any]) -> None:
    grid, values = align(runs)
    style = line_style(index)
    at = grid / scale.divisor
    axes.plot(at, iqm_curve(values), **style, **marker)
    if len(runs) > 1:
        low, high = curve_band(values)
        axes.fill_between(at, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _marker(points: int) -> dict[str, Any]:
    """Dots while there are few points: one evaluation alone is no line."""
    return {"marker": "o", "markersize": 3.5} if points <= 30 else {}


def _check_x(x: str) -> None:
    if x not in X_AXES:
        raise UsageError(f"{x!r} is no horizontal axis.", mend=did_you_mean(x, X_AXES))


class _XScale:
    """Unit and name of the horizontal axis, by its largest value."""

    def __init__(self, x: str, largest: float) -> None:
        self.is_count = x != "wall_seconds"
        self.divisor = 1.0
        if self.is_count:
            self.label = {"env_steps": "environment steps", "grad_steps": "gradient steps"}[x]
        else:
            units = ((1.0, "s", 300), (60.0, "min", 3 * 3600), (3600.0, "h", float("inf")))
            self.divisor, unit, _ = next(u for u in units if largest < u[2])
            self.label = f"wall time ({unit})"

    def dress(self, axes: Axes, *, label: bool = True) -> None:
        """Ticks such as 200k, few enough not to touch, and the name."""
        axes.locator_params(axis="x", nbins=6)
        if self.is_count:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if label:
            axes.set_xlabel(self.label)
