"""Checkpoints that do not hold training up: what changed is copied to the host, and a thread writes it."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import numpy as np

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.logbook import Logbook
from eqcrl.parallel import ONE, Placement
from eqcrl.replay import Replay
from eqcrl.types import Transition

Places = Sequence[tuple[int, Logbook]]
Rows = Callable[[Replay, Any], Transition]


class Saver:
    """Writes the checkpoints of one run, or of several that are trained side by side, one at a time.

    The next epoch overwrites the state on the device, so a checkpoint begins with a copy on the host; of the replay
    only the rows that are new since the last one are copied, into a mirror of it that is kept on the host.
    """

    def __init__(self, rows: Rows, alone: bool, keep_replay: bool, unroll_length: int, placement: Placement = ONE):
        self.rows = rows
        self.alone = alone
        self.keep_replay = keep_replay
        self.unroll_length = unroll_length
        self.placement = placement
        """Of several processes all take part in copying, and one writes."""
        self.held_up_seconds = 0.0
        """How long training waited for checkpoints so far."""
        self._mirror: Any = None
        self._mirrored = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(
        self, state: ep.TrainState, places: Places, *, best: Places = (), at: int = 0, keep_policies: bool = False
    ) -> None:
        """Write the networks of the runs in `best`, after `at` unrolls, as their best, then a checkpoint of `places`.

        Of both there is one copy, and what is not to be kept is removed. Returns once the state may change.
        Raises: CheckpointError if what was to be written before could not be.
        """
        best = best if self.placement.writes else ()
        if not places and not best:
            return
        began = time.monotonic()
        self.wait()  # the thread reads the mirror
        whole = self._on_host(state) if places else None
        agent = self._copied(state.agent) if whole is None else whole.agent
        places = places if self.placement.writes else ()
        # Noted now: when the thread gets to it, a better one may have been seen.
        scored = [(place, log, log.best) for place, log in best]

        def write() -> None:
            for place, log, score in scored:
                log.save_policy(checkpoint.BEST, at, self._of(place, agent), score=score)
            if whole is not None:
                self._write(whole, places, keep_policies)

        self._writing = self._thread.submit(write)
        self.held_up_seconds += time.monotonic() - began

    def check(self) -> None:
        """Waits for nothing. Raises: CheckpointError if a checkpoint could not be written."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until all is written. Raises: CheckpointError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def wait_at_the_end(self) -> None:
        """As `wait`, and counted: nothing goes on meanwhile. Raises: CheckpointError."""
        began = time.monotonic()
        self.wait()
        self.held_up_seconds += time.monotonic() - began

    def forget(self) -> None:
        """The state was exchanged for another one: nothing of the mirror holds."""
        self._mirrored = 0

    def close(self) -> None:
        """Until the thread has ended, whatever became of its work."""
        self._thread.shutdown(wait=True)

    def _write(self, host: ep.TrainState, places: Places, keep_policies: bool) -> None:
        for place, log in places:
            state = self._of(place, host)
            log.save(state)
            if keep_policies:
                log.save_policy(checkpoint.KEPT, int(state.unrolls), state.agent)
        # Not before all are written: killed in between, the runs still share the checkpoint before.
        for _, log in places:
            log.prune()

    def _on_host(self, state: ep.TrainState) -> ep.TrainState:
        """All of it as NumPy arrays in memory of their own; for a replay that is not kept, zeros."""
        host = self._copied(eqx.tree_at(lambda s: s.replay.data, state, None))
        if self._mirror is None:
            # Pages of zeros take no memory before they are written.
            self._mirror = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state.replay.data)
        if self.keep_replay:
            self._bring_up_to_date(state.replay, int(np.max(host.replay.inserted)))
        return eqx.tree_at(lambda s: s.replay.data, host, self._mirror, is_leaf=lambda x: x is None)

    def _bring_up_to_date(self, replay: Replay, inserted: int) -> None:
        """Copy the rows of each unroll since the mirror was right."""
        capacity = jax.tree.leaves(self._mirror)[0].shape[0 if self.alone else 1]
        since = max(self._mirrored, inserted - capacity)
        # Row by row the mirror becomes what the ring is, so a block may begin before `since`.
        for start in range(inserted - self.unroll_length, since - self.unroll_length, -self.unroll_length):
            index = np.arange(start, start + self.unroll_length) % capacity
            place = index if self.alone else (slice(None), index)
            new = self.placement.fetch(self.rows(replay, self.placement.put(np.int32(start))))
            if not self.placement.writes:
                continue
            for ring, rows in zip(jax.tree.leaves(self._mirror), jax.tree.leaves(new), strict=True):
                ring[place] = rows
        self._mirrored = inserted

    def _copied(self, tree: Any) -> Any:
        """On the host, in memory of its own: on a CPU JAX gives out views of buffers, which the next epoch reuses."""
        found = self.placement.fetch(checkpoint.plain(tree))
        return jax.tree.map(np.array, found) if jax.default_backend() == "cpu" else found

    def _of(self, place: int, tree: Any) -> Any:
        return tree if self.alone else jax.tree.map(lambda leaf: leaf[place], tree)
