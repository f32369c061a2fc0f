"""`eqcrl study`: list, plan, run and report comparisons of many runs."""

import json
import os
from pathlib import Path
from typing import Any

import click

from eqcrl.errors import EqcrlError, UsageError
from eqcrl.jobs.keys import given_sets
from eqcrl.jobs.setting import Setting
from eqcrl.studies.folder import StudyFolder, open_study
from eqcrl.studies.grid import chosen, expand
from eqcrl.studies.source import Source, each_study, find_study
from eqcrl.studies.spec import SCALES, Study

_name = click.argument("name", metavar="NAME")
_scale = click.option("--scale", metavar="SCALE", help=f"{', '.join(SCALES)}; by default the smallest that it has.")
_seeds = click.option("--seeds", type=int, metavar="N", help="Seeds 0..N-1 instead of those of the study.")
_only = click.option(
    "--only", multiple=True, metavar="AXIS=VALUE", help="Only this value of an axis; may be given several times."
)
_set = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of all runs; may be given several times."
)


@click.group()
def study() -> None:
    """List, plan, run and report studies: comparisons of many runs, described by a small TOML file.

    NAME is an installed study (`eqcrl study list`) or the path of a .toml file.

    \b
    Examples:
      eqcrl study plan depth --scale laptop
      eqcrl study run depth --scale laptop --out studies/depth
      eqcrl study report studies/depth
    """


@study.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_studies(as_json: bool) -> None:
    """List the installed studies, with the number of runs at each scale."""
    rows = [_row(entry, found) for entry, found in each_study()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    from eqcrl.cli.console import make_console

    table = Table(box=None, header_style="bold")
    for column in ("study", "question", *SCALES, "from"):
        table.add_column(column, justify="right" if column in SCALES else "left", overflow="fold")
    for row in rows:
        counts = (str(row["runs"][scale]) if scale in row["runs"] else "-" for scale in SCALES)
        table.add_row(row["name"], row["question"] or f"broken: {row['error']}", *counts, row["origin"])
    make_console().print(table)


def _row(entry: Any, found: Source | EqcrlError) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "title": "", "question": "", "runs": {}, "error": None}
    row["origin"] = f"{entry.distribution} {entry.version}"
    if isinstance(found, EqcrlError):
        return row | {"error": found.message}
    row |= {"title": found.spec.title, "question": found.spec.question or found.spec.title}
    for scale in found.scales():
        try:
            at = found.study(scale)
        except EqcrlError as error:
            return row | {"question": "", "error": error.message}
        count = len(at.seeds)
        for choices in at.axes.values():
            count *= len(choices)
        row["runs"][scale] = count
    return row


