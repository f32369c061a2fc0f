"""`eqcrl plot`: learning curves of one or many runs."""

from pathlib import Path

import click


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--metric", default="eval/success_any", show_default=True, help="A number of metrics.jsonl.")
@click.option(
    "--x",
    "axis",
    type=click.Choice(["env_steps", "grad_steps", "wall_seconds"]),
    default="env_steps",
    show_default=True,
    help="What to draw it against.",
)
@click.option("--out", metavar="FILE", default="curves.png", show_default=True, help="PNG, PDF or SVG file.")
def plot(runs: tuple[str, ...], metric: str, axis: str, out: str) -> None:
    """Draw a metric of one or many runs.

    Runs whose configurations differ only in the seed become one curve: their mean, with a 95% bootstrap interval
    over seeds.
    """
    from eqcrl import plots
    from eqcrl.rundir import RunDir

    opened = [RunDir.open(run) for run in runs]
    groups = plots.group_runs([(r.config(), r.metrics()) for r in opened])
    plots.compare(groups, metric, Path(out), x=axis)
    for name, members in groups.items():
        click.echo(f"{name}: {len(members)} seed{'s' if len(members) != 1 else ''}")
    click.echo(out)
