"""The figures of a study, from the runs that are done."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqcrl import plots
from eqcrl.errors import EqcrlError, UsageError
from eqcrl.jobs.keys import flatten
from eqcrl.studies.folder import OpenStudy
from eqcrl.studies.scores import Scored, evaluated, finished, grouped, scores_of
from eqcrl.studies.spec import Figure, Study

Drawn = tuple[str, Path]
Drawer = Callable[[Figure, Study, Sequence[Scored], Path], list[Drawn]]


def draw(study: OpenStudy, folder: Path, problems: list[str] | None = None) -> list[Drawn]:
    """Every figure of the study as (caption, PNG file below `folder`).

    A figure that cannot be drawn is left out, and why is added to `problems`. Raises: RunError if the disk refuses.
    """
    runs, unreadable = finished(study)
    problems = [] if problems is None else problems
    problems += unreadable
    drawn: list[Drawn] = []
    for number, figure in enumerate(study.figures, start=1):
        wanted = flatten(figure.where)
        chosen = [run for run in runs if all(run.value(k) == v for k, v in wanted.items())]
        name = f"{number:02d}-{figure.kind}.png"
        try:
            if not chosen:
                raise UsageError("none of its runs is done.")
            drawn += DRAWERS[figure.kind](figure, study.study, chosen, Path(folder) / name)
        except (UsageError, EqcrlError) as error:
            problems.append(f"figure {number} ({figure.kind}): {error.message}")
    return drawn


def _title(figure: Figure, study: Study) -> str:
    return figure.title or study.title


def _metric(figure: Figure, study: Study) -> str:
    return figure.metric or study.metric


def _panels(figure: Figure, runs: Sequence[Scored]) -> dict[str, list[Scored]]:
    return {members[0].word(figure.panels): members for members in grouped(runs, figure.panels).values()}


def _line_keys(figure: Figure, study: Study, runs: Sequence[Scored], *taken: str | None) -> list[str]:
    """What tells the runs of a panel apart: the key that is asked for, or every axis that nothing else shows."""
    if figure.lines is not None:
        return [figure.lines]
    shown = [key for key in (figure.panels, *taken) if key is not None]
    keys = []
    for axis in study.axes:
        by_axis = grouped(runs, axis).values()
        # `arch = resnet-64` says what `arch.depth` on the other axis says; `preset` what the environment says.
        implied = any(all(len({repr(r.value(k)) for r in group}) == 1 for group in by_axis) for k in shown)
        if len(by_axis) > 1 and axis not in shown and not implied:
            keys.append(axis)
    return keys


def _lines(keys: Sequence[str], runs: Sequence[Scored]) -> dict[str, list[Scored]]:
    if not keys:
        return {"": list(runs)}
    return {", ".join(members[0].word(k) for k in keys): members for members in grouped(runs, *keys).values()}


def _number(run: Scored, key: str) -> float:
    value = run.value(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} of {run.run.name()} is {value!r}, and only numbers make an axis.")
    return float(value)


def _score(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric, x = _metric(figure, study), str(figure.x)
    panels: dict[str, dict[str, dict[float, list[float]]]] = {}
    for panel, members in _panels(figure, runs).items():
        for line, of_line in _lines(_line_keys(figure, study, runs, x), members).items():
            points = {_number(group[0], x): scores_of(group, metric) for group in grouped(of_line, x).values()}
            points = {at: scores for at, scores in points.items() if scores}
            if points:
                panels.setdefault(panel, {})[line or plots.metric_name(metric)] = points
    plots.score_panels(
        panels,
        path,
        xlabel=_name(x),
        ylabel=plots.metric_name(metric),
        title=_title(figure, study),
        mark=x.endswith("depth"),
        ylim=plots.metric_limits(metric),
    )
    stars = "; a star: the interval lies above that of the depth before" if x.endswith("depth") else ""
    return [(f"{_title(figure, study)}: {plots.metric_name(metric)} against {_name(x)}{_seeds(runs)}{stars}.", path)]


def _name(key: str) -> str:
    words = key.split(".")
    before = [] if words[0] in ("arch", "train", "relabeller") else [w.replace("_arch", "") for w in words[:-1]]
    return " ".join([*before, words[-1]]).replace("_", " ")


def _seeds(runs: Sequence[Scored]) -> str:
    count = len({run.run.seed for run in runs})
    if count == 1:
        return ", one seed, so without intervals"
    return f", interquartile mean of up to {count} seeds with its 95% bootstrap interval"


def _curves(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric, x = _metric(figure, study), figure.x or "env_steps"
    panels = {}
    for panel, members in _panels(figure, runs).items():
        lines = _lines(_line_keys(figure, study, runs), members)
        panels[panel] = {line or "all runs": [run.records for run in group] for line, group in lines.items()}
    plots.compare_panels(panels, metric, path, x=x, title=_title(figure, study))
    return [(f"{_title(figure, study)}: {plots.metric_name(metric)} against {_name(x)}{_seeds(runs)}.", path)]


def _bars(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric = _metric(figure, study)
    groups: dict[str, dict[str, list[float]]] = {}
    for panel, members in _panels(figure, runs).items():
        lines = _lines(_line_keys(figure, study, runs), members)
        groups[panel] = {
            line or "all runs": found for line, group in lines.items() if (found := scores_of(group, metric))
        }
    plots.score_bars(groups, path, ylabel=plots.metric_name(metric), title=_title(figure, study))
    return [(f"{_title(figure, study)}: {plots.metric_name(metric)}{_seeds(runs)}.", path)]


def _heat_map(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric, x, y = _metric(figure, study), str(figure.x), str(figure.y)
    drawn = []
    for panel, members in _panels(figure, runs).items():
        cells: dict[tuple[float | str, float | str], list[float]] = {}
        for (at_x, at_y), group in grouped(members, x, y).items():
            found = scores_of(group, metric)
            if found:
                cells[_cell(at_x), _cell(at_y)] = found
        file = _beside(path, panel, len(_panels(figure, runs)))
        title = f"{_title(figure, study)}: {panel}"
        plots.heat_map(cells, file, xlabel=_name(x), ylabel=_name(y), zlabel=plots.metric_name(metric), title=title)
        drawn.append((f"{title}, {plots.metric_name(metric)}{_seeds(members)}.", file))
    return drawn


def _cell(value: Any) -> float | str:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _beside(path: Path, panel: str, panels: int) -> Path:
    """A file for each panel, where one figure cannot hold them."""
    return path if panels == 1 else path.with_stem(f"{path.stem}-{re.sub(r'[^A-Za-z0-9.-]+', '-', panel)}")


def _profiles(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric = _metric(figure, study)
    groups: dict[str, list[np.ndarray]] = {}
    for members in _panels(figure, runs).values():
        for line, group in _lines(_line_keys(figure, study, runs), members).items():
            groups.setdefault(line or "all runs", []).append(np.array(scores_of(group, metric)))
    plots.profiles(groups, path, xlabel=plots.metric_name(metric), title=_title(figure, study))
    return [(f"{_title(figure, study)}: share of runs above each {plots.metric_name(metric)}.", path)]


def _evaluations(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
    metric, x = _metric(figure, study), str(figure.x)
    panels: dict[str, dict[str, dict[float, list[float]]]] = {}
    order = [e.label for e in study.evaluations]
    for panel, members in _panels(figure, runs).items():
        found = evaluated(members, metric)
        for label in sorted(found, key=order.index):
            line = panels.setdefault(panel, {}).setdefault(label, {})
            for run, score in sorted(found[label], key=lambda pair: _number(pair[0], x)):
                line.setdefault(_number(run, x), []).append(score)
    plots.score_panels(
        panels,
        path,
        xlabel=_name(x),
        ylabel=plots.metric_name(metric),
        title=_title(figure, study),
        mark=False,
        ylim=plots.metric_limits(metric),
    )
    return [(f"{_title(figure, study)}: {plots.metric_name(metric)} where else it was evaluated{_seeds(runs)}.", path)]


def _looked_into(
    look: Callable[[Any], Any], show: Callable[..., Any], what: str
) -> Callable[[Figure, Study, Sequence[Scored], Path], list[Drawn]]:
    """One run of each setting, its lowest seed, opened and looked into; a figure for each panel."""

    def drawer(figure: Figure, study: Study, runs: Sequence[Scored], path: Path) -> list[Drawn]:
        from eqcrl.run import load

        drawn, panels = [], _panels(figure, runs)
        for panel, members in panels.items():
            lines = _lines(_line_keys(figure, study, runs), members)
            first = {line or "all runs": min(group, key=lambda r: r.run.seed) for line, group in lines.items()}
            found = {line: look(load(run.run.path)) for line, run in first.items()}
            file = _beside(path, panel, len(panels))
            show(found, file, title=f"{_title(figure, study)}: {panel}")
            seeds = ", ".join(f"{line} seed {run.run.seed}" for line, run in first.items())
            drawn.append((f"{_title(figure, study)}: {what}, {panel} ({seeds}).", file))
        return drawn

    return drawer


def _value_map(run: Any) -> Any:
    from eqcrl.analysis import value_map

    return value_map(run)


def _trajectory_embeddings(run: Any) -> Any:
    from eqcrl.analysis import trajectory_embeddings

    return trajectory_embeddings(run)


def _block_updates(run: Any) -> Any:
    from eqcrl.analysis import block_updates

    return block_updates(run)


DRAWERS: Mapping[str, Drawer] = {
    "score": _score,
    "curves": _curves,
    "bars": _bars,
    "heatmap": _heat_map,
    "profiles": _profiles,
    "evaluations": _evaluations,
    "q-map": _looked_into(_value_map, plots.q_map, "the critic's value over the plane"),
    "embeddings": _looked_into(
        _trajectory_embeddings, plots.embeddings, "φ along trajectories, two principal components"
    ),
    "residual-norms": _looked_into(_block_updates, plots.residual_norms, "what each block adds to the stream"),
}
