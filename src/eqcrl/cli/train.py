"""`eqcrl train`: train an agent, or continue a run."""

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from eqcrl.cli.options import SettingsCommand, given, merged_config, train_options
from eqcrl.errors import UsageError
from eqcrl.seedsdir import seed_range, seeds_in
from eqcrl.trackers.choose import complete_trackers

if TYPE_CHECKING:
    from rich.console import Console

    from eqcrl.config import Config
    from eqcrl.parallel import Devices
    from eqcrl.run import Run


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
@click.option(
    "--max-hours",
    metavar="H",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many hours of this process, save, and exit with 75.  (default: no limit)",
)
@click.option(
    "--devices",
    metavar="N|all",
    help="Divide environments, replay and batch over so many devices; the numbers stay those of one.  (default: 1)",
)
@click.option(
    "--coordinator",
    metavar="HOST:PORT|auto",
    help="Train with other processes, each on its devices: where process 0 is; auto: as the job of SLURM says.",
)
@click.option("--num-processes", metavar="N", type=click.IntRange(min=2), help="How many, beside --coordinator.")
@click.option("--process-id", metavar="I", type=click.IntRange(min=0), help="Which of them this is, from 0 on.")
@click.option("--no-checkpoint-replay", is_flag=True, help="Short for --checkpoint.replay false.")
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
    max_hours: float | None,
    devices: str | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    no_checkpoint_replay: bool,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Train an agent, or continue a run.

    With no options: contrastive RL on point-u-maze, minutes on two cores. Settings are those of a preset, then of
    a TOML file, then of the flags below. The run directory receives config.toml, header.json, metrics.jsonl,
    checkpoints, figures and a video. Ctrl-C, SIGTERM and SIGUSR1 stop after the current epoch and save; --resume goes
    on. Exit codes: 0 done, 1 failed, 2 refused, 75 stopped and to be continued, 130 stopped by Ctrl-C.

    \b
    Examples:
      eqcrl train --arch resnet-64 --seed 1
      eqcrl train --env point-maze --env.layout my_maze.txt
      eqcrl train --preset paper --env point-big-maze --dry-run
      eqcrl train --num-seeds 5 --out runs/five
      eqcrl train --devices all --env humanoid
      eqcrl train --resume runs/20260101-120000_point-u-maze_resnet-8_seed0
    """
    if no_checkpoint_replay:
        given(ctx).setdefault("checkpoint.replay", "false")
    config, origins = merged_config(ctx, {"preset": preset, "config": file, "resume": resume})
    config.validate()
    if resume is not None and out is not None:
        raise UsageError(
            "--out and --resume exclude each other: a run continues in its own directory.", mend="Leave out --out."
        )
    seeds = _seeds_there(resume, num_seeds) if resume is not None else len(seed_range(config.seed, num_seeds or 1))
    used = _devices(devices, coordinator, num_processes, process_id, seeds)
    # JAX is imported only now, when names and plain values are known to be right.
    if coordinator is not None:
        from eqcrl.distributed import described, together

        ctx.with_resource(together(described(coordinator, num_processes, process_id)))
    from eqcrl import run as runs
    from eqcrl import seeds as several
    from eqcrl.assemble import complete
    from eqcrl.cli.console import make_console

    config = complete_trackers(complete(config, origins), origins)
    leads = coordinator is None or _leads()
    console = make_console(quiet=quiet or not leads)
    if dry_run:
        _dry_run(config, seeds, used, console)
        return 0
    how: dict[str, Any] = {"console": console, "argv": sys.argv, "max_hours": max_hours, "last_words": _last_words}
    if seeds > 1:
        goes_on = config if given(ctx) else None
        done = several.resume_seeds(resume, goes_on, **how) if resume else several.fit_seeds(config, seeds, out, **how)
    elif resume is None:
        done = [runs.fit(config, out, devices=used, **how)]
    else:
        done = [runs.resume(resume, config if given(ctx) else None, devices=used, **how)]
    return _finish(done, console) if leads else _exit_code(done[0])


def _devices(
    devices: str | None, coordinator: str | None, num_processes: int | None, process_id: int | None, seeds: int
) -> "Devices":
    """How many devices are asked for. Raises: UsageError for what is no number, or does not go together."""
    if coordinator is None and (num_processes is not None or process_id is not None):
        raise UsageError(
            "--num-processes and --process-id say nothing without --coordinator.",
            mend="Add --coordinator HOST:PORT, the host of process 0 and a free port there.",
        )
    if seeds > 1 and (coordinator is not None or devices not in (None, "1")):
        raise UsageError(
            f"{seeds} seeds side by side train on one device, not on several.",
            mend="Train them one by one on several devices, or leave out --devices and --coordinator.",
        )
    if coordinator is not None and devices not in (None, "all"):
        raise UsageError(
            f"--devices {devices} and --coordinator exclude each other: several processes train on all they have.",
            mend="Show each process fewer devices, as by CUDA_VISIBLE_DEVICES.",
        )
    if devices == "all" or coordinator is not None:
        return "all"
    if devices is not None and not (devices.isdecimal() and int(devices) > 0):
        raise UsageError(f"--devices {devices} is neither a number nor `all`.", mend="Say --devices 4, or all.")
    return int(devices or 1)


def _leads() -> bool:
    """Whether this is the process that writes. JAX knows, once the processes have come together."""
    import jax

    return jax.process_index() == 0


def _exit_code(run: "Run") -> int:
    """Of a process that leaves talking to the first one."""
    from eqcrl.signals import EXIT_CODES

    stopped_by = None if run.outcome is None else run.outcome.stopped_by
    return 0 if stopped_by is None else EXIT_CODES[signal.Signals(stopped_by)]


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


def _dry_run(config: "Config", seeds: int, devices: "Devices", console: "Console") -> None:
    """Print what would be done, and how long it would take.

    Raises: ConfigError if the memory is not enough, or the devices do not fit.
    """
    from eqcrl.assemble import assemble
    from eqcrl.device_memory import device_memory, refuse_beyond
    from eqcrl.estimate import estimate, estimate_text
    from eqcrl.parallel import check, place
    from eqcrl.plan import make_plan, render_plan
    from eqcrl.run import device_text

    placement = place(devices)
    system = assemble(config)
    check(config, system, placement)
    plan = make_plan(config, system, seeds, placement.devices)
    console.print(config.to_toml(), highlight=False, markup=False)
    console.print(render_plan(config, plan, device_text(placement)))
    refuse_beyond(config, plan, device_memory())
    if placement.devices > 1:
        console.print("How long it would take is only estimated for one device.", highlight=False)
        return
    with console.status("Timing a few steps ..."):
        took = estimate(config, system, seeds)
    console.print(estimate_text(config, plan, took, system.algorithm.env.env.episode_length), highlight=False)


def _finish(runs: Sequence["Run"], console: "Console") -> int:
    """Pictures, summary, where everything is; the exit code. Raises: DivergenceError if a seed was given up."""
    from eqcrl import artifacts
    from eqcrl.progress import human_seconds, seeds_table, summary_table
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
    console.print(f"Checkpoints held training up for {human_seconds(outcome.saving_seconds)}.", highlight=False)
    if outcome.stopped_by is not None:
        from eqcrl.signals import EXIT_CODES

        console.print(
            f"Stopped by {_name(outcome.stopped_by)}; everything is saved. Continue with\n"
            f"  eqcrl train --resume {home}",
            highlight=False,
        )
        _requeue(outcome.stopped_by)
        return EXIT_CODES[signal.Signals(outcome.stopped_by)]
    refuse_given_up(runs)
    return 0


def _name(stopped_by: int) -> str:
    from eqcrl.signals import TIME_UP

    return "--max-hours" if stopped_by == TIME_UP else signal.Signals(stopped_by).name


def _requeue(stopped_by: int) -> None:
    """Under SLURM, ask for the job to be started again, unless it was cancelled."""
    from eqcrl.signals import TIME_UP

    # `scancel` sends SIGTERM, and so does preemption, after which SLURM requeues by itself where it is set up to.
    if stopped_by in (signal.SIGUSR1, TIME_UP):
        from eqcrl.requeue import requeue

        if requeue():
            click.echo("SLURM starts the job again.", err=True)


def _last_words(stopped_by: int) -> None:
    """What is said when the process ends in the middle of an epoch, on another thread than the one that computes."""
    click.echo(
        f"Stopped by {_name(stopped_by)} in the middle of an epoch that took too long to wait for. What was learned "
        "since the last checkpoint is lost; `eqcrl train --resume` goes on from it.",
        err=True,
    )
    _requeue(stopped_by)
