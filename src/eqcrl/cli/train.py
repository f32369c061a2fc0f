"""`eqcrl train`: train an agent, or continue a run."""

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from eqcrl.cli.options import SettingsCommand, given, merged_config, train_options
from eqcrl.errors import UsageError
from eqcrl.seedsdir import seed_range, seeds_in

if TYPE_CHECKING:
    from rich.console import Console

    from eqcrl.config import Config
    from eqcrl.run import Run

STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 75}


@click.command(cls=SettingsCommand, options_for=train_options)
@click.option("--preset", metavar="NAME", help="Settings to start from: `eqcrl list preset`  (default: quickstart)")
@click.option("--config", "file", metavar="FILE", help="TOML file over the preset; flags go over both.")
@click.option("--out", metavar="DIR", help="New run directory.  (default: one under runs/)")
@click.option(
    "--resume", metavar="RUN", help="Continue the run, or the seeds, in this directory from the newest checkpoint."
)
@click.option(
    "--num-seeds",
    metavar="N",
    type=click.IntRange(min=1),
    help="Train the seeds seed to seed + N - 1 side by side in one program, each in DIR/seed<k>.  (default: 1)",
)
@click.option("--dry-run", is_flag=True, help="Print the configuration, the plan and the time it would take, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def train(
    ctx: click.Context,
    preset: str | None,
    file: str | None,
    out: str | None,
    resume: str | None,
    num_seeds: int | None,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Train an agent, or continue a run.

    With no options: contrastive RL on point-u-maze, minutes on two cores. Settings are those of a preset, then of
    a TOML file, then of the flags below. The run directory receives config.toml, header.json, metrics.jsonl,
    checkpoints, figures and a video. Ctrl-C stops after the current epoch and saves; --resume goes on.

    \b
    Examples:
      eqcrl train --arch resnet-64 --seed 1
      eqcrl train --env point-maze --env.layout my_maze.txt
      eqcrl train --preset paper --env point-big-maze --dry-run
      eqcrl train --num-seeds 5 --out runs/five
      eqcrl train --resume runs/20260101-120000_point-u-maze_resnet-8_seed0
    """
    config, origins = merged_config(ctx, {"preset": preset, "config": file, "resume": resume})
    config.validate()
    if resume is not None and out is not None:
        raise UsageError(
            "--out and --resume exclude each other: a run continues in its own directory.", mend="Leave out --out."
        )
    seeds = _seeds_there(resume, num_seeds) if resume is not None else len(seed_range(config.seed, num_seeds or 1))
    # JAX is imported only now, when names and plain values are known to be right.
    from eqcrl import run as runs
    from eqcrl import seeds as several
    from eqcrl.assemble import complete
    from eqcrl.cli.console import make_console

    config = complete(config, origins)
    console = make_console(quiet=quiet)
    if dry_run:
        _dry_run(config, seeds, console)
        return 0
    how: dict[str, Any] = {"console": console, "argv": sys.argv}
    if resume is None:
        done = several.fit_seeds(config, seeds, out, **how)
    elif seeds == 1:
        done = [runs.resume(resume, config if given(ctx) else None, **how)]
    else:
        done = several.resume_seeds(resume, config if given(ctx) else None, **how)
    return _finish(done, console)


def _seeds_there(path: str, asked: int | None) -> int:
    """How many runs are continued. Raises: UsageError if another number was asked for."""
    there = max(len(seeds_in(path)), 1)
    if asked is not None and asked != there:
        what = "one run" if there == 1 else f"the runs of {there} seeds"
        raise UsageError(
            f"--num-seeds {asked} and --resume exclude each other here: {path} holds {what}.",
            mend="Leave out --num-seeds; further seeds are new runs: --seed, --num-seeds and --out.",
        )
    return there


def _dry_run(config: "Config", seeds: int, console: "Console") -> None:
    """Print what would be done, and how long it would take. Raises: ConfigError if the memory is not enough."""
    from eqcrl.assemble import assemble
    from eqcrl.device_memory import device_memory, refuse_beyond
    from eqcrl.estimate import estimate, estimate_text
    from eqcrl.plan import make_plan, render_plan
    from eqcrl.run import device_text

    system = assemble(config)
    plan = make_plan(config, system, seeds)
    console.print(config.to_toml(), highlight=False, markup=False)
    console.print(render_plan(config, plan, device_text()))
    refuse_beyond(config, plan, device_memory())
    with console.status("Timing a few steps ..."):
        took = estimate(config, system, seeds)
    console.print(estimate_text(config, plan, took, system.algorithm.env.env.episode_length), highlight=False)


def _finish(runs: Sequence["Run"], console: "Console") -> int:
    """Pictures, summary, where everything is; the exit code. Raises: DivergenceError if a seed was given up."""
    from eqcrl import artifacts
    from eqcrl.progress import seeds_table, summary_table
    from eqcrl.seeds import refuse_given_up

    outcome, home = runs[0].outcome, runs[0].directory.path
    assert outcome is not None
    for run in runs:
        if run.outcome is not None and run.outcome.diverged is None:
            artifacts.leave(run, console)
    compile_seconds = sum(outcome.compile_seconds.values())
    if len(runs) > 1:
        home = home.parent
        console.print(seeds_table({r.config.seed: (r.metrics or [None])[-1] for r in runs}, compile_seconds))
    elif runs[0].metrics:
        console.print(summary_table(runs[0].metrics, compile_seconds))
    console.print(f"Everything is in {home}", highlight=False, soft_wrap=True)
    if outcome.stopped_by is not None:
        console.print(
            f"Stopped by {signal.Signals(outcome.stopped_by).name}; everything is saved. Continue with\n"
            f"  eqcrl train --resume {home}",
            highlight=False,
        )
        return STOPPED[signal.Signals(outcome.stopped_by)]
    refuse_given_up(runs)
    return 0
