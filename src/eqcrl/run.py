"""A finished or interrupted run, opened to be used: its metrics, its policy, new evaluations."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

from eqcrl import checkpoint, compile_cache
from eqcrl.assemble import System, assemble, build_env, complete
from eqcrl.config import RESUMABLE, Config, Part, difference
from eqcrl.device_memory import device_memory, refuse_beyond
from eqcrl.distributed import books
from eqcrl.envs.base import AbstractEnv, spec_of
from eqcrl.errors import ConfigError
from eqcrl.evaluate import Episodes, Record
from eqcrl.lock import claimed
from eqcrl.logbook import Logbook
from eqcrl.parallel import Devices, Placement, check, place
from eqcrl.plan import make_plan, render_plan, state_shapes
from eqcrl.programs import compiler_options, evaluation
from eqcrl.rundir import RunDir, default_path, make_header
from eqcrl.signals import LastWords
from eqcrl.trainer import EVAL_STREAM, Outcome, Trainer, stream


class Run:
    """A run directory with its parts; the newest checkpoint is read when first needed."""

    def __init__(
        self, directory: RunDir, config: Config, system: System, outcome: Outcome | None = None, which: str = "last"
    ):
        self.directory = directory
        self.config = config
        self.system = system
        self.outcome = outcome
        self.which = which
        """The policy that is used: `last`, `best`, or that after a number of unrolls."""

    @cached_property
    def agent_state(self) -> Any:
        """What the agent learned, by default from the newest checkpoint. Raises: CheckpointError."""
        path = checkpoint.policy_path(self.directory.checkpoints, self.which)
        return checkpoint.load_agent(path, state_shapes(self.system))

    @cached_property
    def _act(self) -> Any:
        return jax.jit(self.system.algorithm.agent.act_deterministic)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One record per evaluation. Raises: RunError."""
        return self.directory.metrics()

    def policy(
        self,
        observation: Float[Array | np.ndarray, "*batch observation"],
        goal: Float[Array | np.ndarray, "*batch goal"],
    ) -> Float[Array, "*batch action"]:
        """The deterministic action in [-1, 1] for one observation and goal, or for a batch of them.

        Of an agent that decides on several actions at once, the first of them.
        Raises: ValueError if the sizes are not those of the environment that the run was trained on.
        """
        spec = spec_of(self.system.algorithm.env.env)
        observation, goal = jnp.asarray(observation), jnp.asarray(goal)
        if observation.shape[-1:] != (spec.observation_size,) or goal.shape[-1:] != (spec.goal_size,):
            raise ValueError(
                f"the policy takes observations of {spec.observation_size} and goals of {spec.goal_size} numbers, "
                f"not shapes {observation.shape} and {goal.shape}"
            )
        rows = self._act(
            self.agent_state, observation.reshape(-1, spec.observation_size), goal.reshape(-1, spec.goal_size)
        )
        return rows[:, : spec.action_size].reshape(*observation.shape[:-1], spec.action_size)

    def eval_env(self, env: Part | None = None, *, training_starts: bool = False) -> AbstractEnv:
        """Where to evaluate: as the run did, or in another environment, by its evaluation's starts and goals.

        `training_starts` takes the environment itself instead of the evaluation that belongs to it.
        Raises: ConfigError if it has other sizes than the environment that the run was trained on; PluginError.
        """
        if env is None:
            return self.system.algorithm.env.env if training_starts else self.system.eval_env
        other = build_env(env)
        other = other if training_starts else other.evaluation()
        trained, asked = spec_of(self.system.algorithm.env.env), spec_of(other)
        if trained != asked:
            raise ConfigError(
                f"The run cannot act in {env.name!r}: it was trained on {self.config.env.name!r} with {trained}, "
                f"and that one has {asked}.",
                mend="Choose an environment of the same sizes.",
            )
        return other

    def evaluate(
        self,
        *,
        env: Part | None = None,
        episodes: int | None = None,
        deterministic: bool = True,
        seed: int = 0,
        training_starts: bool = False,
        record: Record | None = None,
    ) -> tuple[dict[str, float], Episodes]:
        """Fresh episodes of the trained policy: scores by the names of metrics.jsonl, and what happened.

        `record` picks from each state what `Episodes.record` keeps.
        Raises: what `eval_env` raises; CheckpointError.
        """
        compile_cache.turn_on()
        acted_in = self.eval_env(env, training_starts=training_starts)
        system = System(self.system.algorithm, acted_in, self.system.eval_episodes)
        function = evaluation(system, deterministic=deterministic, episodes=episodes, record=record)
        program = jax.jit(function, compiler_options=compiler_options(system))
        scores, ran = program(self.agent_state, stream(seed, EVAL_STREAM))
        return {f"eval/{k}": float(v) for k, v in scores.items()}, ran


