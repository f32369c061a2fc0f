"""The tracker `wandb`."""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from eqcrl.files import write_atomically
from eqcrl.settings import Meta
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked

AXIS = "env_steps"


@dataclass
class WandB(AbstractTracker):
    """A W&B run for each run of eqcrl, its steps being environment steps.

    The files are in the run directory, and the id is in `wandb/id.txt` there. Offline (`wandb sync` uploads later) a
    run that is continued is written anew from the lines that count; if the older files were uploaded already, under
    the next id. Online it is resumed by its id; W&B keeps what it has of the steps past the checkpoint.
    """

    project: Annotated[str, Meta(description="project in W&B")] = "eqcrl"
    entity: Annotated[str | None, Meta(description="user or team in W&B; by default the one that is logged in")] = None
    mode: Annotated[
        Literal["offline", "online"], Meta(description="offline: into files, `wandb sync` uploads them")
    ] = "offline"
    group: Annotated[str | None, Meta(description="group in W&B; by default the folder of runs of several seeds")] = (
        None
    )
    tags: Annotated[str, Meta(description="tags, with commas")] = ""
    run: Any = field(default=None, init=False)

    def start(self, run: Tracked) -> None:
        """Begin or continue the W&B run."""
        # Imported here, on the tracker's own thread: it takes a second, and `eqcrl list` does without.
        import wandb  # pyright: ignore[reportMissingImports]

        folder = run.path / "wandb"
        folder.mkdir(exist_ok=True)
        identity = self._offline_id(folder) if self.mode == "offline" else _known_id(folder) or _new_id(folder)
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            id=identity,
            resume="allow" if self.mode == "online" else None,
            name=run.name,
            group=self.group or run.group,
            tags=[tag.strip() for tag in self.tags.split(",") if tag.strip()],
            dir=str(run.path),
            config=dict(run.config),
            # Several seeds are several runs of one process.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        if not self.run.resumed:
            for row in run.history:
                self._log({name: value for name, value in row.items() if value is not None})

    def log(self, line: Line) -> None:
        """Hand on one line; W&B writes and uploads in a process of its own."""
        self._log(line)

    def finish(self, status: Status) -> None:
        """Wait until W&B is done."""
        if self.run is not None:
            self.run.summary["status"] = status
            self.run.finish(exit_code=0 if status in ("finished", "stopped") else 1)

    def _log(self, line: Mapping[str, float]) -> None:
        self.run.log({name: value for name, value in line.items() if name != AXIS}, step=int(line[AXIS]))

    def _offline_id(self, folder: Path) -> str:
        """The id to write under, after what it replaces is removed."""
        identity = _known_id(folder)
        if identity is None:
            return _new_id(folder)
        older = list(folder.glob(f"offline-run-*-{identity}"))
        if any(list(path.glob("*.synced")) for path in older):
            return _new_id(folder)
        for path in older:
            shutil.rmtree(path)
        return identity


def _known_id(folder: Path) -> str | None:
    file = folder / "id.txt"
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def _new_id(folder: Path) -> str:
    identity = uuid.uuid4().hex[:12]
    write_atomically(folder / "id.txt", identity + "\n")
    return identity
