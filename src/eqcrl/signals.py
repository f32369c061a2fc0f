"""When to stop: signals, and a limit on time. A run that takes too long to answer is ended from outside of Python."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# SIGUSR1 is how SLURM warns of the end of a job where it is asked to (`--signal=USR1@300`).
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Stands for the limit on hours among the signals; none is sent.
TIME_UP = signal.SIGALRM
# An epoch may last minutes at depth 1024, and whoever warned us will not wait for ever.
PATIENCE_SECONDS = 240.0
AFTER_SECOND_SIGNAL_SECONDS = 5.0
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75, TIME_UP: 75}

Stop = Callable[[], int | None]
LastWords = Callable[[int], None]


@contextmanager
def stop_on_signal(
    max_hours: float | None = None, last_words: LastWords | None = None, patience: float = PATIENCE_SECONDS
) -> Iterator[Stop]:
    """Within the block, Ctrl-C, SIGTERM and SIGUSR1 ask for a stop; a second one interrupts the host.

    Yields a function that returns the signal that came, TIME_UP after `max_hours`, or None. If the block has not ended
    `patience` seconds after SIGTERM or SIGUSR1, or 5 seconds after a second signal, `last_words` is called on another
    thread and the process ends there with the exit code of the signal, whatever the main thread is doing. Outside of
    the main thread signals are left to whoever owns it.
    """
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    came: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    def stop() -> int | None:
        if came:
            return came[0]
        return TIME_UP if deadline is not None and time.monotonic() >= deadline else None

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {s: signal.signal(s, handle) for s in STOP_SIGNALS}
    try:
        with _watched(last_words, patience):
            yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def unwinding() -> Iterator[None]:
    """Within the block SIGTERM ends the process as an exception does, so that no half-written file stays.

    For what has nothing to save, and is not long in a single call. Raises: SystemExit, with the code of the signal.
    """

    def handle(number: int, frame: Any) -> None:
        raise SystemExit(EXIT_CODES[signal.SIGTERM])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _watched(last_words: LastWords | None, patience: float) -> Iterator[None]:
    """A thread that hears of signals while the main thread computes and hears nothing.

    Python runs handlers between two steps of the main thread, and an epoch is one step; the number of a signal is
    written into this pipe at once.
    """
    heard, spoken = os.pipe()
    os.set_blocking(spoken, False)
    before = signal.set_wakeup_fd(spoken, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(heard, last_words, patience), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(spoken, bytes([0]))  # no signal has this number
        watcher.join()
        os.close(heard)
        os.close(spoken)


def _watch(heard: int, last_words: LastWords | None, patience: float) -> None:
    first, ends = 0, float("inf")
    while True:
        left = max(ends - time.monotonic(), 0.0)
        ready, _, _ = select.select([heard], [], [], None if left == float("inf") else left)
        if not ready:
            break
        for number in os.read(heard, 64):
            if number == 0:
                return
            if number not in STOP_SIGNALS:
                continue
            if first:
                ends = min(ends, time.monotonic() + AFTER_SECOND_SIGNAL_SECONDS)
            elif number != signal.SIGINT:  # who sits at the keyboard can press again
                ends = time.monotonic() + patience
            first = first or number
    with contextlib.suppress(Exception):
        if last_words is not None:
            last_words(first)
    os._exit(EXIT_CODES[signal.Signals(first)])