@study.command()
@_name
@_scale
@_seeds
@_only
@_set
@click.option("--no-timing", is_flag=True, help="Do not time any steps.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Runs side by side.  (default: what fits)")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    name: str,
    scale: str | None,
    seeds: int | None,
    only: tuple[str, ...],
    sets: tuple[str, ...],
    no_timing: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Show every run of a study, with the time and memory that it is expected to take on this machine.

    A few steps of each setting are timed, on as many cores as a run would have; compiling comes on top.
    """
    from eqcrl.cli.console import make_console
    from eqcrl.jobs.machine import cores
    from eqcrl.jobs.sizes import measure
    from eqcrl.studies.plans import plan_json, print_plan

    at, settings = _asked(name, scale, seeds, only, sets)
    console = make_console()
    share = max(len(cores()) // (jobs or len(cores())), 1)
    with console.status("Looking at the device ...") as status:

        def heard(count: int) -> None:
            doing = "Looking at" if no_timing else "Timing"
            status.update(f"{doing} setting {min(count + 1, len(settings))} of {len(settings)} ...")

        machine, sized = measure(at, settings, timing=not no_timing, on=cores()[:share], heard=heard)
    if as_json:
        click.echo(json.dumps(plan_json(at, settings, machine, sized, jobs), indent=2))
    else:
        print_plan(console, at, settings, machine, sized, jobs)


@study.command()
@_name
@_scale
@_seeds
@_only
@_set
@click.option("--out", metavar="DIR", help="Study folder, new or of the same study.  (default: studies/NAME-SCALE)")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Runs side by side.  (default: what fits)")
@click.option(
    "--vmap-seeds",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="All seeds of a setting as one program; auto: on an accelerator.",
)
@click.option("--retry", is_flag=True, help="Try the runs again that died.")
@click.option("--dry-run", is_flag=True, help="Print what would be started, and stop.")
def run(
    name: str,
    scale: str | None,
    seeds: int | None,
    only: tuple[str, ...],
    sets: tuple[str, ...],
    out: str | None,
    jobs: int | None,
    vmap_seeds: Any,
    retry: bool,
    dry_run: bool,
) -> int:
    """Run what is not done yet of a study, as many runs side by side as fit.

    What is done is left alone, what was stopped continues, and a run that dies is written down while the rest goes on.
    Ctrl-C and SIGTERM stop all runs gently; the same command goes on later.
    """
    from eqcrl.cli.console import make_console
    from eqcrl.jobs.sizes import measure
    from eqcrl.studies.plans import print_commands, print_end
    from eqcrl.studies.running import run_study, settled
    from eqcrl.studies.screen import Screen

    at, settings = _asked(name, scale, seeds, only, sets)
    folder = StudyFolder(out or default_folder(at))
    folder.refuse_foreign(at)
    console = make_console()
    ended = settled(folder, at, settings, retry=retry)
    if ended is not None:
        console.print("Nothing is left to do.")
        return print_end(console, folder, ended)
    folder.refuse_busy()
    with console.status("Checking every setting ...") as status:

        def heard(count: int) -> None:
            status.update(f"Checking every setting ... {count} of {len(settings)}")

        machine, sized = measure(at, settings, heard=heard)
    if dry_run:
        print_commands(console, folder, at, settings, machine, sized, vmap_seeds, retry)
        return 0
    screen = Screen(console, at.metric)
    result = run_study(
        folder,
        at,
        settings,
        machine,
        sized,
        jobs=jobs,
        vmap_seeds=vmap_seeds,
        retry=retry,
        screen=screen,
        environment=dict(os.environ),
    )
    return print_end(console, folder, result)


def default_folder(at: Study) -> Path:
    """`studies/NAME-SCALE`."""
    return Path("studies") / (f"{at.name}-{at.scale}" if at.scale else at.name)


def _asked(
    name: str, scale: str | None, seeds: int | None, only: tuple[str, ...], sets: tuple[str, ...]
) -> tuple[Study, list[Setting]]:
    at = find_study(name).study(scale, seeds=seeds, overrides=given_sets(sets))
    settings = expand(at)
    return at, chosen(settings, only) if only else settings


@study.command()
@click.argument("name", metavar="NAME|DIR")
@_scale
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON, and make nothing.")
@click.option("--no-html", is_flag=True, help="Figures and tables only, no report.html.")
def report(name: str, scale: str | None, as_json: bool, no_html: bool) -> None:
    """Show what a study found so far: tables here, figures and report.html in its folder.

    NAME looks in the default folder of that study, studies/NAME-SCALE. Runs that are missing or died are told, and the
    rest is reported.
    """
    path = _folder_of(name, scale)
    opened = open_study(path)
    from eqcrl.cli.console import make_console
    from eqcrl.studies.figures import draw
    from eqcrl.studies.tables import as_json as plain
    from eqcrl.studies.tables import print_result

    if as_json:
        click.echo(json.dumps(plain(opened), indent=2))
        return
    console = make_console()
    print_result(console, opened)
    folder = StudyFolder(path)
    problems: list[str] = []
    with console.status("Drawing ..."):
        drawn = draw(opened, folder.figures, problems)
    for problem in problems:
        console.print(f"Not drawn: {problem}", highlight=False, markup=False)
    for _, file in drawn:
        console.print(str(file), highlight=False, soft_wrap=True)
    if not no_html:
        from eqcrl.report.write import write_report

        with console.status("Writing the report ..."):
            write_report([path], folder.report)
        console.print(str(folder.report), highlight=False, soft_wrap=True)


def _folder_of(name: str, scale: str | None) -> Path:
    """The study folder at a path, or the default one of a study."""
    if Path(name, "study.toml").is_file():
        return Path(name)
    if Path(name).is_dir():
        raise UsageError(f"{name} is no study folder: it has no study.toml.", mend="Give what `eqcrl study run` made.")
    path = default_folder(find_study(name).study(scale))
    if not (path / "study.toml").is_file():
        raise UsageError(
            f"There is no study folder {path}.", mend=f"Give the folder, or run it first: `eqcrl study run {name}`."
        )
    return path
