"""What checkpoints cost a run: the epochs between two of them at the quickstart's settings, with a replay of 1 GiB."""

from pathlib import Path

import equinox as eqx
import jax
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.paired import compare
from eqcrl import checkpoint
from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.logbook import Logbook
from eqcrl.programs import compile_programs
from eqcrl.rundir import RunDir
from eqcrl.saver import Saver
from eqcrl.trainer import INIT_STREAM, stream

CAPACITY = 21_400
"""Steps of the quickstart's environments that take 1 GiB."""


def test_saving(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Twenty epochs and a checkpoint, the thread still writing when they begin, beside twenty epochs."""
    benchmark.group = "checkpoint"
    config = complete(Config.load(overrides={"replay.capacity": CAPACITY}))
    system = assemble(config)
    programs = compile_programs(system)
    state = programs.init(stream(0, INIT_STREAM))
    spec = spec_of(system.algorithm.env.env)
    full = cases.full_replay(spec, CAPACITY, config.train.num_envs, config.env.params["episode_length"])
    # The compiled programs use a state up, so there is one for each side.
    held = {"ours": eqx.tree_at(lambda s: s.replay, state, full)}
    del state, full
    log = Logbook(config, RunDir.create(tmp_path / "run", config, {}))
    saver = Saver(programs.rows, True, True, config.train.unroll_length)
    epochs = config.checkpoint.every * config.eval.every

    def train() -> None:
        for _ in range(epochs):
            held["ours"], _ = programs.epoch(held["ours"])
        jax.block_until_ready(held["ours"])

    saved: list[float] = []

    def train_and_save() -> None:
        before = saver.held_up_seconds
        saver.save(held["ours"], [(0, log)])
        train()
        saved.append(saver.held_up_seconds - before)

    # The first one copies the whole ring to the host, as after a start with --resume.
    train_and_save()
    first = saved.pop()
    compare(
        benchmark,
        "checkpoint: 20 epochs of the quickstart with a replay of 1 GiB",
        train_and_save,
        train,
        baseline_name="20 epochs without saving",
        rounds=3,
        warmup=False,
        replay_bytes=checkpoint.nbytes(held["ours"].replay),
        held_up_first_seconds=first,
        held_up_seconds=saved,
    )
    saver.wait()
    saver.close()
    path = checkpoint.latest(log.run.checkpoints)
    assert sum(file.stat().st_size for file in path.iterdir()) > 0.99 * 2**30
