"""The run that accidents happen to, and how its end is compared with that of a run that was left alone."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqcrl import checkpoint

# A checkpoint about every second, so that accidents happen while one is written too.
SETTINGS: dict[str, Any] = {
    "env": "point-u-maze",
    "env.episode_length": 50,
    "arch": "resnet-4",
    "arch.width": 32,
    "train.num_envs": 64,
    "train.unroll_length": 20,
    "train.updates_per_epoch": 20,
    "train.batch_size": 64,
    "replay.capacity": 2_000,
    "replay.min_filled": 100,
    "eval.every": 5,
    "eval.num_envs": 8,
    "checkpoint.every": 1,
}
ENV_STEPS_PER_UNROLL = 64 * 20


@dataclass
class Result:
    """A line of the table."""

    fault: str
    tried: int = 0
    recovered: int = 0
    lost: str = "nothing"
    notes: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Its cells."""
        return [self.fault, str(self.tried), str(self.recovered), self.lost]


def command(*args: Any) -> list[str]:
    """`eqcrl ...` in a process of its own."""
    return [sys.executable, "-m", "eqcrl", *map(str, args)]


def flags(settings: dict[str, Any]) -> list[str]:
    """Settings as the user would type them."""
    return [word for k, v in settings.items() for word in ("--" + k.replace("_", "-"), str(v))]


def begin(path: Path, unrolls: int) -> list[str]:
    """The command that starts the run in a directory, or goes on with it if it is there."""
    if (path / "config.toml").exists():
        return command("train", "--resume", path, "--quiet")
    total = {"train.total_env_steps": unrolls * ENV_STEPS_PER_UNROLL}
    return command("train", *flags(SETTINGS | total), "--out", path, "--quiet")


def finish(path: Path, unrolls: int) -> subprocess.CompletedProcess[str]:
    """To its end, without accidents."""
    return subprocess.run(begin(path, unrolls), capture_output=True, text=True, check=False, timeout=1800)


def must_finish(path: Path, unrolls: int) -> None:
    """Raises: SystemExit with what it said if it does not."""
    done = finish(path, unrolls)
    if done.returncode:
        raise SystemExit(f"{path} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def newest(path: Path) -> int:
    """Unrolls at the newest checkpoint, 0 if there is none."""
    return max(checkpoint.numbers(path / "checkpoints"), default=0)


def progress(path: Path) -> int:
    """Unrolls at the last evaluation that was recorded."""
    file = path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return int(json.loads(whole[-1])["env_steps"]) // ENV_STEPS_PER_UNROLL if whole else 0


def same(one: Path, other: Path) -> bool:
    """Equal metrics but for what a clock decides, and equal final checkpoints, byte for byte."""
    return _timeless(one) == _timeless(other) and _bytes(one) == _bytes(other)


def _timeless(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "wall_seconds" and not k.endswith("_per_second")} for r in lines]


def _bytes(path: Path) -> dict[str, bytes]:
    last = checkpoint.latest(path / "checkpoints")
    return {"number": last.name.encode()} | {file.name: file.read_bytes() for file in last.glob("*.eqx")}


def copied(path: Path, name: str) -> Path:
    """A copy of a run beside it."""
    target = path.with_name(name)
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(path, target))


def workplace() -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp(prefix="eqcrl-faults-"))


def wait_for(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it still runs after so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return process.poll() is None


def start(args: list[str], **more: Any) -> subprocess.Popen[str]:
    """Begin and do not wait."""
    return subprocess.Popen(
        args,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        **more,
    )
