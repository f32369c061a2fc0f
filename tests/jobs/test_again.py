"""A command that is given again finds its run begun, or done."""

import subprocess
import sys
from pathlib import Path

from eqcrl.config import Config
from eqcrl.jobs.again import continued
from eqcrl.jobs.runs import last_unroll
from eqcrl.rundir import RunDir

COMMAND = ["python", "-m", "eqcrl", "train", "--preset", "paper", "--out", "x"]


def test_a_run_is_begun_and_then_continued(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert continued(COMMAND, run) == COMMAND
    run.mkdir()
    assert continued(COMMAND, run) == COMMAND
    (run / "config.toml").touch()
    assert continued(COMMAND, run) == ["python", "-m", "eqcrl", "train", "--resume", str(run)]


def call(run: Path) -> str:
    """The command says what it was given, instead of training."""
    program = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "train", "--out", str(run)]
    command = [sys.executable, "-m", "eqcrl.jobs.again", str(run), *program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_as_a_process_it_becomes_the_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call(run) == f"['train', '--out', '{run}']\n"
    RunDir.create(run, Config(), {})
    assert call(run) == f"['train', '--resume', '{run}']\n"
    (run / "checkpoints" / f"{last_unroll(Config()):09d}").mkdir()
    assert call(run) == f"{run} is done.\n"
