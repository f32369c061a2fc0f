"""`eqcrl train`: train an agent, or continue a run."""

import signal
import sys

import click

from eqcrl.cli.options import SettingsCommand, given, merged_config, train_options

STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 75}


@click.command(cls=SettingsCommand, options_for=train_options)
@click.option("--preset", metavar="NAME", help="Settings to start from: `eqcrl list preset`  (default: quickstart)")
@click.option("--config", "file", metavar="FILE", help="TOML file over the preset; flags go over both.")
@click.option("--out", metavar="DIR", help="New run directory.  (default: one under runs/)")
@click.option("--resume", metavar="RUN", help="Continue the run in this directory from its newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Print the configuration, the plan and the time it would take, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def train(
    ctx: click.Context,
    preset: str | None,
    file: str | None,
    out: str | None,
    resume: str | None,
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
      eqcrl train --resume runs/20260101-120000_point-u-maze_resnet-8_seed0
    """
    config, origins = merged_config(ctx, {"preset": preset, "config": file, "resume": resume})
    config.validate()
    # JAX is imported only now, when names and plain values are known to be right.
    from eqcrl import artifacts
    from eqcrl import run as runs
    from eqcrl.assemble import assemble, complete
    from eqcrl.cli.console import make_console
    from eqcrl.device_memory import device_memory, refuse_beyond
    from eqcrl.errors import UsageError
    from eqcrl.estimate import estimate, estimate_text
    from eqcrl.plan import make_plan, render_plan
    from eqcrl.progress import summary_table

    config = complete(config, origins)
    console = make_console(quiet=quiet)
    if dry_run:
        system = assemble(config)
        plan = make_plan(config, system)
        console.print(config.to_toml(), highlight=False, markup=False)
        console.print(render_plan(config, plan, runs.device_text()))
        refuse_beyond(config, plan, device_memory())
        with console.status("Timing a few steps ..."):
            took = estimate(config, system)
        console.print(estimate_text(config, plan, took, system.algorithm.env.env.episode_length), highlight=False)
        return 0
    if resume is not None:
        if out is not None:
            raise UsageError(
                "--out and --resume exclude each other: a run continues in its own directory.", mend="Leave out --out."
            )
        run = runs.resume(resume, config if given(ctx) else None, console=console, argv=sys.argv)
    else:
        run = runs.fit(config, out, console=console, argv=sys.argv)
    assert run.outcome is not None
    artifacts.leave(run, console)
    if run.metrics:
        console.print(summary_table(run.metrics, sum(run.outcome.compile_seconds.values())))
    console.print(f"Everything is in {run.directory.path}", highlight=False, soft_wrap=True)
    if run.outcome.stopped_by is not None:
        console.print(
            f"Stopped by {signal.Signals(run.outcome.stopped_by).name}; everything is saved. Continue with\n"
            f"  eqcrl train --resume {run.directory.path}",
            highlight=False,
        )
        return STOPPED[signal.Signals(run.outcome.stopped_by)]
    return 0
