"""The run directory: what lies where, written so that a crash leaves whole files.

config.toml      the whole configuration          figures/      PNG
header.json      versions, git revision, argv     videos/       GIF or MP4
metrics.jsonl    one object per evaluation        checkpoints/  to continue from
"""

import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from eqcrl.config import Config
from eqcrl.errors import RunError, UsageError
from eqcrl.files import write_atomically, writing
from eqcrl.recorded import recorded_config

RECORDED_PACKAGES = ("eqcrl", "jax", "jaxlib", "equinox", "optax", "numpy")


class RunDir:
    """Paths and plain-text files of one run; holds no state of its own but the path."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.toml"
        self.header_file = self.path / "header.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.videos = self.path / "videos"

    @staticmethod
    def create(path: str | Path, config: Config, header: Mapping[str, Any]) -> "RunDir":
        """A new run directory with its configuration and header.

        Raises: UsageError if it holds a run or other files already; RunError if it cannot be written.
        """
        run = RunDir(path)
        run.refuse_existing()
        with writing(run.path):
            for folder in (run.path, run.checkpoints, run.figures, run.videos):
                folder.mkdir(parents=True, exist_ok=True)
        write_atomically(run.config_file, config.to_toml())
        write_atomically(run.header_file, json.dumps(header, indent=2) + "\n")
        return run

    def refuse_existing(self) -> None:
        """Raises: UsageError if the directory is in use already, or is not a directory."""
        if self.config_file.exists():
            raise UsageError(
                f"The run directory {self.path} holds a run already.",
                mend=f"Continue it with `eqcrl train --resume {self.path}`, or choose another --out.",
            )
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UsageError(f"{self.path} exists and is not an empty directory.", mend="Choose another --out.")

    @staticmethod
    def open(path: str | Path) -> "RunDir":
        """An existing run directory. Raises: UsageError if there is no run at this path."""
        run = RunDir(path)
        if not run.config_file.is_file():
            below = sorted(p.parent.name for p in run.path.glob("seed*/config.toml"))
            raise UsageError(
                f"{run.path} is not a run directory: it has no config.toml.",
                mend=f"It holds runs of several seeds; give one of them: {', '.join(below)}."
                if below
                else "Give the directory that `eqcrl train` wrote.",
            )
        return run

    def config(self) -> Config:
        """The configuration of the run. Raises: RunError, ConfigError."""
        return recorded_config(_read(self.config_file), str(self.config_file))

    def write_config(self, config: Config) -> None:
        """Exchange the configuration (a resumed run may change its length)."""
        write_atomically(self.config_file, config.to_toml())

    def header(self) -> dict[str, Any]:
        """Versions, revision, arguments. Raises: RunError."""
        return _parse_json(_read(self.header_file), str(self.header_file))

    def note_resume(self, argv: Sequence[str]) -> None:
        """Record in the header that the run was continued, when and by which command."""
        header = self.header()
        header.setdefault("resumed", []).append({"time": timestamp(), "argv": list(argv)})
        header.pop("diverged", None)
        write_atomically(self.header_file, json.dumps(header, indent=2) + "\n")

    def note_divergence(self, message: str) -> None:
        """Record in the header that training diverged, until the run is continued."""
        header = self.header() | {"diverged": {"time": timestamp(), "message": message}}
        write_atomically(self.header_file, json.dumps(header, indent=2) + "\n")

    def note_rollback(self, env_steps: int, message: str) -> int:
        """Record in the header that training went back after it diverged; how often it did so far."""
        header = self.header()
        header.setdefault("rollbacks", []).append({"time": timestamp(), "to_env_steps": env_steps, "message": message})
        header.pop("diverged", None)
        write_atomically(self.header_file, json.dumps(header, indent=2) + "\n")
        return len(header["rollbacks"])

    def metrics(self) -> list[dict[str, Any]]:
        """Every evaluation so far; a last line cut short by a crash is left out. Raises: RunError."""
        if not self.metrics_file.exists():
            return []
        lines = _read(self.metrics_file).splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        return [_parse_json(line, f"{self.metrics_file}:{n}") for n, line in enumerate(lines, start=1)]

    def append_metrics(self, record: Mapping[str, float]) -> None:
        """Add one evaluation as one line. Raises: RunError."""
        clean = {k: (v if math.isfinite(v) else None) for k, v in record.items()}
        with writing(self.metrics_file), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def forget_metrics_after(self, env_steps: int) -> None:
        """Drop evaluations past a checkpoint: the run that continues from it will make them again."""
        kept = [r for r in self.metrics() if r["env_steps"] <= env_steps]
        if self.metrics_file.exists():
            write_atomically(self.metrics_file, "".join(json.dumps(r) + "\n" for r in kept))


def default_path(config: Config) -> Path:
    """`runs/<time>_<env>_<arch>_seed<n>`: sorted by time, unique to the second."""
    words = config.label().replace("seed ", "seed").replace("/", "-").split(", ")
    return Path("runs") / "_".join([time.strftime("%Y%m%d-%H%M%S"), *words])


def make_header(config: Config, argv: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
    """What identifies a run beside its configuration: versions, revision, arguments, seed, machine."""
    return {
        "started": timestamp(),
        "argv": list(argv),
        "seed": config.seed,
        "versions": {"python": platform.python_version()} | {p: metadata.version(p) for p in RECORDED_PACKAGES},
        "git_revision": git_revision(),
        "devices": list(devices),
        "platform": platform.platform(),
    }


def git_revision() -> str | None:
    """The commit of the checkout that eqcrl runs from, `-dirty` if it is edited; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def timestamp() -> str:
    """Now, in ISO 8601 with the offset from UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            mend="The run directory is incomplete; restore the file or start a new run.",
        ) from None


def _parse_json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is not valid JSON: {error}.", mend="Restore or remove that line.") from None
    if not isinstance(value, dict):
        raise RunError(f"{where} holds no JSON object.", mend="Restore or remove that line.")
    return value
