"""The loop around the compiled epoch: evaluate, record, save, stop when asked."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import System
from eqcrl.errors import CheckpointError, DivergenceError
from eqcrl.evaluate import Episodes
from eqcrl.health import leaf_names
from eqcrl.logbook import Logbook
from eqcrl.parallel import ONE, Placement, refuse_unlike
from eqcrl.plan import state_shapes
from eqcrl.programs import Programs, compile_programs
from eqcrl.progress import Reporter, human_seconds
from eqcrl.saver import Saver
from eqcrl.signals import LastWords, Stop, stop_on_signal
from eqcrl.trackers.feed import finishing

# Streams of randomness that do not depend on how far training is or how often it was interrupted.
INIT_STREAM, EVAL_STREAM = 0, 1


def stream(seed: int, which: int, step: int = 0) -> Any:
    """The random key of a purpose, and within it of a step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), which), step)


# Beyond that, the checkpoint itself leads into divergence.
ROLLBACKS_PER_CHECKPOINT = 3


class Outcome:
    """How the training of a run ended."""

    def __init__(
        self,
        episodes: Episodes | None,
        stopped_by: int | None,
        compile_seconds: Mapping[str, float],
        diverged: DivergenceError | None = None,
        saving_seconds: float = 0.0,
    ):
        self.episodes = episodes
        """The last evaluation, step by step; None if the run was stopped before one in this process."""
        self.stopped_by = stopped_by
        """The signal that stopped the run (`signals.TIME_UP` for the limit on hours), or None if it ran to its end."""
        self.compile_seconds = compile_seconds
        self.diverged = diverged
        """Why the run was given up while others went on; None if it was not."""
        self.saving_seconds = saving_seconds
        """How long training waited for checkpoints, those at the end included."""


