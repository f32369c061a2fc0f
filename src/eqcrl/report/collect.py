"""Reads what a report is about. What cannot be read is noted with its reason, and the rest goes on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eqcrl.config import Config
from eqcrl.errors import EqcrlError, RunError
from eqcrl.lock import HOLDER
from eqcrl.report.sources import Found, find, is_run, within
from eqcrl.rundir import RunDir
from eqcrl.statistics import is_finite

if TYPE_CHECKING:
    from eqcrl.studies.folder import OpenStudy

Kind = Literal[
    "dead", "broken", "unfinished", "not run", "no evaluation", "incomplete", "duplicate", "given twice", "not drawn",
    "left out",
]  # fmt: skip


NOWHERE = "It is in no table and no figure."
MOST_BITS = 1000
SECOND = "It counts only where no run of its setting has finished."


@dataclass(frozen=True)
class Trouble:
    """Something that did not go as asked: where, what kind, and why and with what effect on the report."""

    where: str
    kind: Kind
    reason: str


@dataclass(frozen=True)
class RunRecord:
    """A run as far as a report needs it: configuration, header (empty if lost), one record per evaluation."""

    path: Path
    config: Config
    header: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    died: str = ""
    """The error that ended it; empty if it did not die."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """Of a run of a study: axis -> how its value is told."""
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of a run of a study: label of a further evaluation -> its scores."""

    def last(self, key: str) -> float | None:
        """The last finite value recorded under that key."""
        values = [record[key] for record in self.records if is_finite(record.get(key))]
        return float(values[-1]) if values else None

    def hours(self) -> float:
        """Wall time until the last evaluation."""
        return (self.last("wall_seconds") or 0.0) / 3600

    def finished(self) -> bool:
        """Whether it was evaluated at its end."""
        return not self.died and (self.last("env_steps") or 0.0) >= self.config.train.total_env_steps


@dataclass(frozen=True)
class Chapter:
    """Runs that belong together: a study, or all runs that belong to none."""

    runs: list[RunRecord]
    study: "OpenStudy | None" = None


@dataclass(frozen=True)
class Collected:
    """What was found, and what is wrong with it."""

    chapters: list[Chapter] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def runs(self) -> list[RunRecord]:
        """The runs of all chapters."""
        return [run for chapter in self.chapters for run in chapter.runs]


def collect(sources: Sequence[Path]) -> Collected:
    """Every run and study below the sources that can be read. Raises: what `find` raises."""
    return _read(find(sources))


def _read(found: Found) -> Collected:
    collected = Collected()
    of_studies: set[Path] = set()
    for path in found.studies:
        chapter = _study(path, collected.troubles)
        of_studies |= {run.path.resolve() for run in chapter.runs}
        collected.chapters.append(chapter)
    loose = []
    for path in found.runs:
        if path.resolve() in of_studies:
            found.repeated.append(path)
        else:
            loose.append(path)
    for path in found.repeated:
        collected.troubles.append(Trouble(str(path), "given twice", "It was given more than once, and counts once."))
    if loose:
        collected.chapters.append(Chapter(_runs(loose, collected.troubles)))
    return collected


def _study(path: Path, troubles: list[Trouble]) -> Chapter:
    from eqcrl.studies.folder import open_study

    try:
        study = open_study(path)
    except EqcrlError as error:
        troubles.append(Trouble(str(path), "broken", f"{error} Its runs are reported without it."))
        return Chapter(_runs(within(path / "runs"), troubles))
    runs = []
    for planned in study.runs:
        where, died = str(planned.path), ""
        if planned.status == "missing":
            troubles.append(Trouble(where, "not run", "It has not begun."))
            continue
        if planned.status == "dead":
            died = planned.message or "It ended with an error and left no message."
            if not is_run(planned.path):
                troubles.append(Trouble(where, "dead", died))
                continue
        elif planned.message:
            troubles.append(Trouble(where, "incomplete", planned.message))
        run = read_run(planned.path, troubles, died=died)
        if run is not None:
            axes = {axis: _told(axis, value) for axis, value in planned.settings.items()}
            runs.append(replace(run, axes=axes, further=planned.evaluated))
    return Chapter(_distinct(runs, troubles), study)


