"""The figures of a report: which curves and scores are drawn, and what they are called."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqcrl import plots
from eqcrl.plots import metric_limits, metric_name
from eqcrl.plots.curves import X_AXES
from eqcrl.report.grouping import Environment, Setting, numeric_axis
from eqcrl.report.pictures import Absent, Picture, draw
from eqcrl.report.scores import across, finals
from eqcrl.statistics import Records, iqm, series

AXES: dict[str, str] = dict(zip(X_AXES, ("environment steps", "gradient steps", "wall time"), strict=True))
CURVES = ("eval/success_any", "eval/time_at_goal", "eval/distance_end")
LINES = 10
"""Curves in one figure; more settings are spread over several."""
BOUNDED = "eval/success_any"
"""The metric that means the same in every environment, so that environments may be taken together."""


@dataclass(frozen=True)
class Curves:
    """One metric over each of the axes, by the axis' name."""

    metric: str
    name: str
    tabs: dict[str, list[Picture | Absent]]


def curves(environment: Environment, primary: str) -> list[Curves]:
    """Learning curves of one environment, the metric that matters most first; metrics never recorded are left out."""
    found = []
    for metric in dict.fromkeys((primary, *CURVES)):
        settings = [s for s in environment.settings if any(_recorded(r.records, metric) for r in s.counted())]
        if settings:
            tabs = {name: _over(environment, settings, metric, axis) for axis, name in AXES.items()}
            found.append(Curves(metric, metric_name(metric), tabs))
    return found


def _recorded(records: Records, metric: str) -> bool:
    return len(series(records, metric, X_AXES[0])[0]) > 0


def _over(environment: Environment, settings: Sequence[Setting], metric: str, axis: str) -> list[Picture | Absent]:
    pictures = []
    for start in range(0, len(settings), LINES):
        part = settings[start : start + LINES]
        groups = {plain(s.label): [run.records for run in s.counted() if _recorded(run.records, metric)] for s in part}
        if axis == "wall_seconds":
            groups = {label: mean_pace(runs) for label, runs in groups.items()}
        alt = (
            f"Learning curves on {environment.label}: {metric_name(metric)} against {AXES[axis]}. "
            f"Final scores: {_said(part, metric)}."
        )
        pictures.append(draw(lambda path, groups=groups: plots.compare(groups, metric, path, x=axis), alt))
    return pictures


def mean_pace(runs: Sequence[Records]) -> list[Records]:
    """The runs with the wall time that they took on average to the same number of environment steps.

    One that had the machine for itself may have ended when another, beside others, has only begun: at equal wall
    times the two have no mean. Only evaluations that every run has are kept.
    """
    paces = [dict(zip(*(a.tolist() for a in series(run, "wall_seconds", "env_steps")), strict=True)) for run in runs]
    shared = set(paces[0]).intersection(*paces[1:])
    mean = {steps: float(np.mean([pace[steps] for pace in paces])) for steps in shared}
    return [
        [{**record, "wall_seconds": mean[record["env_steps"]]} for record in run if record.get("env_steps") in mean]
        for run in runs
    ]


def _said(settings: Sequence[Setting], metric: str) -> str:
    told = [(s.label, finals(s.counted(), metric)) for s in settings]
    return ", ".join(f"{label} {iqm([scores]):.3g}" for label, scores in told if len(scores))


def plain(label: str) -> str:
    """The label with its dollars as they are: matplotlib would read what stands between two as a formula."""
    return label.replace("$", r"\$")


def called(setting: Setting) -> str:
    """What a setting is called in a legend."""
    return plain(setting.label) + (" (not finished)" if setting.provisional() else "")


def overview(environments: Sequence[Environment], primary: str) -> list[Picture | Absent]:
    """Final scores of all settings, a panel for each environment; against the number they differ in, if it is one."""
    alike: dict[tuple[str, ...], list[Environment]] = {}
    for env in environments:
        alike.setdefault(tuple(s.label for s in env.settings), []).append(env)
    pictures = [_bars(envs, primary) for envs in alike.values()] + [_against(environments, primary)]
    return [picture for picture in pictures if picture is not None]


def _bars(environments: Sequence[Environment], primary: str) -> Picture | Absent | None:
    """Of environments with the same settings; None for a single bar, which the table tells as well."""
    bars = {
        plain(env.label): {called(s): scores for s in env.settings if (scores := finals(s.counted(), primary).tolist())}
        for env in environments
    }
    bars = {env: groups for env, groups in bars.items() if groups}
    if sum(map(len, bars.values())) < 2:
        return None
    name = metric_name(primary)
    said = "; ".join(f"{env.label}: {_said(env.settings, primary)}" for env in environments)
    return draw(
        lambda path: plots.score_bars(bars, path, ylabel=name),
        f"Final {name} of every setting, a panel for each environment. {said}.",
        f"Final {name}: interquartile mean over seeds, with its 95% bootstrap interval.",
    )


def _against(environments: Sequence[Environment], primary: str) -> Picture | Absent | None:
    lines, keys = {}, set()
    for env in environments:
        axis = numeric_axis(env.settings)
        if axis is None:
            return None
        keys.add(axis[0])
        lines[plain(env.label)] = {
            value: scores
            for value, s in zip(axis[1], env.settings, strict=True)
            if not s.provisional() and (scores := finals(s.counted(), primary).tolist())
        }
    if len(keys) != 1 or not all(lines.values()):
        return None
    (key,), name = keys, metric_name(primary)
    mark = key.endswith("depth")
    caption = f"Final {name} against {key}" + (", critical depths marked." if mark else ".")
    return draw(
        lambda path: plots.score_against(lines, path, xlabel=key, ylabel=name, mark=mark, ylim=metric_limits(primary)),
        f"{caption} A line for each environment.",
        caption,
    )


def profiles(environments: Sequence[Environment]) -> Picture | Absent | None:
    """Performance profiles over all environments, for settings that were run in each; None for one environment."""
    groups = across(environments, BOUNDED)
    if len(environments) < 2 or not groups:
        return None
    name = metric_name(BOUNDED)
    return draw(
        lambda path: plots.profiles({plain(k): v for k, v in groups.items()}, path, xlabel=f"{name}, final"),
        f"Performance profiles of {', '.join(groups)} over {len(environments)} environments.",
        f"Performance profiles: the share of runs, over all environments, that score more than so much {name}.",
    )
