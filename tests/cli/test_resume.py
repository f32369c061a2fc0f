"""Stop a real process, resume it in another: the result is that of a run that was never stopped, bit for bit."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Command
from eqcrl import checkpoint
from helpers import (
    LONG,
    Terminal,
    assert_message,
    assert_same_run,
    copy_run,
    final_checkpoint,
    flags,
    records,
    timeless,
)

# Ten thousand unrolls of a moment each before learning starts.
PREFILL = {
    **LONG,
    "train.num_envs": 4,
    "train.unroll_length": 5,
    "replay.min_filled": 50_000,
    "replay.capacity": 50_000,
    "train.total_env_steps": 4 * 5 * (10_000 + 6),
    "eval.every": 2,
}


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.002)


def stop_at_line(terminal: Terminal, run: Path, line: int, number: signal.Signals) -> tuple[int, str]:
    """Start the long run, send a signal when metrics.jsonl has so many lines; exit code and output."""
    process = terminal.start("train", *flags(LONG), "--out", run)
    metrics = run / "metrics.jsonl"
    wait_for(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= line)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err
    return process.returncode, out


def resume(terminal: Terminal, run: Path, *more: str, fresh: bool = False) -> str:
    done = terminal.call("train", "--resume", run, *more, fresh=fresh)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    # The resumed process compiles for itself once: equality must not come from sharing compiled code.
    ("number", "code", "line", "fresh"),
    [pytest.param(signal.SIGINT, 130, 4, False, marks=pytest.mark.faults), (signal.SIGTERM, 75, 8, True)],
)
def test_stopped_and_resumed_equals_never_stopped(
    terminal: Terminal, finished: Path, tmp_path: Path, number: signal.Signals, code: int, line: int, fresh: bool
) -> None:
    run = tmp_path / "run"
    exit_code, out = stop_at_line(terminal, run, line, number)
    assert exit_code == code
    assert number.name in out
    assert f"eqcrl train --resume {run}" in out
    lines = len(records(run))
    assert line <= lines < len(records(finished))
    # Stopping saves at once, not at the checkpoint that was due anyway.
    stopped_at = checkpoint.numbers(run / "checkpoints")[-1]
    assert records(run)[-1]["env_steps"] <= stopped_at * 80 < records(finished)[-1]["env_steps"]
    assert timeless(run) == timeless(finished)[:lines]

    assert "Continuing at" in resume(terminal, run, fresh=fresh)
    assert_same_run(run, finished)
    wall = [r["wall_seconds"] for r in records(run)]
    assert wall == sorted(wall)
    assert len(json.loads((run / "header.json").read_text())["resumed"]) == 1


def test_killed_beyond_its_checkpoint_and_resumed_equals_never_stopped(
    terminal: Terminal, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # Checkpoints come with every third line: at the seventh line there are two, and one line beyond them.
    assert stop_at_line(terminal, run, 7, signal.SIGKILL)[0] == -signal.SIGKILL
    newest = checkpoint.latest(run / "checkpoints")
    if records(run)[-1]["env_steps"] == int(newest.name) * 80:  # it was killed right after one: stand one back
        shutil.rmtree(newest)
        newest = checkpoint.latest(run / "checkpoints")
    assert records(run)[-1]["env_steps"] > int(newest.name) * 80
    # What a kill in the midst of writing leaves: half a checkpoint, half a line.
    partial = run / "checkpoints" / ".000000999.77.part"
    partial.mkdir()
    (partial / "agent.eqx").write_bytes((newest / "agent.eqx").read_bytes()[:100])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 99')

    resume(terminal, run)
    assert_same_run(run, finished)
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.faults
def test_killed_before_its_first_checkpoint_starts_again_from_nothing(
    terminal: Terminal, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert stop_at_line(terminal, run, 1, signal.SIGKILL)[0] == -signal.SIGKILL
    shutil.rmtree(run / "checkpoints")  # however far it came before the signal arrived
    (run / "checkpoints").mkdir()
    assert records(run)
    resume(terminal, run)
    assert_same_run(run, finished)


@pytest.mark.faults
def test_stopped_while_the_replay_fills(terminal: Terminal, tmp_path: Path) -> None:
    reference, run = tmp_path / "reference", tmp_path / "run"
    terminal.train(PREFILL, reference)
    process = terminal.start("train", *flags(PREFILL), "--out", run)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Compiled in"):
        assert process.poll() is None
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 75, out
    assert 0 < checkpoint.numbers(run / "checkpoints")[-1] < 10_000
    assert not (run / "metrics.jsonl").exists()

    resume(terminal, run)
    assert len(records(run)) == 3
    assert_same_run(run, reference)


@pytest.mark.faults
def test_stopped_while_compiling(terminal: Terminal, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = terminal.start("train", *flags(LONG), "--out", run)
    wait_for(process, (run / "header.json").exists)
    time.sleep(0.5)  # from here on it traces and compiles, for seconds
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 75, out
    assert checkpoint.numbers(run / "checkpoints") == [0]
    assert not (run / "metrics.jsonl").exists()
    resume(terminal, run)
    assert_same_run(run, finished)


@pytest.mark.faults
def test_a_shorter_run_extended_equals_a_longer_one(terminal: Terminal, finished: Path, tmp_path: Path) -> None:
    total = LONG["train.total_env_steps"]
    half = 80 * 202
    run = terminal.train({**LONG, "train.total_env_steps": half}, tmp_path / "run")
    assert records(run)[-1]["env_steps"] == half
    resume(terminal, run, "--train.total-env-steps", str(total))
    assert_same_run(run, finished)
    assert (run / "config.toml").read_text() == (finished / "config.toml").read_text()


def test_a_finished_run_resumed_is_left_as_it_is(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    answer = eqcrl("train", "--resume", run)
    assert answer.code == 0, answer.err
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert final_checkpoint(run) == final_checkpoint(finished)


@pytest.mark.faults
def test_the_seed_decides_everything(
    terminal: Terminal, finished: Path, finished_of: Callable[[int], Path], tmp_path: Path
) -> None:
    again = terminal.train(LONG, tmp_path / "again")
    assert_same_run(again, finished)
    other = finished_of(1)
    assert all(a != b for a, b in zip(timeless(other), timeless(finished), strict=True))
    assert final_checkpoint(other)["agent.eqx"] != final_checkpoint(finished)["agent.eqx"]


def test_resuming_what_is_no_run(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("train", "--resume", tmp_path)
    assert answer.code == 2
    assert_message(answer.err, f"{tmp_path} is not a run directory", "Give the directory that `eqcrl train` wrote")


def test_a_run_that_is_being_trained_is_left_alone(terminal: Terminal, tmp_path: Path) -> None:
    """A second process is refused before it touches anything, and the first one goes on."""
    run = tmp_path / "run"
    process = terminal.start("train", *flags(LONG), "--out", run)
    metrics = run / "metrics.jsonl"
    wait_for(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 1)
    process.send_signal(signal.SIGSTOP)
    before = {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    second = terminal.call("train", "--resume", run)
    assert second.returncode == 1
    assert_message(second.stderr, f"The run {run} is being written by another process (process {process.pid} on ")
    assert {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()} == before
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 75
