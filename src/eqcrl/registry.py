"""Finding parts by name through entry points: list without importing, load one at a time, fail loudly.

Built-ins and third parties are found the same way. This module imports no JAX.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

from eqcrl.errors import BrokenPlugin, NameConflict, UnknownName, did_you_mean

# What one part of a group is called in messages and on the command line.
GROUPS: dict[str, str] = {
    "env": "eqcrl.envs",
    "physics": "eqcrl.physics",
    "block": "eqcrl.blocks",
    "arch": "eqcrl.archs",
    "energy": "eqcrl.energies",
    "loss": "eqcrl.losses",
    "relabeller": "eqcrl.relabellers",
    "actor-goals": "eqcrl.actor_goals",
    "agent": "eqcrl.agents",
    "preset": "eqcrl.presets",
    "study": "eqcrl.studies",
    "launcher": "eqcrl.launchers",
    "tracker": "eqcrl.trackers",
    "command": "eqcrl.commands",
}

# "resnet-1024" is the part "resnet" with this parameter set to 1024.
NUMBERED: dict[str, str] = {"arch": "depth"}


@dataclass(frozen=True)
class Entry:
    """One declared part: where it comes from, not yet imported."""

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: metadata.EntryPoint = field(repr=False, compare=False)

    def qualified(self) -> str:
        """The name that is unambiguous whatever else is installed: `distribution/name`."""
        return f"{self.distribution}/{self.name}"

    def origin(self) -> str:
        """Distribution, version and import path, for messages."""
        return f"{self.distribution} {self.version} ({self.entry_point.value})"


@dataclass(frozen=True)
class Reference:
    """What a name means: an entry, and the parameters that the name itself carries."""

    entry: Entry
    params: dict[str, Any]


def group_of(kind: str) -> str:
    """The entry-point group of a kind of part; raises UnknownName for a kind that does not exist."""
    if kind not in GROUPS:
        raise UnknownName(f"There is no kind of part called {kind!r}.", mend=did_you_mean(kind, GROUPS))
    return GROUPS[kind]


@cache
def _entries_of_group(group: str, kind: str) -> tuple[Entry, ...]:
    found = []
    for point in metadata.entry_points(group=group):
        dist = point.dist
        name, version = (dist.name, dist.version) if dist is not None else ("unknown", "?")
        found.append(Entry(kind, point.name, name, version, point))
    return tuple(sorted(found, key=lambda e: (e.name, e.distribution)))


def entries(kind: str) -> tuple[Entry, ...]:
    """All declared parts of a kind, sorted by name, read from metadata only (nothing is imported)."""
    return _entries_of_group(group_of(kind), kind)


def refresh() -> None:
    """Forget what was read from metadata (after a distribution was installed in this process)."""
    _entries_of_group.cache_clear()


def _exact(kind: str, name: str) -> Entry | None:
    known = entries(kind)
    qualified = next((e for e in known if e.qualified() == name), None)
    if qualified is not None:
        return qualified
    offers = [e for e in known if e.name == name]
    if len(offers) > 1:
        choices = " or ".join(repr(e.qualified()) for e in offers)
        raise NameConflict(
            f"{len(offers)} installed distributions offer the {kind} {name!r}: "
            + "; ".join(e.origin() for e in offers)
            + ".",
            mend=f"Write {choices}, or uninstall one of them.",
        )
    return offers[0] if offers else None


def resolve(kind: str, name: str) -> Reference:
    """What `name` refers to, e.g. `resnet-1024` -> (`resnet`, depth=1024). Imports nothing.

    Raises: UnknownName (with the nearest names), NameConflict.
    """
    entry = _exact(kind, name)
    if entry is not None:
        return Reference(entry, {})
    numbered = re.fullmatch(r"(.+)-(\d+)", name)
    if kind in NUMBERED and numbered:
        entry = _exact(kind, numbered[1])
        if entry is not None:
            return Reference(entry, {NUMBERED[kind]: int(numbered[2])})
    known = {e.name for e in entries(kind)} | ({e.qualified() for e in entries(kind)} if "/" in name else set())
    raise UnknownName(
        f"There is no {kind} called {name!r}.",
        mend=f"{did_you_mean(name, known)} `eqcrl list {kind}` shows every one that is installed.",
    )


def load_entry(entry: Entry) -> Any:
    """Import the one object behind an entry.

    Raises: BrokenPlugin, naming the distribution and version, whatever the import raised.
    """
    try:
        return entry.entry_point.load()
    except Exception as error:
        raise BrokenPlugin(
            f"The {entry.kind} {entry.name!r} of {entry.origin()} cannot be loaded: {type(error).__name__}: {error}",
            mend=f"Other parts are not affected. Repair, upgrade or uninstall {entry.distribution}.",
        ) from error


def load(kind: str, name: str) -> Any:
    """Import the object of that name. Raises: UnknownName, NameConflict, BrokenPlugin."""
    return load_entry(resolve(kind, name).entry)
