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
from eqcrl.envs.base import AbstractEnv, spec_of
from eqcrl.errors import ConfigError
from eqcrl.evaluate import Episodes, Record
from eqcrl.lock import claimed
from eqcrl.logbook import Logbook
from eqcrl.plan import make_plan, render_plan, state_shapes
from eqcrl.programs import compiler_options, evaluation
from eqcrl.rundir import RunDir, default_path, make_header
from eqcrl.trainer import EVAL_STREAM, Outcome, Trainer, stream


class Run:
    """A run directory with its parts; the newest checkpoint is read when first needed."""

    def __init__(self, directory: RunDir, config: Config, system: System, outcome: Outcome | None = None):
        self.directory = directory
        self.config = config
        self.system = system
        self.outcome = outcome

    @cached_property
    def agent_state(self) -> Any:
        """What the agent learned, from the newest checkpoint. Raises: CheckpointError."""
        path = checkpoint.latest(self.directory.checkpoints)
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


def load(path: str | Path) -> Run:
    """Open the run in a directory. Raises: UsageError, RunError, ConfigError, PluginError."""
    directory = RunDir.open(path)
    config = complete(directory.config())
    return Run(directory, config, assemble(config))


def device_text() -> str:
    """What JAX computes on, for people."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def fit(
    config: Config, out: str | Path | None = None, *, console: Console | None = None, argv: Sequence[str] = ()
) -> Run:
    """Train in a new run directory `out` (by default under `runs/`), and return the run.

    Prints a plan, progress and nothing else to `console`; silent if None.
    Raises: ConfigError, PluginError, UsageError, RunError, CheckpointError, DivergenceError.
    """
    console = console or Console(quiet=True)
    config = complete(config)
    config.validate()
    system = assemble(config)
    path = Path(out) if out is not None else default_path(config)
    RunDir(path).refuse_existing()
    plan = make_plan(config, system)
    refuse_beyond(config, plan, device_memory())
    console.print(render_plan(config, plan, device_text()))
    header = make_header(config, argv, [str(d) for d in jax.devices()])
    directory = RunDir.create(path, config, header)
    with claimed(directory.path):
        (outcome,) = Trainer([Logbook(config, directory)], system, console).train()
        return Run(directory, config, system, outcome)


def resume(
    path: str | Path, changes: Config | None = None, *, console: Console | None = None, argv: Sequence[str] = ()
) -> Run:
    """Continue the run in a directory from its newest checkpoint, to its end or a new one.

    `changes` is the configuration to continue with; it may differ only in how long to train and how often to
    evaluate and save. Raises: ConfigError naming what else differs, and all that `fit` raises.
    """
    console = console or Console(quiet=True)
    directory = RunDir.open(path)
    recorded = complete(directory.config())
    config = recorded if changes is None else complete(changes)
    refuse_changes(directory.path, recorded, config)
    config.validate()
    system = assemble(config)
    # Not refused for its estimated memory: it has run before, and its sizes cannot change.
    console.print(render_plan(config, make_plan(config, system), device_text()))
    trainer = Trainer([Logbook(config, directory)], system, console)
    with claimed(directory.path):
        # Nothing of the run is touched before its checkpoint has been read and believed.
        state = trainer.restore()
        directory.note_resume(argv)
        if config != recorded:
            directory.write_config(config)
        (outcome,) = trainer.train(state)
        return Run(directory, config, system, outcome)


def refuse_changes(path: Path, recorded: Config, asked: Config) -> None:
    """Raises: ConfigError if the run that was recorded at this path cannot continue with what is asked for."""
    differ = difference(recorded, asked, RESUMABLE)
    if differ:
        rows = "; ".join(f"{k} is {a!r} there, {b!r} was asked for" for k, (a, b) in differ.items())
        raise ConfigError(
            f"The run {path} cannot continue with another configuration: {rows}.",
            mend=f"Only {', '.join(RESUMABLE)} may change; start a new run for the rest.",
        )
