"""Run directories as training leaves them, without the training: configuration, header, evaluations, pictures."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from eqcrl.config import Config
from eqcrl.rundir import RunDir

TOTAL = 1000
HEADER = {
    "started": "2026-01-31T23:59:58+0100",
    "argv": ["/somewhere/bin/eqcrl", "train", "--out", "a b"],
    "versions": {"python": "3.12.1", "eqcrl": "0.1.0", "jax": "0.10.2"},
    "git_revision": "abc",
    "devices": ["cpu:0"],
    "platform": "Linux",
}


def config(**settings: Any) -> Config:
    """A configuration; `arch__depth=8` sets `arch.depth`."""
    small = {"train.total_env_steps": TOTAL, "train.num_envs": 4, "train.unroll_length": 10, "train.batch_size": 8}
    wanted = {k.replace("__", "."): v for k, v in settings.items()}
    return Config.load(overrides=small | {"replay.min_filled": 20, "arch.depth": 4} | wanted)


def record(env_steps: float, success: float, pace: float = 0.01) -> dict[str, float]:
    """One evaluation; `pace` is in seconds per environment step."""
    return {
        "env_steps": env_steps, "grad_steps": env_steps / 10, "wall_seconds": pace * env_steps,
        "train/critic_loss": 1.0, "eval/success_any": success, "eval/success_end": success / 2,
        "eval/time_at_goal": 100 * success, "eval/distance_end": 5 - 4 * success,
    }  # fmt: skip


def make_run(
    path: Path, *, success: float = 0.5, until: int = TOTAL, pace: float = 0.01, header: Any = None, **settings: Any
) -> Path:
    """A run that rises to `success`, evaluated every 100 steps `until` its last evaluation."""
    run = RunDir.create(path, config(**settings), HEADER | (header or {}))
    records = [record(steps, success * min(1.0, steps / 500), pace) for steps in range(100, until + 1, 100)]
    run.metrics_file.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def png(width: int = 40, color: str = "red") -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.new("RGB", (width, 30), color).save(file, format="PNG")
    return file.getvalue()


def gif(frames: int = 3) -> bytes:
    """A small film."""
    file = io.BytesIO()
    first, *rest = [Image.new("RGB", (40, 30), (80 * i, 0, 0)) for i in range(frames)]
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=100)
    return file.getvalue()


def add_pictures(run: Path) -> None:
    """What training leaves to look at."""
    (run / "figures" / "trajectories.png").write_bytes(png())
    (run / "figures" / "learning_curve.png").write_bytes(png(color="blue"))
    (run / "videos" / "policy.gif").write_bytes(gif())


def set_header(run: Path, **fields: Any) -> None:
    """Change what the header says."""
    file = run / "header.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
