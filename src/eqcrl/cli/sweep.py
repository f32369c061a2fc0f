"""`eqcrl sweep`: search settings, on this machine or on a cluster; look at it, stop it, go on."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eqcrl.cli.options import SettingOption, SettingsCommand, given, peek
from eqcrl.errors import EqcrlError, UsageError, did_you_mean
from eqcrl.jobs.keys import given_sets
from eqcrl.launchers.find import launcher_settings
from eqcrl.sweeps.folder import SweepFolder
from eqcrl.sweeps.source import LOCAL, Source
from eqcrl.sweeps.spec import Sweep

if TYPE_CHECKING:
    from rich.console import Console

    from eqcrl.sweeps.standing import Standing

DEFAULT = "sweeps"
PREFIX = "launcher."


class SweepGroup(click.Group):
    """`eqcrl sweep FILE.toml` is short for `eqcrl sweep run FILE.toml`: commands have no dot in their names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the `run` in where it was left out."""
        flag_first = bool(args) and args[0].startswith("-") and args[0] not in ("-h", "--help")
        if flag_first or (args and args[0].endswith(".toml")):
            args = ["run", *args]
        return click.Group.parse_args(self, ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name. Raises: UsageError with the nearest ones, for a path what to do with it."""
        found = click.Group.get_command(self, ctx, cmd_name)
        if found is None:
            hint = did_you_mean(cmd_name, self.commands)
            if Path(cmd_name, "sweep.toml").is_file():
                hint = f"To go on with the sweep in it: eqcrl sweep resume {cmd_name}"
            raise UsageError(
                f"eqcrl sweep {cmd_name}: neither a file that ends in .toml nor a command of `eqcrl sweep`.", mend=hint
            )
        return found


def launcher_options(args: Sequence[str]) -> list[SettingOption]:
    """The options of the launcher that the arguments amount to."""
    name, written = _launcher_of(args)
    options = []
    for key, setting in launcher_settings(name).items():
        default = written.get(key, setting.default)
        options.append(SettingOption(PREFIX + key, setting, default, f"launcher: {name}"))
        if key == "jobs":
            options.append(SettingOption(key, setting, default, "Options", short_for=[PREFIX + key]))
    return options


