"""What trackers cost a run: the epochs between two evaluations at the quickstart's settings."""

import statistics
import time
from pathlib import Path

import jax
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.paired import compare
from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.programs import compile_programs
from eqcrl.rundir import RunDir
from eqcrl.trackers.feed import Tracking, finishing
from eqcrl.trainer import INIT_STREAM, stream

LINES, ROUNDS = 300, 4
NAMES = (
    "train/actor_loss", "train/alpha", "train/categorical_accuracy", "train/critic_loss", "train/entropy",
    "train/logits_neg", "train/logits_pos", "train/physics_resets", "train/env_steps_per_second",
    "train/grad_steps_per_second", "eval/distance_end", "eval/episode_length", "eval/success_any", "eval/success_end",
    "eval/time_at_goal",
)  # fmt: skip


def line(number: int) -> dict[str, float]:
    """As CRL records one."""
    axes = {"env_steps": 163_840.0 * number, "grad_steps": 800.0 * number, "wall_seconds": 1.2345678 * number}
    return axes | dict.fromkeys(NAMES, 0.1234567 * number)


def test_tracking(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Four epochs while `csv`, `jsonl` and `tensorboard` take a line, beside four epochs; and a line by itself."""
    benchmark.group = "trackers"
    chosen = {"tracker": "csv,jsonl,tensorboard", "tracker.jsonl.folder": str(tmp_path / "all")}
    config = complete(Config.load(overrides=chosen))
    by_itself, held_up = _of_a_line(config, tmp_path / "alone")
    programs = compile_programs(assemble(config))
    state = programs.init(stream(0, INIT_STREAM))
    for _ in range(config.prefill_epochs()):
        state = programs.collect(state)
    held = {"state": state}
    del state
    tracking, count = _tracking(config, tmp_path / "run"), 0

    def train() -> None:
        for _ in range(config.eval.every):
            held["state"], _ = programs.epoch(held["state"])
        jax.block_until_ready(held["state"])

    def train_and_track() -> None:
        nonlocal count
        count += 1
        tracking.log(line(count))
        train()

    with finishing([tracking]):
        compare(
            benchmark,
            "trackers: 4 epochs of the quickstart and a line for csv, jsonl, tensorboard",
            train_and_track,
            train,
            baseline_name="4 epochs without trackers",
            rounds=ROUNDS,
            line_cpu_seconds=by_itself,
            line_held_up_seconds=held_up,
        )
    interval = benchmark.extra_info["baseline"]
    benchmark.extra_info["share_of_interval"] = by_itself / interval
    assert by_itself < 0.01 * interval
    written = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(written) == 1 + count


def _tracking(config: Config, path: Path) -> Tracking:
    return Tracking(config, RunDir.create(path, config, {}), lambda: "stopped")


def _of_a_line(config: Config, path: Path) -> tuple[float, float]:
    """Processor seconds of all threads for a line, starting included, and for how long training is held up by one."""
    tracking, held_up = _tracking(config, path), []
    before = time.process_time()
    with finishing([tracking]):
        for number in range(1, LINES + 1):
            began = time.perf_counter()
            tracking.log(line(number))
            held_up.append(time.perf_counter() - began)
    return (time.process_time() - before) / LINES, statistics.median(held_up)
