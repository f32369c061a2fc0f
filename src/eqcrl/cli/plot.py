"""`eqcrl plot`: curves and final scores of runs, and looks into what they learned."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from eqcrl.errors import UsageError

AXES = {"depth": ("arch.depth",), "heatmap": ("actor_arch.depth", "critic_arch.depth")}
"""Settings that these kinds are drawn over if none are said."""
# Which options mean something for which kind; one that does not is refused, not ignored.
KINDS: dict[str, tuple[str, ...]] = {
    "curves": ("metric", "x"),
    "depth": ("metric", "over", "last"),
    "bars": ("metric", "last"),
    "profiles": ("metric", "last"),
    "heatmap": ("metric", "over", "last"),
    "q-map": ("seed",),
    "embeddings": ("seed",),
    "residual-norms": ("seed",),
}


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="curves", show_default=True, help="What to draw, see above."
)
@click.option("--metric", default="eval/success_any", show_default=True, help="A number of metrics.jsonl.")
@click.option(
    "--x",
    "x",
    type=click.Choice(["env_steps", "grad_steps", "wall_seconds"]),
    default="env_steps",
    show_default=True,
    help="What to draw curves against.",
)
@click.option(
    "--over",
    metavar="KEY[,KEY]",
    help="Settings along the axes: of depth one, of heatmap two  (default: arch.depth, or "
    "actor_arch.depth,critic_arch.depth)",
)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Evaluations at the end of a run that its final score is the mean of.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the starts and goals that trained networks are looked at with.",
)
@click.option("--out", metavar="FILE", help="PNG, PDF or SVG file  (default: KIND.png)")
@click.pass_context
def plot(
    ctx: click.Context,
    runs: tuple[str, ...],
    kind: str,
    metric: str,
    x: str,
    over: str | None,
    last: int,
    seed: int,
    out: str | None,
) -> None:
    """Draw one or many runs. Runs whose configurations differ only in the seed belong together: what is shown is
    their interquartile mean with its 95% bootstrap interval. Every environment has a panel of its own.

    \b
    curves          a metric over training, a curve for each configuration
    depth           final scores against a setting, critical values marked
    bars            final scores of all configurations
    profiles        the share of runs, over all environments, above each score
    heatmap         final scores over two settings
    q-map           the critic over the maze, for each run
    embeddings      phi along episodes on two principal components, for each run
    residual-norms  how much each block adds, for each run

    \b
    Examples:
      eqcrl plot runs/a runs/b --metric eval/time_at_goal --x wall_seconds
      eqcrl plot runs/* --kind depth --over train.batch_size --out batch.pdf
      eqcrl plot runs/deep runs/shallow --kind q-map
    """
    _refuse_unused(ctx, kind)
    path = Path(out or f"{kind}.png")
    # Refused before anything is read or compiled.
    from eqcrl.plots.output import FIGURE_SUFFIXES, check_suffix

    check_suffix(path, FIGURE_SUFFIXES, "figure")
    said = (
        _look_into(runs, kind, path, seed)
        if kind in ("q-map", "embeddings", "residual-norms")
        else _draw_metrics(runs, kind, path, metric, x, over, last)
    )
    for line in said:
        click.echo(line)
    click.echo(str(path))


def _refuse_unused(ctx: click.Context, kind: str) -> None:
    for name in ("metric", "x", "over", "last", "seed"):
        source = ctx.get_parameter_source(name)
        if name not in KINDS[kind] and source is click.core.ParameterSource.COMMANDLINE:
            users = " or ".join(k for k, options in KINDS.items() if name in options)
            raise UsageError(f"--{name} means nothing for --kind {kind}.", mend=f"Leave it out, or draw {users}.")


def _draw_metrics(
    runs: Sequence[str], kind: str, path: Path, metric: str, x: str, over: str | None, last: int
) -> list[str]:
    """Draw what the files of the runs say; returns what is to be said about it."""
    from eqcrl import plots
    from eqcrl.plots.groups import require_metric
    from eqcrl.rundir import RunDir

    opened = [RunDir.open(run) for run in runs]
    read = [(run.config(), run.metrics()) for run in opened]
    if kind == "curves":
        panels = plots.panels(read)
        if len(panels) == 1:
            groups = plots.group_runs(read)
            plots.compare(groups, metric, path, x=x)
            return [f"{label}: {_seeds(len(members))}" for label, members in groups.items()]
        plots.compare_panels(panels, metric, path, x=x)
        return [
            f"{name}, {label}: {_seeds(len(members))}"
            for name, groups in panels.items()
            for label, members in groups.items()
        ]
    require_metric([records for _, records in read], metric)
    scored = [
        (config, _score(run.path, records, metric, last)) for run, (config, records) in zip(opened, read, strict=True)
    ]
    for run, (config, records) in zip(opened, read, strict=True):
        taken, asked = records[-1]["env_steps"], config.train.total_env_steps
        if taken < 0.95 * asked:
            click.echo(f"Note: {run.path} has ended at {taken:,} of {asked:,} environment steps.", err=True)
    return _DRAWERS[kind](scored, path, metric, over)


def _score(path: Path, records: Any, metric: str, last: int) -> float:
    from eqcrl.statistics import final_score

    score = final_score(records, metric, last)
    if score is None:
        raise UsageError(f"The run {path} has not recorded {metric!r}.", mend="Leave it out, or choose another metric.")
    return score


def _depth(scored: list[Any], path: Path, metric: str, over: str | None) -> list[str]:
    from eqcrl import plots

    (axis,) = _axes("depth", over)
    panels = plots.along(scored, (axis,))
    lines = {
        name: {label: {x: scores for (x,), scores in points.items()} for label, points in groups.items()}
        for name, groups in panels.items()
    }
    name, limits = plots.metric_name(metric), plots.metric_limits(metric)
    if len(lines) == 1:
        ((title, only),) = lines.items()
        plots.score_against(only, path, xlabel=axis, ylabel=name, title=title, mark=True, ylim=limits)
    else:
        plots.score_panels(lines, path, xlabel=axis, ylabel=name, mark=True, ylim=limits)
    return [
        f"{env}, {label}, {axis}={x:g}: {_interval(scores)}"
        for env, groups in lines.items()
        for label, points in groups.items()
        for x, scores in points.items()
    ]


def _bars(scored: list[Any], path: Path, metric: str, over: str | None) -> list[str]:
    from eqcrl import plots

    panels = plots.panels(scored)
    plots.score_bars(panels, path, ylabel=plots.metric_name(metric))
    return [
        f"{env}, {label}: {_interval(scores)}" for env, groups in panels.items() for label, scores in groups.items()
    ]


def _profiles(scored: list[Any], path: Path, metric: str, over: str | None) -> list[str]:
    import numpy as np

    from eqcrl import plots
    from eqcrl.statistics import interval

    panels = plots.panels(scored)
    labels = list(dict.fromkeys(label for groups in panels.values() for label in groups))
    for label in labels:
        missing = [env for env, groups in panels.items() if label not in groups]
        if missing:
            raise UsageError(
                f"Profiles compare over the same environments, and {label!r} has no run in {', '.join(missing)}.",
                mend="Add those runs, or leave out the environment or the others of this configuration.",
            )
    groups = {label: [np.asarray(of_env[label], float) for of_env in panels.values()] for label in labels}
    plots.profiles(groups, path, xlabel=plots.metric_name(metric))
    return [f"{label}, {len(panels)} environments: {interval(tasks).text()}" for label, tasks in groups.items()]


def _heatmap(scored: list[Any], path: Path, metric: str, over: str | None) -> list[str]:
    from eqcrl import plots

    axes = _axes("heatmap", over)
    panels = plots.along(scored, axes)
    if len(panels) > 1:
        raise UsageError(
            f"A heat map is of one environment, and these runs are of {', '.join(panels)}.",
            mend="Draw one for each of them.",
        )
    ((env, groups),) = panels.items()
    if len(groups) > 1:
        raise UsageError(
            f"The runs differ in more than {' and '.join(axes)}, so a cell would mix them: {'; '.join(groups)}.",
            mend="Draw those that differ in the two settings alone.",
        )
    (points,) = groups.values()
    cells: dict[tuple[float | str, float | str], list[float]] = {(a, b): found for (a, b), found in points.items()}
    plots.heat_map(cells, path, xlabel=axes[0], ylabel=axes[1], zlabel=plots.metric_name(metric), title=env)
    return [f"{axes[0]}={a:g}, {axes[1]}={b:g}: {_interval(scores)}" for (a, b), scores in points.items()]


_DRAWERS: dict[str, Callable[..., list[str]]] = {
    "depth": _depth,
    "bars": _bars,
    "profiles": _profiles,
    "heatmap": _heatmap,
}


def _look_into(runs: Sequence[str], kind: str, path: Path, seed: int) -> list[str]:
    """Draw what trained networks hold; returns what is to be said about it."""
    from eqcrl import analysis, plots
    from eqcrl import run as loading
    from eqcrl.cli.console import make_console

    opened = [loading.load(run) for run in runs]
    named = {}
    for label, members in plots.group_runs([(run.config, run) for run in opened]).items():
        several = len(members) > 1
        named |= {f"{label}, seed {run.config.seed}" if several else label: run for run in members}
    looks: dict[str, Any] = {
        "q-map": (analysis.value_map, plots.q_map),
        "embeddings": (analysis.trajectory_embeddings, plots.embeddings),
        "residual-norms": (analysis.block_updates, plots.residual_norms),
    }
    look, draw = looks[kind]
    with make_console().status("Compiling, looking ..."):
        found = {label: look(run, seed=seed) for label, run in named.items()}
    draw(found, path)
    return [f"{label}: {run.directory.path}" for label, run in named.items()]


def _axes(kind: str, over: str | None) -> tuple[str, ...]:
    axes = AXES[kind] if over is None else tuple(key.strip().replace("-", "_") for key in over.split(","))
    wanted = len(AXES[kind])
    if len(axes) != wanted or len(set(axes)) != wanted or not all(axes):
        raise UsageError(
            f"--over {over!r} does not name {'one setting' if wanted == 1 else 'two different settings'}, which a "
            f"{kind} needs.",
            mend=f"For example --over {','.join(AXES[kind])}.",
        )
    return axes


def _interval(scores: Sequence[float]) -> str:
    import numpy as np

    from eqcrl.statistics import interval

    return interval([np.asarray(scores, float)]).text()


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"
