"""`eqcrl train --num-seeds`: what it leaves, says and refuses, and that every seed is an ordinary run to the others."""

import dataclasses
import json
import re
import signal
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import pytest

from cli.conftest import Command
from eqcrl import checkpoint, estimate, trainer
from eqcrl.programs import compile_programs
from helpers import TINY, Terminal, assert_message, assert_same_run, copy_run, flags, records, snapshot, timeless

# Two seeds everywhere, so that their programs are compiled once.
LONGER = {**TINY, "train.total_env_steps": 8 * 10 * 2002}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, terminal: Terminal) -> Path:
    """The tiny run under two seeds, by a process of its own. Copy before writing."""
    out = tmp_path_factory.mktemp("two") / "two"
    done = terminal.call("train", *flags(TINY), "--seed", 3, "--num-seeds", 2, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    (out.parent / "printed").write_text(done.stdout)
    return out


def test_what_it_leaves(two: Path) -> None:
    assert sorted(p.name for p in two.iterdir()) == ["seed3", "seed4"]
    for seed in (3, 4):
        run = two / f"seed{seed}"
        assert sorted(p.name for p in run.glob("[!.]*")) == [
            "checkpoints", "config.toml", "figures", "header.json", "metrics.jsonl", "videos",
        ]  # fmt: skip
        assert sorted(snapshot(run / "figures")) == ["learning_curve.png", "trajectories.png"]
        assert sorted(snapshot(run / "videos")) == ["policy.gif"]
        header = json.loads((run / "header.json").read_text())
        assert (header["seed"], header["seeds_together"]) == (seed, [3, 4])
        assert "--num-seeds" in header["argv"]
    assert timeless(two / "seed3") != timeless(two / "seed4")


def test_what_it_says(two: Path) -> None:
    said = (two.parent / "printed").read_text()
    assert "2 side by side in one program, 3 to 4; steps are of each" in said
    lines = [line for line in said.splitlines() if "gradient steps  2 seeds  success" in line]
    assert len(lines) == 5
    assert all(" to " in line for line in lines)
    _, _, summary = said.partition("Summary: the last evaluation of each seed")
    for seed in (3, 4):
        last = records(two / f"seed{seed}")[-1]
        (row,) = [line for line in summary.splitlines() if line.startswith(f"│ {seed} ")]
        assert f"{last['eval/distance_end']:.3f}" in row
    assert "All seeds together took" in summary
    assert f"Everything is in {two}" in said


def test_every_seed_is_an_ordinary_run(eqcrl: Command, two: Path, tmp_path: Path) -> None:
    out = copy_run(two, tmp_path / "two")
    answer = eqcrl("eval", out / "seed4", "--episodes", 3, "--json")
    assert answer.code == 0, answer.err
    assert "eval/success_any" in answer.out
    answer = eqcrl("plot", out / "seed3", out / "seed4", "--out", tmp_path / "both.png")
    assert answer.code == 0, answer.err
    answer = eqcrl("eval", out)
    assert answer.code == 2
    assert_message(answer.err, f"{out} is not a run directory", "give one of them: seed3, seed4")


@pytest.mark.faults
def test_stopped_and_resumed_by_other_processes_equals_never_stopped(
    terminal: Terminal, two: Path, tmp_path: Path
) -> None:
    """By SIGTERM in the midst of the long run, which is then cut to the length of the short one."""
    out = tmp_path / "two"
    process = terminal.start("train", *flags(LONGER), "--seed", 3, "--num-seeds", 2, "--out", out)
    assert process.stdout is not None
    while "Compiled in" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said, err = process.communicate(timeout=300)
    assert process.returncode == 75, said + err
    assert f"eqcrl train --resume {out}" in said
    numbers = {checkpoint.numbers(out / f"seed{k}" / "checkpoints")[-1] for k in (3, 4)}
    assert len(numbers) == 1
    stopped_at = numbers.pop()
    done = terminal.call("train", "--resume", out, "--train.total-env-steps", max(960, 80 * (stopped_at + 2)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Continuing at" in done.stdout or stopped_at == 0
    for k in (3, 4):
        assert timeless(out / f"seed{k}")[:5] == timeless(two / f"seed{k}")


def test_a_seed_that_diverges(eqcrl: Command, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is finished with its pictures; the exit code is 1."""

    def poisoned(system: Any, seeds: int) -> Any:
        programs = compile_programs(system, seeds)

        def epoch(state: Any) -> Any:
            state, metrics = programs.epoch(state)
            where = lambda s: s.agent.critic.goal.head.weight  # noqa: E731
            if int(state.unrolls[0]) == 7:
                state = eqx.tree_at(where, state, replace_fn=lambda w: w.at[1].set(jnp.nan))
            return state, metrics

        return dataclasses.replace(programs, epoch=epoch)

    monkeypatch.setattr(trainer, "compile_programs", poisoned)
    out = tmp_path / "two"
    answer = eqcrl("train", *flags(TINY), "--seed", 3, "--num-seeds", 2, "--out", out)
    assert answer.code == 1
    assert "Seed 4 is given up. Training diverged: not finite after the epoch that ended at 640" in " ".join(
        answer.out.split()
    )
    assert_message(answer.err, "1 of 2 seeds diverged (4); the others are done", "Lower the step sizes")
    assert_same_run(out / "seed3", two / "seed3")
    assert (out / "seed3" / "videos" / "policy.gif").is_file()
    assert list((out / "seed4" / "videos").iterdir()) == []


def test_what_is_refused(eqcrl: Command, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: Any) -> Any:
        raise AssertionError("this should have been refused by now")

    monkeypatch.setattr(trainer, "compile_programs", too_late)
    before, new = snapshot(two), tmp_path / "new"
    for args, said in (
        (("--resume", two / "seed3", "--num-seeds", 2), f"--num-seeds 2 and --resume exclude each other here: {two}"),
        (("--resume", two, "--num-seeds", 3), "holds the runs of 2 seeds"),
        (("--resume", two, "--out", new), "--out and --resume exclude each other"),
        (("--resume", two, "--train.batch-size", 4), "train.batch_size is 8 there, 4 was asked for"),
        (("--seed", 2**32 - 1, "--num-seeds", 2, "--out", new), "end at 4294967296, beyond 2^32 - 1"),
        (("--seed", 4, "--num-seeds", 2, "--out", two), "seed4 holds a run already"),
        (("--num-seeds", 0, "--out", new), "Invalid value for '--num-seeds'"),
        (("--num-seeds", "two", "--out", new), "Invalid value for '--num-seeds'"),
    ):
        answer = eqcrl("train", *(() if "--resume" in args else flags(TINY)), *args)
        assert answer.code == 2, answer.err
        assert_message(answer.err, said)
    assert snapshot(two) == before
    assert not new.exists()


def test_a_dry_run_plans_and_times_all_seeds(
    eqcrl: Command, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "SECONDS", 0.05)
    before = snapshot(two)
    answer = eqcrl("train", "--resume", two, "--dry-run")
    assert answer.code == 0, answer.err
    assert "2 side by side in one program, 3 to 4; steps are of each" in answer.out
    assert re.search(r"gradient steps/s, of each of the 2 seeds; [\d,]+ environment", " ".join(answer.out.split()))
    assert snapshot(two) == before
    assert list(tmp_path.iterdir()) == []


def test_seeds_that_do_not_fit_into_memory(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("train", *flags(TINY), "--num-seeds", 100_000_000, "--out", tmp_path / "new")
    assert answer.code == 2
    assert_message(answer.err, "The plan needs", "With --num-seeds")
    assert list(tmp_path.iterdir()) == []
