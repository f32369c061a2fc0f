"""Stopping: handlers come and go, time runs out, and a process that does not listen is ended."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from eqcrl import signals
from eqcrl.signals import stop_on_signal


def test_signal_handlers_are_put_back() -> None:
    before = [signal.getsignal(s) for s in signals.STOP_SIGNALS]
    with stop_on_signal() as stop:
        assert stop() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(s) for s in signals.STOP_SIGNALS] == before


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    seen: list[Any] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stop_on_signal() as stop:
            seen.append((stop(), signal.getsignal(signal.SIGTERM) == before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, True)]


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_each_signal_is_told_apart(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        os.kill(os.getpid(), number)
        assert stop() == number


def test_time_runs_out() -> None:
    with stop_on_signal(max_hours=0.02 / 3600) as stop:
        assert stop() is None
        time.sleep(0.03)
        assert stop() == signals.TIME_UP
    with stop_on_signal(max_hours=1) as stop:
        assert stop() is None


def test_no_thread_and_no_pipe_is_left() -> None:
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    for _ in range(5):
        with stop_on_signal():
            pass
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def deaf(send: str, patience: float) -> tuple[int, str]:
    """A process whose main thread sits in one long call without returning to Python, as in an epoch; its end."""
    code = f"""
    import hashlib, os, signal, threading, time
    from eqcrl import signals
    signals.AFTER_SECOND_SIGNAL_SECONDS = 0.2

    def others():
        time.sleep(0.3)
        for number in {send}:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    threading.Thread(target=others, daemon=True).start()
    with signals.stop_on_signal(last_words=lambda number: os.write(1, b"lost: %d" % number), patience={patience}):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)  # minutes, and one step of the interpreter
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_who_does_not_answer_in_time_is_ended_with_the_code_of_the_signal() -> None:
    assert deaf("[signal.SIGUSR1]", patience=0.3) == (75, f"lost: {signal.SIGUSR1.value}")


def test_a_second_signal_does_not_wait_for_the_epoch() -> None:
    assert deaf("[signal.SIGINT, signal.SIGINT]", patience=60.0) == (130, f"lost: {signal.SIGINT.value}")
