"""The loop around the compiled epoch: evaluate, record, save, stop when asked."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import System, complete
from eqcrl.config import RESUMABLE, Config, difference
from eqcrl.errors import CheckpointError, DivergenceError, EqcrlError
from eqcrl.evaluate import Episodes
from eqcrl.plan import state_shapes
from eqcrl.programs import Programs, compile_programs
from eqcrl.progress import Reporter, human_seconds
from eqcrl.recorded import recorded_config
from eqcrl.rundir import RunDir
from eqcrl.types import Metrics

# Streams of randomness that do not depend on how far training is or how often it was interrupted.
INIT_STREAM, EVAL_STREAM = 0, 1

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stream(seed: int, which: int, step: int = 0) -> Any:
    """The random key of a purpose, and within it of a step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), which), step)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Within the block, Ctrl-C and SIGTERM ask for a stop after the current epoch; a second one interrupts the host.

    Yields a function that returns the signal that came, or None.
    """
    came: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    try:
        previous = {s: signal.signal(s, handle) for s in STOP_SIGNALS}
    except ValueError:  # not the main thread: whoever owns it decides about signals
        previous = {}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Outcome:
    """How a training run ended."""

    def __init__(self, episodes: Episodes | None, stopped_by: int | None, compile_seconds: Mapping[str, float]):
        self.episodes = episodes
        """The last evaluation, step by step; None if the run was stopped before one in this process."""
        self.stopped_by = stopped_by
        """The signal that stopped the run, or None if it ran to its end."""
        self.compile_seconds = compile_seconds


class Trainer:
    """One run in one directory, from its newest checkpoint if it has one."""

    def __init__(self, config: Config, system: System, run: RunDir, console: Console):
        self.config = config
        self.system = system
        self.run = run
        self.console = console
        self.prefill = config.prefill_epochs()
        self.total = self.prefill + config.num_epochs()
        self.started = time.monotonic()
        self.wall_before = 0.0

    def wall_seconds(self) -> float:
        """Wall time of the run, that of earlier processes included."""
        return self.wall_before + time.monotonic() - self.started

    def restore(self) -> ep.TrainState | None:
        """The state of the newest checkpoint, or None if the run has none.

        Raises: CheckpointError if it is damaged, or was made under another configuration.
        """
        if not checkpoint.numbers(self.run.checkpoints):
            # A run killed before its first checkpoint begins anew, and so do its records.
            self.run.forget_metrics_after(0)
            return None
        path = checkpoint.latest(self.run.checkpoints)
        manifest = checkpoint.read_manifest(path)
        try:
            made_with = complete(recorded_config(manifest["config"], f"{path}/manifest.json"))
            self.wall_before = float(manifest["wall_seconds"])
        except (EqcrlError, KeyError, TypeError, ValueError) as error:
            raise checkpoint.damaged(path, f"its manifest.json is no longer what was written ({error})") from None
        differ = difference(made_with, self.config, RESUMABLE)
        if differ:
            rows = "; ".join(f"{k} was {a!r}, is {b!r}" for k, (a, b) in differ.items())
            raise CheckpointError(
                f"The checkpoint {path} was made under another configuration: {rows}.",
                mend="Restore these values in config.toml, or start a new run.",
            )
        state = checkpoint.load(path, state_shapes(self.system))
        self.run.forget_metrics_after(self.env_steps(int(state.unrolls)))
        return state

    def env_steps(self, unrolls: int) -> int:
        """Environment steps after so many unrolls."""
        return unrolls * self.config.env_steps_per_epoch()

    def grad_steps(self, unrolls: int) -> int:
        """Gradient steps after so many unrolls."""
        return max(unrolls - self.prefill, 0) * self.config.train.updates_per_epoch

    def train(self, state: ep.TrainState | None = None) -> Outcome:
        """Run from `state` (from the beginning if None) to the end, or to the first stop signal.

        Either way the last state is saved. Raises: CheckpointError, RunError, DivergenceError.
        """
        with stop_on_signal() as stop:
            with self.console.status("Tracing and compiling ..."):
                programs = compile_programs(self.system)
            took = programs.compile_seconds
            self.console.print(
                f"Compiled in {human_seconds(sum(took.values()))} (training epoch {human_seconds(took['epoch'])}).",
                highlight=False,
            )
            if state is None:
                state = programs.init(stream(self.config.seed, INIT_STREAM))
            done = int(state.unrolls)
            if done > 0:
                self.console.print(f"Continuing at {self.env_steps(done):,} environment steps.", highlight=False)
            past = (self.total - self.prefill, max(done - self.prefill, 0), int(state.env.broken))
            with Reporter(self.console, *past) as reporter:
                return self._loop(state, programs, reporter, stop)

    def _loop(
        self, state: ep.TrainState, programs: Programs, reporter: Reporter, stop: Callable[[], int | None]
    ) -> Outcome:
        unrolls = int(state.unrolls)
        while unrolls < self.prefill and not stop():
            state = programs.collect(state)
            unrolls += 1
        jax.block_until_ready(state.unrolls)
        reporter.learning_starts()
        episodes: Episodes | None = None
        pending: tuple[int, Metrics] | None = None
        since, at = unrolls, time.monotonic()
        saved = (checkpoint.numbers(self.run.checkpoints) or [-1])[-1]
        while unrolls < self.total and not stop():
            state, metrics = programs.epoch(state)
            unrolls += 1
            # The epoch just sent off runs while the host looks at the one before: nothing waits.
            if pending is not None:
                self._settle(*pending, reporter)
            pending = (unrolls, metrics)
            evaluation, between = divmod(unrolls - self.prefill, self.config.eval.every)
            if between and unrolls < self.total:
                continue
            self._settle(*pending, reporter)
            pending = None
            elapsed, at = time.monotonic() - at, time.monotonic()
            rates = self._rates(unrolls - since, elapsed)
            since = unrolls
            scores, episodes = programs.evaluate(state.agent, stream(self.config.seed, EVAL_STREAM, unrolls))
            record = self._record(unrolls, metrics, scores, rates)
            self.run.append_metrics(record)
            reporter.evaluated(record)
            if evaluation % self.config.checkpoint.every == 0 and unrolls < self.total:
                self._save(state, programs)
                saved = unrolls
            at = time.monotonic()
        if pending is not None:
            self._settle(*pending, reporter)
        if saved != unrolls:
            self._save(state, programs)
        return Outcome(episodes, stop() if unrolls < self.total else None, programs.compile_seconds)

    def _settle(self, unrolls: int, metrics: Metrics, reporter: Reporter) -> None:
        """Wait for an epoch, and refuse to go on from one that is not finite."""
        bad = sorted(f"train/{name}" for name, value in metrics.items() if not np.isfinite(value))
        if bad:
            raise self._diverged(", ".join(bad), unrolls)
        reporter.epoch_done(unrolls - self.prefill)

    def _diverged(self, what: str, unrolls: int) -> DivergenceError:
        kept = checkpoint.numbers(self.run.checkpoints)
        where = f"the checkpoint at {self.env_steps(kept[-1]):,} environment steps" if kept else "no checkpoint yet"
        return DivergenceError(
            f"Training diverged: not finite after the epoch that ended at {self.env_steps(unrolls):,} environment "
            f"steps, {self.grad_steps(unrolls):,} gradient steps: {what}.",
            mend="Lower the step sizes (--agent.actor-rate, --agent.critic-rate), or check that the environment's "
            f"observations are finite and of order 1. Kept: the metrics until then, and {where}.",
        )

    def _rates(self, epochs: int, seconds: float) -> dict[str, float]:
        return {
            "train/env_steps_per_second": epochs * self.config.env_steps_per_epoch() / seconds,
            "train/grad_steps_per_second": epochs * self.config.train.updates_per_epoch / seconds,
        }

    def _record(self, unrolls: int, metrics: Metrics, scores: Metrics, rates: Mapping[str, float]) -> dict[str, float]:
        return {
            "env_steps": self.env_steps(unrolls),
            "grad_steps": self.grad_steps(unrolls),
            "wall_seconds": self.wall_seconds(),
            **{f"train/{k}": float(v) for k, v in metrics.items()},
            **rates,
            **{f"eval/{k}": float(v) for k, v in scores.items()},
        }

    def _save(self, state: ep.TrainState, programs: Programs) -> None:
        """Write a checkpoint, unless the networks went bad in the very last step, which no loss has seen yet."""
        leaves = jax.tree_util.tree_leaves_with_path(programs.finite(state.agent))
        bad = [jax.tree_util.keystr(path) for path, finite in leaves if not finite]
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise self._diverged(f"the agent's {bad[0].lstrip('.')}{more}", int(state.unrolls))
        extra = {"config": self.config.to_toml(), "wall_seconds": self.wall_seconds()}
        checkpoint.save(self.run.checkpoints, state, extra)
        checkpoint.prune(self.run.checkpoints, self.config.checkpoint.keep)
