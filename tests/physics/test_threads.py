"""Enough threads for MJX on a small CPU, while there is time to ask for them."""

import os
import subprocess
import sys

import pytest

from eqcrl.physics import threads


@pytest.mark.parametrize(("few", "initialized", "there", "expected"), [
    (2, False, None, "8"), (2, True, None, None), (16, False, None, None), (2, False, "3", "3"),
])  # fmt: skip
def test_a_small_machine_gets_enough_threads_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch, few: int, initialized: bool, there: str | None, expected: str | None
):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    if there is not None:
        monkeypatch.setenv(threads.VARIABLE, there)
    monkeypatch.setattr(threads, "cores", lambda: tuple(range(few)))
    monkeypatch.setattr(threads.xla_bridge, "backends_are_initialized", lambda: initialized)
    threads.enough_threads()
    assert os.environ.get(threads.VARIABLE) == expected


def test_the_pool_is_made_after_the_engine_was_chosen():
    """Assembling a task on MJX, as every command does first, does not use JAX's devices yet."""
    program = (
        "import os; from eqcrl.assemble import build_env; from eqcrl.config import Part; "
        "build_env(Part('ant', {'physics': 'mjx'})); import jax; "
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized(), os.environ.get('NPROC'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != threads.VARIABLE}
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert said == ["False", "8" if len(threads.cores()) < 8 else "None"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_cores_are_those_that_the_process_is_bound_to():
    program = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
        "from eqcrl.physics.threads import cores; print(len(cores()))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) == 1
