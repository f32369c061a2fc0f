"""Trackers that write files: `csv` and `jsonl`. On resume they are written anew from the run's own record."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from eqcrl.settings import Meta
from eqcrl.trackers.appended import Appended
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked

FOLDER = "folder for the files of many runs, each named after its run directory"

Row = Mapping[str, float | None]


@dataclass
class CSV(AbstractTracker):
    """A table with a column for each metric and a row for each evaluation: `metrics.csv` in the run directory.

    What is not finite is an empty cell. Raises (in `start` and `log`): RunError, OSError.
    """

    folder: Annotated[str | None, Meta(description=f"{FOLDER}; by default the run directory")] = None
    file: Appended | None = field(default=None, init=False)
    columns: list[str] = field(default_factory=list, init=False)
    rows: list[Row] = field(default_factory=list, init=False)

    def start(self, run: Tracked) -> None:
        """Write the lines that count."""
        self.path = Path(self.folder) / f"{run.name}.csv" if self.folder else run.path / "metrics.csv"
        self.rows = list(run.history)
        self._rewrite()

    def log(self, line: Line) -> None:
        """Append a row; a metric that was never seen before gets a column, and the table is written anew."""
        row = _finite(line)
        self.rows.append(row)
        if self.file is None or any(name not in self.columns for name in row):
            self._rewrite()
        else:
            self.file.add(self._text([row]))

    def finish(self, status: Status) -> None:
        """Nothing is left to do."""

    def _rewrite(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        header = self._text([dict(zip(self.columns, self.columns, strict=True))]) if self.columns else ""
        self.file = Appended(self.path, header + self._text(self.rows))

    def _text(self, rows: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        for row in rows:
            table.writerow(["" if row.get(name) is None else row[name] for name in self.columns])
        return text.getvalue()


@dataclass
class JSONL(AbstractTracker):
    """The lines of metrics.jsonl in another folder as well, as `FOLDER/RUN.jsonl`.

    The run's own metrics.jsonl is written with or without trackers. Raises (in `start` and `log`): RunError, OSError.
    """

    folder: Annotated[str, Meta(description=FOLDER)]
    file: Appended | None = field(default=None, init=False)

    def start(self, run: Tracked) -> None:
        """Write the lines that count."""
        self.file = Appended(
            Path(self.folder) / f"{run.name}.jsonl", "".join(json.dumps(dict(row)) + "\n" for row in run.history)
        )

    def log(self, line: Line) -> None:
        """Append one object."""
        assert self.file is not None
        self.file.add(json.dumps(_finite(line)) + "\n")

    def finish(self, status: Status) -> None:
        """Nothing is left to do."""


def _finite(line: Line) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in line.items()}
