"""What was run and with what: settings that differ, configurations in full, versions and commands."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from eqcrl.config import Config
from eqcrl.report.collect import RunRecord
from eqcrl.report.grouping import Environment, differing_keys

ABSENT = "\N{EM DASH}"


@dataclass(frozen=True)
class Cell:
    """A value, marked if it is not that of the first row."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Differences:
    """Rows by name; the columns are what differs, and `common` is what does not."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    common: dict[str, str]


def contrast(facts: Sequence[tuple[str, Mapping[str, str]]], columns: Sequence[str] | None = None) -> Differences:
    """The facts that are not the same in every row, beside those that are; `columns` orders them."""
    keys = list(columns or dict.fromkeys(key for _, row in facts for key in row))
    apart = [key for key in keys if len({row.get(key) for _, row in facts}) > 1]
    first = facts[0][1] if facts else {}
    rows = [
        (name, [Cell(row.get(key, ABSENT), row.get(key) != first.get(key)) for key in apart]) for name, row in facts
    ]
    return Differences(apart, rows, {key: first[key] for key in keys if key not in apart and key in first})


def setting_differences(environments: Sequence[Environment]) -> Differences:
    """Every setting on which runs differ beside the seed, a row for each environment and setting."""
    where = {env.label: f" on {env.label}" if len(environments) > 1 else "" for env in environments}
    named = [(s.label + where[env.label], s.runs[0].config) for env in environments for s in env.settings]
    keys = differing_keys([config for _, config in named])
    every = list(dict.fromkeys(key for _, config in named for key in config.flat() if key != "seed"))
    ordered = keys + [key for key in every if key not in keys]
    return contrast([(name, texts(config)) for name, config in named], ordered)


def texts(config: Config) -> dict[str, str]:
    """Every setting but the seed by its dotted key, values as config.toml has them, text without quotes."""
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in config.flat().items()
        if key != "seed"
    }


def provenance(runs: Sequence[RunRecord]) -> Differences:
    """Versions, revision and machine of every run."""
    return contrast([(str(run.path), _origin(run.header)) for run in runs])


def _origin(header: Mapping[str, Any]) -> dict[str, str]:
    versions = header.get("versions")
    facts = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, Mapping) else {}
    devices = header.get("devices")
    facts["devices"] = ", ".join(map(str, devices)) if isinstance(devices, list) else ABSENT
    for key in ("git_revision", "platform"):
        facts[key.replace("_", " ")] = str(header.get(key) or ABSENT)
    return facts


def command(header: Mapping[str, Any]) -> str:
    """What was typed, as far as it was recorded; the program is called by its name."""
    argv = header.get("argv")
    if not isinstance(argv, list) or not argv:
        return ""
    program = PurePath(str(argv[0])).name
    words = ["eqcrl" if program in ("eqcrl", "__main__.py") else program, *map(str, argv[1:])]
    return shlex.join(words)


def started(header: Mapping[str, Any]) -> str:
    """When the run began, to the minute."""
    return minute(str(header["started"])) if header.get("started") else "not recorded"


def minute(time: str) -> str:
    """`2026-01-31 23:59` of a time in ISO 8601."""
    return time[:16].replace("T", " ")


def together(header: Mapping[str, Any]) -> str:
    """The other seeds that were trained in the same program, such as `1, 2`."""
    seeds = header.get("seeds_together")
    return ", ".join(str(s) for s in seeds if s != header.get("seed")) if isinstance(seeds, list) else ""


def resumed(header: Mapping[str, Any]) -> int:
    """How often the run was continued."""
    notes = header.get("resumed")
    return len(notes) if isinstance(notes, list) else 0