class Trainer:
    """One run in one directory, or several that differ in their seeds alone, side by side in one program."""

    def __init__(
        self,
        logs: Sequence[Logbook],
        system: System,
        console: Console,
        *,
        max_hours: float | None = None,
        last_words: LastWords | None = None,
        placement: Placement = ONE,
    ):
        self.logs = logs
        self.system = system
        self.console = console
        self.config = logs[0].config
        self.prefill, self.total = logs[0].prefill, logs[0].total
        self.max_hours, self.last_words = max_hours, last_words
        self.placement = placement
        self.leaves = leaf_names(state_shapes(system).agent)

    def restore(self) -> ep.TrainState | None:
        """The state of the newest checkpoint that every run has, or None if there is none.

        Nothing of any run is changed before all have been read and believed. Raises: CheckpointError if a checkpoint is
        damaged or was made under another configuration, or if some runs are further than the others.
        """
        number = self._common_checkpoint()
        refuse_unlike(number, self.placement)
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
        with stop_on_signal(self.max_hours, self.last_words) as stop:

            def agreed() -> int | None:
                """Whichever process is asked to stop, all of them do."""
                return self.placement.agreed(stop() or 0) or None

            with self.console.status("Tracing and compiling ..."):
                for_what: list[Any] = [] if self._alone() else [len(self.logs)]
                if self.placement is not ONE:
                    for_what = [None, self.placement]
                programs = compile_programs(self.system, *for_what)
            took = programs.compile_seconds
            self.console.print(
                f"Compiled in {human_seconds(sum(took.values()))} (training epoch {human_seconds(took['epoch'])}).",
                highlight=False,
            )
            state = programs.init(self._keys(INIT_STREAM)) if state is None else self.placement.put(state)
            done = _unrolls(state)
            if done > 0:
                self.console.print(
                    f"Continuing at {self.logs[0].env_steps(done):,} environment steps.", highlight=False
                )
                state = self._refilled(state, programs)
            resets = {log.config.seed: int(self._of(place, state.env.broken)) for place, log in self._going()}
            train, keep = self.config.train, self.config.checkpoint.replay
            with (
                finishing([log.tracking for log in self.logs]),
                closing(Saver(programs.rows, self._alone(), keep, train.unroll_length, self.placement)) as saver,
                Reporter(self.console, self.total - self.prefill, max(done - self.prefill, 0), resets) as reporter,
            ):
                unrolls, episodes = self._loop(state, programs, saver, reporter, agreed)
                while (state := self._rolled_back(saver, reporter)) is not None:
                    unrolls, episodes = self._loop(state, programs, saver, reporter, agreed)
                saver.wait_at_the_end()
            stopped_by = agreed() if unrolls < self.total else None
        if self._alone() and self.logs[0].diverged is not None:
            raise self.logs[0].diverged
        return [
            Outcome(
                None if episodes is None else self._of(place, episodes),
                stopped_by,
                took,
                log.diverged,
                saver.held_up_seconds,
            )
            for place, log in enumerate(self.logs)
        ]

    def _loop(
        self, state: ep.TrainState, programs: Programs, saver: Saver, reporter: Reporter, stop: Stop
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
        saved_at = time.monotonic()
        while unrolls < self.total and self._going() and not stop():
            state, metrics = programs.epoch(state)
            unrolls += 1
            # The epoch just sent off runs while the host looks at the one before: nothing waits.
            if pending is not None:
                self._settle(*pending, saver, reporter)
            saver.check()
            pending = (unrolls, metrics)
            evaluation, between = divmod(unrolls - self.prefill, self.config.eval.every)
            evaluates = not between or unrolls >= self.total
            overdue = bool(
                self.placement.agreed(int(time.monotonic() - saved_at > 60 * self.config.checkpoint.minutes))
            )
            if not evaluates and not overdue:
                continue
            self._settle(*pending, saver, reporter)
            pending = None
            if not self._going():
                break
            due = overdue
            best: list[tuple[int, Logbook]] = []
            if evaluates:
                elapsed, at = time.monotonic() - at, time.monotonic()
                rates = self._rates(unrolls - since, elapsed)
                since = unrolls
                scores, episodes = programs.evaluate(state.agent, self._keys(EVAL_STREAM, unrolls))
                found = jax.device_get((metrics, scores))
                self._record(unrolls, found, rates, reporter)
                best = self._best(found[1])
                due = due or evaluation % self.config.checkpoint.every == 0 or unrolls >= self.total
            keep = self._to_be_kept(unrolls)
            saver.save(state, self._going() if due else [], best=best, at=unrolls, keep_policies=keep)
            if due:
                saved, saved_at = unrolls, time.monotonic()
            if evaluates:
                at = time.monotonic()
        if pending is not None:
            self._settle(*pending, saver, reporter)
        if saved != unrolls and self._going():
            saver.save(state, self._going(), keep_policies=self._to_be_kept(unrolls))
        return unrolls, episodes

    def _to_be_kept(self, unrolls: int) -> bool:
        """Whether the policies after so many unrolls are kept for good, which depends on nothing but their number."""
        checkpoint_every = self.config.checkpoint.every * self.config.eval.every
        number, between = divmod(unrolls - self.prefill, checkpoint_every)
        every = self.config.checkpoint.policies
        return every > 0 and number > 0 and not between and number % every == 0

    def _best(self, scores: Any) -> list[tuple[int, Logbook]]:
        """The runs that were never evaluated as well."""
        return [(place, log) for place, log in self._going() if log.is_best(self._of(place, scores))]

    def _refilled(self, state: ep.TrainState, programs: Programs) -> ep.TrainState:
        """The state with something in its replay, where a checkpoint without one was loaded."""
        if int(np.max(state.replay.inserted)) > 0:
            return state
        unrolls, count = np.array(state.unrolls), min(_unrolls(state), self.prefill)
        self.console.print(
            f"The checkpoint has no replay: {self.logs[0].env_steps(count):,} environment steps are taken anew by the "
            "policy that was saved, beyond those that are counted. The run goes on otherwise than if not stopped.",
            highlight=False,
            soft_wrap=True,
        )
        for _ in range(count):
            state = programs.collect(state)
        return eqx.tree_at(lambda s: s.unrolls, state, self.placement.put(jnp.asarray(unrolls)))

    def _rolled_back(self, saver: Saver, reporter: Reporter) -> ep.TrainState | None:
        """The last checkpoint with other random numbers, if the run diverged and is to go on; None if not."""
        (log, *others) = self.logs
        if others or log.diverged is None or self.config.on_divergence != "rollback":
            return None
        saver.wait()
        number = max(log.checkpoints(), default=None)
        if number is None or log.rollbacks_to(number) >= ROLLBACKS_PER_CHECKPOINT:
            return None
        state = log.load(number, state_shapes(self.system))
        reporter.say(f"{log.diverged.message} Going back to {log.env_steps(number):,} environment steps.")
        saver.forget()
        key = jax.random.fold_in(state.key, log.go_on(number))
        return self.placement.put(eqx.tree_at(lambda s: s.key, state, key))

    def _settle(self, unrolls: int, metrics: Mapping[str, Any], saver: Saver, reporter: Reporter) -> None:
        """Wait for an epoch, and go on without the runs that are not finite after it."""
        found = jax.device_get(metrics)
        if not all(np.all(np.isfinite(value)) for value in found.values()) or np.any(found["first_bad_leaf"]):
            saver.wait()  # what was saved will be told
        for place, log in self._going():
            log.check(unrolls, self._of(place, found), self.leaves)
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
        return self.placement.put(keys[0] if self._alone() else jnp.stack(keys))

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
