"""How many kernels an optimized HLO program launches, read from its text.

After optimization for a GPU every instruction is one launch (fusion, library call, copy) or none (a view of a buffer).
A loop launches its body once per trip; with a known trip count XLA runs it from the host and never evaluates the
condition. Of the branches of a conditional the longest counts.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

# Views, wiring, and the second halves of asynchronous pairs: nothing runs on the device.
FREE = frozenset(
    {
        "add-dependency",
        "after-all",
        "async-done",
        "async-update",
        "bitcast",
        "constant",
        "copy-done",
        "domain",
        "get-tuple-element",
        "opt-barrier",
        "parameter",
        "partition-id",
        "replica-id",
        "tuple",
    }
)
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
NAMED = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = ")
OPCODE = re.compile(r"\s*([\w\-]+)\(")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CALLED = re.compile(r"\b(?:calls|to_apply|called_computation)=%?([\w.\-]+)")
BODY = re.compile(r"\bbody=%?([\w.\-]+)")
CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
BRANCH = re.compile(r"\b(?:true|false)_computation=%?([\w.\-]+)")


@dataclass(frozen=True)
class Loop:
    """A `while`: its trips, and what one trip launches, loops inside included."""

    trips: int
    body: "Launches"


@dataclass
class Launches:
    """What a computation launches when it runs once."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Launches outside loops by kind: fusion, custom-call, copy or the name of another instruction."""
    loops: list[Loop] = field(default_factory=list)
    unbounded: int = 0
    """Loops whose trip count XLA does not know; each is counted as one trip and one evaluation of its condition."""

    @cached_property
    def total(self) -> int:
        """Launches, loops included."""
        return self.kinds.total() + sum(loop.trips * loop.body.total for loop in self.loops)

    def by_kind(self) -> Counter[str]:
        """Launches by kind, loops included."""
        found = Counter(self.kinds)
        for loop in self.loops:
            for kind, count in loop.body.by_kind().items():
                found[kind] += loop.trips * count
        return found

    def all_loops(self) -> Iterator[Loop]:
        """Every loop, outer ones first."""
        for loop in self.loops:
            yield loop
            yield from loop.body.all_loops()

    def add(self, other: "Launches") -> None:
        """Run `other` too."""
        self.kinds += other.kinds
        self.loops += other.loops
        self.unbounded += other.unbounded


def launches(text: str) -> Launches:
    """What the entry computation of an optimized module launches. Raises: ValueError for a text without one."""
    computations, entry = computations_of(text)
    if entry is None:
        raise ValueError("this text has no ENTRY computation; is it the text of an optimized HLO module?")
    known: dict[str, Launches] = {}

    def of(name: str) -> Launches:
        if name not in known:
            known[name] = _launches(computations[name], of)
        return known[name]

    return of(entry)


def computations_of(text: str) -> tuple[dict[str, list[tuple[str, str]]], str | None]:
    """Opcode and line of every instruction by computation, and the name of the entry."""
    computations: dict[str, list[tuple[str, str]]] = {}
    entry, current = None, None
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (named := NAMED.match(line)):
            current.append((_opcode(line, named.end()), line))
    return computations, entry


def _opcode(line: str, start: int) -> str:
    """The name before the operands; `start` is where the result's shape begins, a tuple's in parentheses."""
    if line[start] == "(":
        depth = 0
        for end in range(start, len(line)):
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            if depth == 0:
                break
        start = end + 1
    else:
        start = line.index(" ", start)
    found = OPCODE.match(line, start)
    if found is None:
        raise ValueError(f"no instruction in this line of HLO: {line.strip()[:200]}")
    return found[1]


def _launches(instructions: list[tuple[str, str]], of: Callable[[str], Launches]) -> Launches:
    result = Launches()
    for opcode, line in instructions:
        if opcode in FREE:
            continue
        if opcode == "while":
            body = of(_named(BODY, line))
            trips = TRIPS.search(line)
            result.loops.append(Loop(int(trips[1]) if trips else 1, body))
            result.unbounded += body.unbounded
            if trips is None:
                result.unbounded += 1
                result.add(of(_named(CONDITION, line)))
        elif opcode == "conditional":
            listed = BRANCHES.search(line)
            names = re.findall(r"[\w.\-]+", listed[1]) if listed else BRANCH.findall(line)
            result.add(max(map(of, names), key=lambda branch: branch.total))
        elif opcode in ("call", "async-start"):
            result.add(of(_named(CALLED, line)))
        else:
            result.kinds["copy" if opcode == "copy-start" else opcode] += 1
    return result


def _named(pattern: re.Pattern[str], line: str) -> str:
    """The computation that an attribute names."""
    found = pattern.search(line)
    if found is None:
        raise ValueError(f"this line of HLO names no computation: {line.strip()[:200]}")
    return found[1]
