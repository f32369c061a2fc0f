"""The loop around the compiled epoch: evaluate, record, save, stop when asked."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import System
from eqcrl.errors import CheckpointError, DivergenceError
from eqcrl.evaluate import Episodes
from eqcrl.logbook import Logbook
from eqcrl.plan import state_shapes
from eqcrl.programs import Programs, compile_programs
from eqcrl.progress import Reporter, human_seconds

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
    """How the training of a run ended."""

    def __init__(
        self,
        episodes: Episodes | None,
        stopped_by: int | None,
        compile_seconds: Mapping[str, float],
        diverged: DivergenceError | None = None,
    ):
        self.episodes = episodes
        """The last evaluation, step by step; None if the run was stopped before one in this process."""
        self.stopped_by = stopped_by
        """The signal that stopped the run, or None if it ran to its end."""
        self.compile_seconds = compile_seconds
        self.diverged = diverged
        """Why the run was given up while others went on; None if it was not."""


class Trainer:
    """One run in one directory, or several that differ in their seeds alone, side by side in one program."""

    def __init__(self, logs: Sequence[Logbook], system: System, console: Console):
        self.logs = logs
        self.system = system
        self.console = console
        self.config = logs[0].config
        self.prefill, self.total = logs[0].prefill, logs[0].total

    def restore(self) -> ep.TrainState | None:
        """The state of the newest checkpoint that every run has, or None if there is none.

        Nothing of any run is changed before all have been read and believed. Raises: CheckpointError if a checkpoint is
        damaged or was made under another configuration, or if some runs are further than the others.
        """
        number = self._common_checkpoint()
        state = None
        if number is not None:
            like = state_shapes(self.system)
            # A run that was given up has no such state. Its place is kept, so that the program stays what it was.
            stand_in = next(log for _, log in self._going())
            states = ((stand_in if log.diverged else log).load(number, like) for log in self.logs)
            state = next(states) if self._alone() else checkpoint.stacked(states)
        for _, log in self._going():
            # Runs killed before their first checkpoint begin anew, and so do their records.
            log.go_back_to(-1 if number is None else number)
        return state

    def train(self, state: ep.TrainState | None = None) -> list[Outcome]:
        """Run from `state` (from the beginning if None) to the end, or to the first stop signal; an outcome for each.

        Either way the last state is saved. A run that diverges is given up, and the others go on.
        Raises: CheckpointError, RunError; DivergenceError if it was the only one.
        """
        with stop_on_signal() as stop:
            with self.console.status("Tracing and compiling ..."):
                programs = compile_programs(self.system, *([] if self._alone() else [len(self.logs)]))
            took = programs.compile_seconds
            self.console.print(
                f"Compiled in {human_seconds(sum(took.values()))} (training epoch {human_seconds(took['epoch'])}).",
                highlight=False,
            )
            if state is None:
                state = programs.init(self._keys(INIT_STREAM))
            done = _unrolls(state)
            if done > 0:
                self.console.print(
                    f"Continuing at {self.logs[0].env_steps(done):,} environment steps.", highlight=False
                )
            resets = {log.config.seed: int(self._of(place, state.env.broken)) for place, log in self._going()}
            with Reporter(self.console, self.total - self.prefill, max(done - self.prefill, 0), resets) as reporter:
                unrolls, episodes = self._loop(state, programs, reporter, stop)
            stopped_by = stop() if unrolls < self.total else None
        if self._alone() and self.logs[0].diverged is not None:
            raise self.logs[0].diverged
        return [
            Outcome(None if episodes is None else self._of(place, episodes), stopped_by, took, log.diverged)
            for place, log in enumerate(self.logs)
        ]

    def _loop(
        self, state: ep.TrainState, programs: Programs, reporter: Reporter, stop: Callable[[], int | None]
    ) -> tuple[int, Episodes | None]:
        """The unrolls after which it ended, and the last evaluation."""
        unrolls = _unrolls(state)
        while unrolls < self.prefill and not stop():
            state = programs.collect(state)
            unrolls += 1
        jax.block_until_ready(state.unrolls)
        reporter.learning_starts()
        episodes: Episodes | None = None
        pending: tuple[int, Mapping[str, Any]] | None = None
        since, at = unrolls, time.monotonic()
        saved = max((log.checkpoints()[-1] for _, log in self._going() if log.checkpoints()), default=-1)
        while unrolls < self.total and self._going() and not stop():
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
            if not self._going():
                break
            elapsed, at = time.monotonic() - at, time.monotonic()
            rates = self._rates(unrolls - since, elapsed)
            since = unrolls
            scores, episodes = programs.evaluate(state.agent, self._keys(EVAL_STREAM, unrolls))
            self._record(unrolls, jax.device_get((metrics, scores)), rates, reporter)
            if evaluation % self.config.checkpoint.every == 0 and unrolls < self.total:
                self._save(state, programs, reporter)
                saved = unrolls
            at = time.monotonic()
        if pending is not None:
            self._settle(*pending, reporter)
        if saved != unrolls:
            self._save(state, programs, reporter)
        return unrolls, episodes

    def _settle(self, unrolls: int, metrics: Mapping[str, Any], reporter: Reporter) -> None:
        """Wait for an epoch, and go on without the runs that are not finite after it."""
        found = jax.device_get(metrics)
        for place, log in self._going():
            log.check(unrolls, self._of(place, found))
            self._tell_if_given_up(log, reporter)
        if self._going():
            reporter.epoch_done(unrolls - self.prefill)

    def _record(self, unrolls: int, found: Any, rates: Mapping[str, float], reporter: Reporter) -> None:
        lines: dict[int, dict[str, float]] = {}
        for place, log in self._going():
            metrics, scores = self._of(place, found)
            lines[log.config.seed] = log.record(unrolls, metrics, scores, rates)
        if self._alone():
            reporter.evaluated(lines[self.config.seed], self.config.seed)
        else:
            reporter.evaluated_seeds(lines)

    def _rates(self, epochs: int, seconds: float) -> dict[str, float]:
        return {
            "train/env_steps_per_second": epochs * self.config.env_steps_per_epoch() / seconds,
            "train/grad_steps_per_second": epochs * self.config.train.updates_per_epoch / seconds,
        }

    def _save(self, state: ep.TrainState, programs: Programs, reporter: Reporter) -> None:
        """Write a checkpoint of every run, unless its networks went bad in the very last step."""
        unrolls, finite = _unrolls(state), jax.device_get(programs.finite(state.agent))
        for place, log in self._going():
            log.check_agent(unrolls, self._of(place, finite))
            self._tell_if_given_up(log, reporter)
        for place, log in self._going():
            log.save(state if programs.lane is None else programs.lane(state, np.int32(place)))
        # Not before all are written: killed in between, the runs still share the checkpoint before.
        for _, log in self._going():
            log.prune()

    def _tell_if_given_up(self, log: Logbook, reporter: Reporter) -> None:
        if log.diverged is not None and not self._alone():
            reporter.say(f"Seed {log.config.seed} is given up. {log.diverged}")

    def _alone(self) -> bool:
        return len(self.logs) == 1

    def _going(self) -> list[tuple[int, Logbook]]:
        """The runs that have not diverged, with their places."""
        return [(place, log) for place, log in enumerate(self.logs) if log.diverged is None]

    def _of(self, place: int, tree: Any) -> Any:
        """What belongs to one of the runs."""
        return tree if self._alone() else jax.tree.map(lambda leaf: leaf[place], tree)

    def _keys(self, which: int, step: int = 0) -> Any:
        keys = [stream(log.config.seed, which, step) for log in self.logs]
        return keys[0] if self._alone() else jnp.stack(keys)

    def _common_checkpoint(self) -> int | None:
        """The newest that all runs have. Raises: CheckpointError if one is more than a checkpoint ahead of it."""
        have = {log: log.checkpoints() for _, log in self._going()}
        number = max(set.intersection(*map(set, have.values())), default=None)
        behind = max(number or 0, self.prefill)
        apart = self.config.checkpoint.every * self.config.eval.every
        for log, numbers in have.items():
            if numbers and numbers[-1] > behind + apart:
                last = (
                    "they have no checkpoint in common"
                    if number is None
                    else f"the others at {log.env_steps(number):,}"
                )
                raise CheckpointError(
                    f"The runs cannot go on together: {log.run.path} is at {log.env_steps(numbers[-1]):,} environment "
                    f"steps, {last}.",
                    mend=f"Continue each by itself: eqcrl train --resume {log.run.path}",
                )
        return number


def _unrolls(state: ep.TrainState) -> int:
    """Unrolls collected so far: the same for all seeds."""
    return int(np.max(state.unrolls))