def _told(axis: str, value: Any) -> str:
    """A key of the configuration with its value; names of parts and of sets of keys speak for themselves."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{axis}={text}" if "." in axis else text


def _runs(paths: Iterable[Path], troubles: list[Trouble]) -> list[RunRecord]:
    read = [run for path in paths if (run := read_run(path, troubles)) is not None]
    return _distinct(read, troubles)


def read_run(path: Path, troubles: list[Trouble], *, died: str = "") -> RunRecord | None:
    """The run in a directory, or None if it tells nothing; what is wrong with it is added to `troubles`.

    `died` is the error that ended it, if that is known from elsewhere.
    """
    directory, where = RunDir(path), str(path)
    try:
        config, records = directory.config(), directory.metrics()
        for values in (config.flat(), *records):
            _refuse_endless(values, where)
    except (EqcrlError, ValueError) as error:  # a number of thousands of digits is a ValueError of Python's own
        if died:
            troubles.append(Trouble(where, "dead", died))
        troubles.append(Trouble(where, "broken", f"{error}\n{NOWHERE}"))
        return None
    try:
        header = directory.header()
    except EqcrlError as error:
        troubles.append(Trouble(where, "incomplete", f"{error.message} With which versions it was made is not known."))
        header = {}
    if _cut_short(directory.metrics_file):
        reason = f"The last line of {directory.metrics_file} was cut short, and is left out."
        troubles.append(Trouble(where, "incomplete", reason))
    run = RunRecord(path, config, header, records, died or _diverged(header))
    trouble = _state(run)
    if trouble is not None:
        troubles.append(trouble)
    return None if run.last("env_steps") is None else run


def _refuse_endless(values: Mapping[str, Any], where: str) -> None:
    """Raises: RunError for an integer beyond floating point, as only damage leaves behind; no figure could take it."""
    for key, value in values.items():
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise RunError(f"{key} in {where} is a number of more than {MOST_BITS} bits.", mend="Restore the file.")


def _diverged(header: Mapping[str, Any]) -> str:
    """What training said when it met values that are not finite, and was not continued since."""
    noted = header.get("diverged")
    return str(noted.get("message") or "Training diverged.") if isinstance(noted, Mapping) else ""


def _state(run: RunRecord) -> Trouble | None:
    """Why the run has no final score, or None if it has."""
    where, steps, planned = str(run.path), run.last("env_steps"), run.config.train.total_env_steps
    if steps is None:
        kind, reason = ("dead", run.died) if run.died else ("no evaluation", "It has recorded nothing yet.")
        return Trouble(where, kind, f"{reason}\n{NOWHERE}")
    if run.finished():
        return None
    far = f"Its last evaluation was at {steps:,.0f} of {planned:,} environment steps ({steps / planned:.0%}). {SECOND}"
    if run.died:
        return Trouble(where, "dead", f"{run.died}\n{far}")
    busy = " A process seems to be training it." if (run.path / HOLDER).exists() else ""
    return Trouble(where, "unfinished", f"{far}{busy}\n`eqcrl train --resume {run.path}` continues it.")


def _cut_short(metrics: Path) -> bool:
    """Whether the file ends in the midst of a line."""
    text = metrics.read_bytes() if metrics.is_file() else b""
    return bool(text) and not text.endswith(b"\n")


def _distinct(runs: Iterable[RunRecord], troubles: list[Trouble]) -> list[RunRecord]:
    """One run for each configuration and seed, the longest: twice the same seed is no second sample."""
    kept: dict[str, RunRecord] = {}
    for run in runs:
        identity = run.config.to_toml()
        other = kept.setdefault(identity, run)
        if other is run:
            continue
        longer = max(other, run, key=lambda r: r.last("env_steps") or 0.0)  # the first of two equal ones
        dropped = run if longer is other else other
        kept[identity] = longer
        reason = (
            f"It has the same configuration and the same seed {run.config.seed} as {longer.path}; only that counts."
        )
        troubles.append(Trouble(str(dropped.path), "duplicate", reason))
    return list(kept.values())
