"""Several seeds of one configuration, trained side by side in one program: each has a run directory of its own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
from rich.console import Console

from eqcrl.assemble import System, assemble, complete
from eqcrl.config import Config
from eqcrl.device_memory import device_memory, refuse_beyond
from eqcrl.errors import ConfigError, DivergenceError, UsageError
from eqcrl.lock import claimed
from eqcrl.logbook import Logbook
from eqcrl.plan import make_plan, render_plan
from eqcrl.run import Run, device_text, fit, refuse_changes
from eqcrl.rundir import RunDir, make_header
from eqcrl.seedsdir import SeedsDir, default_folder, seed_range
from eqcrl.signals import LastWords
from eqcrl.trainer import Outcome, Trainer


def fit_seeds(
    config: Config,
    num_seeds: int,
    out: str | Path | None = None,
    *,
    console: Console | None = None,
    argv: Sequence[str] = (),
    max_hours: float | None = None,
    last_words: LastWords | None = None,
) -> list[Run]:
    """Train the seeds `config.seed` to `config.seed + num_seeds - 1` as one program, in `out/seed<k>`.

    Seed k is the run of seed k by itself but for the rounding of floats. A seed that diverges is given up, which its
    `outcome.diverged` says, and the others go on. One seed is what `fit` does, in `out` itself.
    Raises: what `fit` raises, DivergenceError only if there is one seed; ConfigError for a seed beyond 2^32 - 1.
    """
    seeds = seed_range(config.seed, num_seeds)
    if num_seeds == 1:
        return [fit(config, out, console=console, argv=argv, max_hours=max_hours, last_words=last_words)]
    console = console or Console(quiet=True)
    config = complete(config)
    config.validate()
    refuse_rollback(config)
    system = assemble(config)
    folder = SeedsDir(Path(out) if out is not None else default_folder(config, seeds))
    folder.refuse_existing(seeds)
    plan = make_plan(config, system, num_seeds)
    refuse_beyond(config, plan, device_memory())
    console.print(render_plan(config, plan, device_text()))
    directories = folder.create(config, seeds, make_header(config, argv, [str(d) for d in jax.devices()]))
    with _all_claimed(directories):
        logs = [Logbook(config.replace(seed=k), d) for k, d in zip(seeds, directories, strict=True)]
        trainer = Trainer(logs, system, console, max_hours=max_hours, last_words=last_words)
        return _runs(trainer, system, trainer.train())


def resume_seeds(
    path: str | Path,
    changes: Config | None = None,
    *,
    console: Console | None = None,
    argv: Sequence[str] = (),
    max_hours: float | None = None,
    last_words: LastWords | None = None,
) -> list[Run]:
    """Continue all runs in a folder as one program, from the newest checkpoint that all of them have.

    `changes` is as for `resume`, with the seed of the first run. A seed that diverged before stays given up.
    Raises: what `resume` raises; DivergenceError if all of them diverged before.
    """
    console = console or Console(quiet=True)
    folder = SeedsDir.open(path)
    recorded = [complete(config) for config in folder.configs()]
    config = recorded[0] if changes is None else complete(changes)
    refuse_changes(folder.run(recorded[0].seed).path, recorded[0], config)
    config.validate()
    refuse_rollback(config)
    if len(recorded) == 1:
        run = folder.run(config.seed).path
        raise UsageError(f"{folder.path} holds one run only.", mend=f"Continue it: eqcrl train --resume {run}")
    system = assemble(config)
    console.print(render_plan(config, make_plan(config, system, len(recorded)), device_text()))
    configs = [config.replace(seed=other.seed) for other in recorded]
    directories = [folder.run(c.seed) for c in configs]
    with _all_claimed(directories):
        logs = [Logbook(c, d, diverged_before(d)) for c, d in zip(configs, directories, strict=True)]
        going = [log for log in logs if log.diverged is None]
        if not going:
            raise DivergenceError(f"All seeds in {folder.path} diverged.", mend=str(logs[0].diverged))
        for log in logs:
            if log.diverged is not None:
                said = f"Seed {log.config.seed} stays given up: `eqcrl train --resume {log.run.path}` tries it again."
                console.print(said, highlight=False, soft_wrap=True)
        trainer = Trainer(logs, system, console, max_hours=max_hours, last_words=last_words)
        # Nothing of the runs is touched before their checkpoints have been read and believed.
        state = trainer.restore()
        for log, before in zip(logs, recorded, strict=True):
            if log.diverged is None:
                log.run.note_resume(argv)
            if log.config != before:
                log.run.write_config(log.config)
        return _runs(trainer, system, trainer.train(state))


def refuse_rollback(config: Config) -> None:
    """Raises: ConfigError, since runs in one program are always equally far, and one of them cannot go back alone."""
    if config.on_divergence == "rollback":
        raise ConfigError(
            "on_divergence = 'rollback' is for one run: several seeds in one program cannot go back one by one.",
            mend="Take skip or stop, or train the seeds one after another.",
        )


def diverged_before(run: RunDir) -> DivergenceError | None:
    """Why a run was given up, if it was. Raises: RunError."""
    noted = run.header().get("diverged")
    return DivergenceError(str(noted["message"])) if isinstance(noted, dict) and "message" in noted else None


def refuse_given_up(runs: Sequence[Run]) -> None:
    """Raises: DivergenceError if one of several seeds was given up, saying which and why."""
    lost = {run.config.seed: run.outcome.diverged for run in runs if run.outcome and run.outcome.diverged}
    if lost:
        which = ", ".join(map(str, lost))
        told = "\n  ".join(
            f"Seed {seed}: {str(error).replace(chr(10), chr(10) + '  ')}" for seed, error in lost.items()
        )
        raise DivergenceError(f"{len(lost)} of {len(runs)} seeds diverged ({which}); the others are done.", mend=told)


@contextmanager
def _all_claimed(runs: Sequence[RunDir]) -> Iterator[None]:
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(claimed(run.path))
        yield


def _runs(trainer: Trainer, system: System, outcomes: Sequence[Outcome]) -> list[Run]:
    return [Run(log.run, log.config, system, outcome) for log, outcome in zip(trainer.logs, outcomes, strict=True)]