def load(path: str | Path, checkpoint: str = "last") -> Run:
    """Open the run in a directory, with its newest policy, the `best` one, or that after so many unrolls.

    Raises: UsageError, RunError, ConfigError, PluginError.
    """
    directory = RunDir.open(path)
    config = complete(directory.config())
    return Run(directory, config, assemble(config), which=checkpoint)


def device_text(placement: Placement | None = None) -> str:
    """What JAX computes on, for people; with a placement, how much of it."""
    devices = jax.devices()
    text = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    if placement is None or placement.devices == 1:
        return text
    processes = f" in {placement.processes} processes" if placement.processes > 1 else ""
    return f"{text}; environments, replay and batch over {placement.devices} of them{processes}"


def fit(
    config: Config,
    out: str | Path | None = None,
    *,
    console: Console | None = None,
    argv: Sequence[str] = (),
    max_hours: float | None = None,
    last_words: LastWords | None = None,
    devices: Devices = 1,
) -> Run:
    """Train in a new run directory `out` (by default under `runs/`), and return the run.

    Prints a plan, progress and nothing else to `console`; silent if None. It stops and saves after `max_hours`, and on
    signals as `signals.stop_on_signal` says. `devices` is how many to train on, or "all".
    Raises: ConfigError, PluginError, UsageError, RunError, CheckpointError, DivergenceError.
    """
    console = console or Console(quiet=True)
    config = complete(config)
    config.validate()
    placement = place(devices)
    system = assemble(config)
    check(config, system, placement)
    home = RunDir(Path(out) if out is not None else default_path(config))
    if placement.writes:
        home.refuse_existing()
    plan = make_plan(config, system, devices=placement.devices)
    refuse_beyond(config, plan, device_memory())
    console.print(render_plan(config, plan, device_text(placement)))
    header = make_header(config, argv, [str(d) for d in jax.devices()])
    with books(home, placement.writes) as kept:
        directory = RunDir.create(kept.path, config, header)
        with claimed(directory.path):
            logs = [Logbook(_told(config, placement), directory)]
            how = {"max_hours": max_hours, "last_words": last_words, "placement": placement}
            (outcome,) = Trainer(logs, system, console, **how).train()
    return Run(home, config, system, outcome)


def resume(
    path: str | Path,
    changes: Config | None = None,
    *,
    console: Console | None = None,
    argv: Sequence[str] = (),
    max_hours: float | None = None,
    last_words: LastWords | None = None,
    devices: Devices = 1,
) -> Run:
    """Continue the run in a directory from its newest checkpoint, to its end or a new one.

    `changes` is the configuration to continue with; it may differ only in what `RESUMABLE` names: how long to train,
    how often to evaluate and save, what to do about divergence. `max_hours`, `last_words` and `devices` are as for
    `fit`; a run may continue on another number of devices.
    Raises: ConfigError naming what else differs, and all that `fit` raises.
    """
    console = console or Console(quiet=True)
    directory = RunDir.open(path)
    recorded = complete(directory.config())
    config = recorded if changes is None else complete(changes)
    refuse_changes(directory.path, recorded, config)
    config.validate()
    placement = place(devices)
    system = assemble(config)
    check(config, system, placement)
    # Not refused for its estimated memory: it has run before, and its sizes cannot change.
    plan = make_plan(config, system, devices=placement.devices)
    console.print(render_plan(config, plan, device_text(placement)))
    with books(directory, placement.writes, goes_on=True) as kept:
        how = {"max_hours": max_hours, "last_words": last_words, "placement": placement}
        trainer = Trainer([Logbook(_told(config, placement), kept)], system, console, **how)
        with claimed(kept.path):
            # Nothing of the run is touched before its checkpoint has been read and believed.
            state = trainer.restore()
            kept.note_resume(argv)
            if config != recorded:
                kept.write_config(config)
            (outcome,) = trainer.train(state)
    return Run(directory, config, system, outcome)


def _told(config: Config, placement: Placement) -> Config:
    """The configuration for the books of this process: one of several tells trackers."""
    return config if placement.writes else config.replace(trackers=())


def refuse_changes(path: Path, recorded: Config, asked: Config) -> None:
    """Raises: ConfigError if the run that was recorded at this path cannot continue with what is asked for."""
    differ = difference(recorded, asked, RESUMABLE)
    if differ:
        rows = "; ".join(f"{k} is {a!r} there, {b!r} was asked for" for k, (a, b) in differ.items())
        raise ConfigError(
            f"The run {path} cannot continue with another configuration: {rows}.",
            mend=f"Only {', '.join(RESUMABLE)} may change; start a new run for the rest.",
        )
