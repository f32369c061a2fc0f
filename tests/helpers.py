"""For the tests of the host side: a run that takes seconds, and the command line in a process of its own."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from eqcrl import checkpoint, trainer
from eqcrl.assemble import System, assemble, complete, part_signature
from eqcrl.config import Config
from eqcrl.programs import Programs, compile_programs

# Two unrolls fill the replay; ten epochs follow, with an evaluation after every second and a checkpoint after
# every fourth. What only decides how long a run goes on is not compiled, so all lengths share their programs.
TINY: Mapping[str, Any] = {
    "env": "point-u-maze",
    "env.episode_length": 30,
    "arch": "resnet-4",
    "arch.width": 16,
    "agent.representation_size": 8,
    "train.num_envs": 8,
    "train.unroll_length": 10,
    "train.updates_per_epoch": 3,
    "train.batch_size": 8,
    "train.total_env_steps": 8 * 10 * 12,
    "replay.capacity": 50,
    "replay.min_filled": 20,
    "eval.every": 2,
    "eval.num_envs": 4,
    "checkpoint.every": 2,
}
# Long enough for a signal to arrive in its midst: 400 epochs, 40 evaluations, 13 checkpoints before the end.
LONG: Mapping[str, Any] = {**TINY, "train.total_env_steps": 8 * 10 * 402, "eval.every": 10, "checkpoint.every": 3}

METRICS = {
    "env_steps", "grad_steps", "wall_seconds", "train/critic_loss", "train/actor_loss",
    "train/categorical_accuracy", "train/logits_pos", "train/logits_neg", "train/entropy",
    "train/env_steps_per_second", "train/physics_resets", "train/grad_steps_per_second", "eval/time_at_goal",
    "eval/success_any", "eval/success_end", "eval/distance_end", "eval/episode_length",
}  # fmt: skip


def tiny(**settings: Any) -> Config:
    """The tiny configuration, every parameter written out; `train__batch_size=4` sets `train.batch_size`."""
    return complete(Config.load(overrides=TINY | {k.replace("__", "."): v for k, v in settings.items()}))


def tiny_agent(name: str, **settings: Any) -> Config:
    """The tiny configuration with another agent; what only CRL has is left out for it."""
    has = part_signature("agent", name).settings
    base = {k: v for k, v in TINY.items() if not k.startswith("agent.") or k.removeprefix("agent.") in has}
    changes = {"agent": name} | {k.replace("__", "."): v for k, v in settings.items()}
    return complete(Config.load(overrides=base | changes))


@functools.cache
def tiny_system() -> System:
    """The parts of the tiny run."""
    return assemble(tiny())


@functools.cache
def tiny_programs() -> Programs:
    """The programs of the tiny run, compiled once in this process."""
    return compile_programs(tiny_system())


def first_state() -> Any:
    """The state in which the tiny run begins."""
    return tiny_programs().init(trainer.stream(0, trainer.INIT_STREAM))


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the user would type them."""
    return [word for k, v in settings.items() for word in ("--" + k.replace("_", "-"), str(v))]


class Terminal:
    """Calls `eqcrl` in a process of its own, in a folder of its own."""

    def __init__(self, folder: Path, cache: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            # Most of the time of a tiny run is compiling. `fresh` processes do without, so that the
            # tests of reproducibility do not rest on it.
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def _popen(self, args: Sequence[Any], fresh: bool, **more: Any) -> subprocess.Popen[str]:
        environment = {k: v for k, v in self.environment.items() if not (fresh and k.startswith("JAX_COMPILATION"))}
        return subprocess.Popen(
            [sys.executable, "-m", "eqcrl", *map(str, args)], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip

    def start(self, *args: Any, fresh: bool = False) -> subprocess.Popen[str]:
        """Begin and do not wait."""
        return self._popen(args, fresh)

    def call(self, *args: Any, fresh: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        """Begin and wait; `more` goes to Popen."""
        process = self._popen(args, fresh, **more)
        out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def train(self, settings: Mapping[str, Any], out: Path, *more: Any) -> Path:
        """A training run that must succeed."""
        done = self.call("train", *flags(settings), "--out", out, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return out


def records(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, every one valid JSON."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock decides."""
    return [{k: v for k, v in r.items() if k != "wall_seconds" and not k.endswith("_per_second")} for r in records(run)]


def final_checkpoint(run: Path) -> dict[str, bytes]:
    """Name and content of the newest checkpoint."""
    path = checkpoint.latest(run / "checkpoints")
    files = ("agent.eqx", "rest.eqx", "replay.eqx")
    return {"number": path.name.encode()} | {n: (path / n).read_bytes() for n in files}


def assert_same_run(one: Path, other: Path) -> None:
    """Equal metrics, number for number, and final checkpoints, byte for byte."""
    assert timeless(one) == timeless(other)
    a, b = final_checkpoint(one), final_checkpoint(other)
    assert a["number"] == b["number"]
    for name in a:
        assert a[name] == b[name], f"{name} differs"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def copy_run(run: Path, to: Path) -> Path:
    """A copy to work on; finished runs are shared between tests."""
    return Path(shutil.copytree(run, to))


def assert_message(text: str, *parts: str) -> None:
    """An error for people: it says these things, and shows no traceback."""
    assert "Traceback" not in text, text
    assert "not foreseen" not in text, text
    assert "Error: " in text, text
    flat = " ".join(text.split())
    for part in parts:
        assert part in flat, f"{part!r} is missing in: {flat}"


def numbers_of(tree: Any) -> list[np.ndarray]:
    """The floating-point leaves of a pytree."""
    import jax

    return [np.asarray(x) for x in jax.tree.leaves(tree) if np.issubdtype(getattr(x, "dtype", int), np.floating)]


@contextlib.contextmanager
def keeping_compiled(folder: Path) -> Iterator[None]:
    """What this process compiles is kept in `folder`, and read from there by everyone who is given it."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
