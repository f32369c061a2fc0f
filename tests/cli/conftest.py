"""Finished runs that the tests of the commands share, and the command line inside this process."""

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eqcrl.cli import main
from helpers import LONG, Terminal, keeping_compiled


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def eqcrl(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in this process: `eqcrl("train", "--out", path)`."""
    monkeypatch.chdir(tmp_path)

    def call(*args: Any) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main.run([str(a) for a in args])
        out, err = capsys.readouterr()
        assert isinstance(done.value.code, int)
        return Result(done.value.code, out, err)

    return call


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session see."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="package", autouse=True)
def compile_once(shared: Path) -> Iterator[None]:
    """Commands inside this process share what they compile with one another and with those of the terminal."""
    with keeping_compiled(shared / "compiled"):
        yield


@pytest.fixture(scope="session")
def terminal(shared: Path) -> Terminal:
    """The command line as a user has it."""
    return Terminal(shared, shared / "compiled")


@pytest.fixture(scope="session")
def finished_of(shared: Path, terminal: Terminal) -> Callable[[int], Path]:
    """seed -> the uninterrupted long run of that seed, made by whichever worker needs it first. Copy before writing."""

    def make(seed: int) -> Path:
        run = shared / f"seed{seed}"
        # One lock for all: the second run finds the programs of the first compiled.
        with (shared / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / f"seed{seed}.out").exists():
                done = terminal.call("train", *LONG_FLAGS, "--seed", seed, "--out", run)
                assert done.returncode == 0, done.stdout + done.stderr
                (shared / f"seed{seed}.out").write_text(done.stdout)
        return run

    return make


LONG_FLAGS = [word for k, v in LONG.items() for word in ("--" + k.replace("_", "-"), str(v))]


@pytest.fixture(scope="session")
def finished(finished_of: Callable[[int], Path]) -> Path:
    """The uninterrupted long run of seed 0."""
    return finished_of(0)


@pytest.fixture(scope="session")
def finished_output(finished: Path) -> str:
    """What it printed."""
    return finished.with_name("seed0.out").read_text()