def _launcher_of(args: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Its name, and what the file says of it."""
    asked = peek(args, ["launcher"]).get("launcher")
    files = [Path(a) if a.endswith(".toml") else Path(a, "sweep.toml") for a in args if not a.startswith("-")]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return asked or LOCAL, {}
    source = Source(file)
    name = asked or source.launcher()
    return name, source.spec.launcher if name == source.launcher() else {}


@click.group(cls=SweepGroup)
def sweep() -> None:
    """Search settings: try many, and see which scores best.

    `eqcrl sweep FILE.toml` runs the sweep that a small TOML file describes. A sweep searches settings; to answer a
    question with figures and intervals there is `eqcrl study`.

    \b
    Examples:
      eqcrl sweep rates.toml --out sweeps/rates
      eqcrl sweep rates.toml --launcher slurm --launcher.partition gpu --launcher.time 480
      eqcrl sweep status sweeps/rates --watch
      eqcrl sweep stop sweeps/rates
      eqcrl sweep resume sweeps/rates
    """


_launcher = click.option("--launcher", metavar="NAME", help="local, slurm or another one: `eqcrl list launcher`.")
_retry = click.option("--retry", is_flag=True, help="Try the runs again that died.")
_detach = click.option("--detach", is_flag=True, help="Submit everything to the cluster, and do not wait for it.")
_trials = click.option("--trials", type=int, metavar="N", help="Settings to try, instead of those of the file.")
_dir = click.argument("folder", metavar="DIR")


@sweep.command("run", cls=SettingsCommand, options_for=launcher_options)
@click.argument("file", metavar="FILE.toml")
@click.option("--out", metavar="DIR", help="Sweep folder, new or of the same sweep.  (default: sweeps/NAME)")
@_trials
@click.option("--seeds", type=int, metavar="N", help="Seeds 0..N-1 for each setting, instead of those of the file.")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of all runs; may be given several times."
)
@_launcher
@_retry
@_detach
@click.option("--dry-run", is_flag=True, help="Check everything, print what would be started, and stop.")
@click.pass_context
def run(
    ctx: click.Context,
    file: str,
    out: str | None,
    trials: int | None,
    seeds: int | None,
    sets: tuple[str, ...],
    launcher: str | None,
    retry: bool,
    detach: bool,
    dry_run: bool,
) -> int:
    """Run what is not done yet of a sweep; `run` may be left out.

    What is done is left alone, what was stopped continues, and a run that dies is written down while the rest goes on.
    Ctrl-C, SIGTERM and `eqcrl sweep stop` stop all runs gently; the same command goes on later, as does
    `eqcrl sweep resume DIR`.
    """
    source = Source(Path(file).expanduser())
    asked = source.sweep(
        trials=trials,
        seeds=seeds,
        overrides=given_sets(sets),
        launcher=launcher,
        launcher_settings=_given_settings(ctx),
    )
    return _go(asked, SweepFolder(out or Path(DEFAULT) / asked.name), retry=retry, detach=detach, dry_run=dry_run)


@sweep.command(cls=SettingsCommand, options_for=launcher_options)
@_dir
@_trials
@_launcher
@_retry
@_detach
@click.pass_context
def resume(ctx: click.Context, folder: str, trials: int | None, launcher: str | None, retry: bool, detach: bool) -> int:
    """Go on with the sweep in a folder, with more trials or another launcher if they are given."""
    at = SweepFolder(folder)
    before = at.sweep()
    if trials is not None and trials < before.trials:
        raise UsageError(f"--trials {trials}: the sweep has {before.trials} already.", mend="Give a larger number.")
    asked = Source(at.sweep_file).sweep(trials=trials, launcher=launcher, launcher_settings=_given_settings(ctx))
    return _go(asked, at, retry=retry, detach=detach, dry_run=False)


def _given_settings(ctx: click.Context) -> dict[str, str]:
    return {key.removeprefix(PREFIX): value for key, value in given(ctx).items() if key.startswith(PREFIX)}


def _go(asked: Sweep, folder: SweepFolder, *, retry: bool, detach: bool, dry_run: bool) -> int:
    from eqcrl.cli.console import make_console
    from eqcrl.sweeps import begin
    from eqcrl.sweeps.outside import look_from_outside

    launcher = begin.check(asked, folder, detach=detach)
    console = make_console()
    if begin.settled(asked, folder, retry=retry):
        console.print("Nothing is left to do.")
        return _end(console, folder, look_from_outside(folder), None)
    with console.status("Checking the settings ...") as status:

        def heard(count: int, of: int) -> None:
            status.update(f"Checking the settings ... {count} of {of}")

        sized = begin.measure(asked, heard)
    if dry_run:
        _print_commands(console, asked, folder)
        return 0
    result = begin.run_sweep(folder, asked, launcher, sized, console, retry=retry, detach=detach)
    if result.detached:
        jobs = len(folder.jobs())
        console.print(
            f"{jobs} jobs are the cluster's now; `eqcrl sweep status {folder.path}` shows them.", soft_wrap=True
        )
        return 0
    return _end(console, folder, result.standing, result.stopped_by)


def _print_commands(console: "Console", asked: Sweep, folder: SweepFolder) -> None:
    import shlex

    from eqcrl.sweeps.begin import first_trials

    shown = first_trials(asked, folder)
    for seed in asked.seeds:
        for trial in shown:
            out = folder.run(trial.name(), seed)
            words = ["eqcrl", "train", *trial.setting.flags(), "--seed", str(seed), "--out", str(out)]
            console.print(shlex.join(words), highlight=False, markup=False, soft_wrap=True)
    rest = asked.trials - len(shown)
    more = f", and {rest} settings that Optuna will choose" if rest else ""
    console.print(f"{len(shown)} settings, {len(asked.seeds)} of each{more}; launcher {asked.launcher}.")


def _end(console: "Console", folder: SweepFolder, standing: "Standing", stopped_by: int | None) -> int:
    """Where it stands, what died, the best setting and how to go on; the exit code."""
    import shlex
    import signal

    from eqcrl.jobs.processes import EXIT_CODES
    from eqcrl.sweeps.screen import picture, score_text, setting_text, troubles

    console.print(picture(standing))
    died = troubles(standing)
    if died is not None:
        console.print(died)
        _say(
            console, f"In full: {folder.path / 'failed'}. `eqcrl sweep resume {folder.path} --retry` tries them again."
        )
    best = standing.best()
    if best is not None:
        trial = next(t for t in folder.trials() if t.name() == best.name)
        score = score_text(best.score())
        _say(console, f"Best: {best.name}, {standing.sweep.metric} {score}, {setting_text(best.values)}")
        _say(console, "  " + shlex.join(["eqcrl", "train", *trial.setting.flags()]))
    _say(console, f"Everything is in {folder.path}")
    if stopped_by is not None:
        _say(console, f"Stopped; go on with `eqcrl sweep resume {folder.path}`.")
        return EXIT_CODES[signal.Signals(stopped_by)]
    counts = standing.counts()
    return 0 if counts.keys() <= {"done"} else 1


def _say(console: "Console", text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@sweep.command()
@_dir
@click.option("--watch", is_flag=True, help="Show it again and again, until everything has ended or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(folder: str, watch: bool, as_json: bool) -> None:
    """Show where a sweep stands: state, progress, score and time left of every setting, the best first."""
    from eqcrl.cli.console import make_console
    from eqcrl.jobs.runs import is_written
    from eqcrl.sweeps.outside import look_from_outside
    from eqcrl.sweeps.screen import picture, troubles
    from eqcrl.sweeps.standing import as_json as plain

    if watch and as_json:
        raise UsageError("--watch and --json exclude each other.", mend="Call it with --json as often as you like.")
    at = SweepFolder(folder)
    standing = look_from_outside(at)
    if as_json:
        click.echo(json.dumps(plain(standing, is_written(at.path)), indent=2))
        return
    console = make_console()
    if watch:
        standing = _watch(console, at)
    console.print(picture(standing))
    died = troubles(standing)
    if died is not None:
        console.print(died)


WATCH_SECONDS = 2.0


def _watch(console: "Console", at: SweepFolder) -> "Standing":
    """A live table until nobody runs the sweep any more; without a terminal nothing but the end."""
    from rich.live import Live

    from eqcrl.jobs.runs import is_written
    from eqcrl.sweeps.outside import look_from_outside
    from eqcrl.sweeps.screen import picture

    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            standing = look_from_outside(at)
            if console.is_terminal:
                live.update(picture(standing, max(console.height - 3, 5)), refresh=True)
            if not is_written(at.path) and not {"running", "waiting"} & standing.counts().keys():
                return standing
            time.sleep(WATCH_SECONDS)


@sweep.command()
@_dir
def stop(folder: str) -> None:
    """Stop a sweep gently, wherever it runs: its runs save, and `eqcrl sweep resume` goes on later."""
    from eqcrl.sweeps import outside

    at = SweepFolder(folder)
    cancelled = outside.stop(at)
    if cancelled == 0:
        click.echo(f"The sweep {folder} is not running.")
        return
    if cancelled is not None:
        click.echo(f"{cancelled} jobs are asked to save and stop.")
        return
    click.echo(f"The sweep {folder} is asked to stop; its runs save first.")
    while outside.is_busy(at):
        time.sleep(0.5)
    click.echo(f"Stopped; go on with `eqcrl sweep resume {folder}`.")


@sweep.command("list")
@click.argument("folder", metavar="[DIR]", default=DEFAULT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sweeps(folder: str, as_json: bool) -> None:
    """List the sweeps in a folder: how far each is, and its best score."""
    from eqcrl.cli.console import make_console
    from eqcrl.jobs.runs import is_written
    from eqcrl.sweeps.outside import look_from_outside
    from eqcrl.sweeps.standing import as_json as plain

    here = Path(folder)
    if not here.is_dir():
        raise UsageError(f"There is no folder {here}.", mend="Give the folder that holds sweeps.")
    found = sorted(p.parent for p in [*here.glob("sweep.toml"), *here.glob("*/sweep.toml")])
    rows: list[dict[str, Any]] = []
    for path in found:
        try:
            row = plain(look_from_outside(SweepFolder(path)), is_written(path))
        except EqcrlError as error:  # the others are listed all the same
            row = {"error": error.message}
        rows.append({"folder": str(path)} | row)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from eqcrl.sweeps.screen import counts_text, score_text

    table = Table(box=None, header_style="bold")
    for column in ("folder", "method", "settings", "runs", "", "metric", "best"):
        table.add_column(column, overflow="fold")
    for row in rows:
        if "error" in row:
            table.add_row(row["folder"], Text(f"broken: {row['error']}"))
            continue
        best = next((s["score"] for s in row["settings"] if s["trial"] == row["best"]), None)
        busy = "running" if row["running"] else ""
        runs = counts_text(row["runs"])
        table.add_row(row["folder"], row["method"], str(row["trials"]), runs, busy, row["metric"], score_text(best))
    make_console().print(table)
