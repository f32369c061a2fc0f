"""What got slower since earlier versions, beyond noise.

    python -m benchmarks.compare [RECORD] [--against FOLDER]

Compared are ratios to the baseline of the same run, never seconds, and the exact sizes of temporaries. RECORD is the
last one of benchmarks/results if not said; each of its cases meets the newest earlier record that has the same case
against the same baseline, one of the same machine and the same versions where there is one.

Exit status 1 if a case got slower or needs more temporaries, else 0: also if there is nothing to compare with, which
is said.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scipy.special import stdtrit

from benchmarks import records
from benchmarks.records import Case, Record

Clock = Literal["cpu_ratio", "ratio"]
CLOCKS: dict[Clock, str] = {"cpu_ratio": "CPU time", "ratio": "wall time"}

SLOWER = 0.10
"""A ratio must lose at least this part, whatever the rounds say: runs of one program differ by a few percent, though
the rounds within each agree."""
SHORT, SLOWER_SHORT = 1e-3, 0.50
"""The same for calls that take less than so many seconds: beside other work their ratios were seen to move by a factor
of 1.6."""
OTHER_CLOCK = 0.25
"""The same for the clock that is the less steady one: it still sees, for instance, work that no longer runs in
parallel, which costs no processor time."""
UNKNOWN_SPREAD = 0.25
"""The same where there were no rounds to tell the spread from."""
COMPILE = 0.50
"""The same for compile times that were taken once."""
CONFIDENCE = 0.995
"""One-sided, of a difference: with 30 cases in a run one false alarm in six runs, were it not for `SLOWER`."""
MORE_MEMORY = 0.01
"""Temporaries may grow by this part, and by a page: small ones depend on the number of cores."""
PAGE = 2**16

SAME = ("jax", "jaxlib", "mujoco", "mujoco-mjx")
"""Versions that matter to ratios."""


@dataclass(frozen=True)
class Change:
    """A figure beside that of an earlier record; `factor` above 1 is better: faster, or smaller."""

    case: str
    what: str
    before: float
    now: float
    factor: float
    noise: float
    """The factor that noise may make, at least 1."""
    since: Record

    def worse(self) -> bool:
        """Beyond noise."""
        return self.factor * self.noise < 1.0

    def better(self) -> bool:
        """Beyond noise."""
        return self.factor > self.noise

    def __str__(self) -> str:
        """For people."""
        unit = " MiB" if self.what == "temporaries" else ""
        by = f"{(1 / self.factor if self.factor < 1 else self.factor):.2f} times"
        how = {"temporaries": ("more", "less")}.get(self.what, ("slower", "faster"))[self.factor > 1]
        return (
            f"{self.case}: {by} {how} ({self.what} {self.before:,.3g}{unit} -> {self.now:,.3g}{unit}; noise makes up "
            f"to {self.noise:.2f}; since {self.since.label()})"
        )


@dataclass(frozen=True)
class Comparison:
    """A record beside the earlier ones."""

    worse: list[Change]
    better: list[Change]
    drifted: list[Change]
    """Worse than the best of the earlier records of this machine, though not than the last."""
    same: int
    """Figures that are what they were."""
    new: list[str]
    """Cases that no earlier record has, or with another baseline only."""
    vanished: list[str]
    """Cases of the newest earlier record that this one does not have."""
    differences: list[str]
    """Of machine and versions, to the records that were compared with."""


def differences(one: Record, other: Record) -> list[str]:
    """How machine and versions of an earlier record, `one`, differ."""
    found = []
    if one.machine != other.machine:
        found.append(f"machine {one.machine} -> {other.machine}")
    for name in SAME:
        before, now = (record.versions.get(name, "unknown") for record in (one, other))
        if before != now:
            found.append(f"{name} {before} -> {now}")
    return found


def nearest(earlier: Sequence[Record], now: Record) -> Record | None:
    """The newest of those that are of the same machine and versions; of the same machine; of any. `earlier` is oldest
    first."""
    for alike in (
        [record for record in earlier if not differences(record, now)],
        [record for record in earlier if record.machine == now.machine],
        list(earlier),
    ):
        if alike:
            return alike[-1]
    return None


def same_baseline(one: Case, other: Case) -> bool:
    """Whether ratios mean the same."""
    return (one.baseline_name, one.baseline_kind, one.amount) == (
        other.baseline_name,
        other.baseline_kind,
        other.amount,
    )


def error(case: Case, clock: Clock) -> float | None:
    """Standard error of the logarithm of a median ratio, spread * sqrt(pi / 2 / rounds); None if not known."""
    spread = case.cpu_ratio_spread if clock == "cpu_ratio" else case.ratio_spread
    return None if spread is None or case.rounds < 2 else spread * math.sqrt(math.pi / 2 / case.rounds)


def noise(one: Case, other: Case, clock: Clock, least: float) -> float:
    """The factor by which two runs of one program may differ, at least 1 / (1 - least).

    exp(t sqrt(e1^2 + e2^2)), e the standard errors, t Student's quantile with the degrees of freedom of Welch and
    Satterthwaite.
    """
    errors = error(one, clock), error(other, clock)
    if errors[0] is None or errors[1] is None:
        return 1.0 / (1.0 - max(least, UNKNOWN_SPREAD))
    squares = [e**2 for e in errors if e is not None]
    total = sum(squares)
    if total < 1e-20:  # of rounds without any spread; squares of less would be nothing
        return 1.0 / (1.0 - least)
    freedom = total**2 / sum(s**2 / (c.rounds - 1) for s, c in zip(squares, (one, other), strict=True))
    exponent = float(stdtrit(freedom, CONFIDENCE)) * math.sqrt(total)
    return max(1.0 / (1.0 - least), math.exp(min(exponent, 700.0)))


def speeds(name: str, before: Case, now: Case, since: Record) -> list[Change]:
    """The ratios of a case by each clock, the steadier first."""
    found = []
    for clock, label in CLOCKS.items():
        ratios = (before.cpu_ratio, now.cpu_ratio) if clock == "cpu_ratio" else (before.ratio, now.ratio)
        if ratios[0] is None or ratios[1] is None:
            continue
        spreads = [e for e in (error(before, clock), error(now, clock)) if e is not None]
        # Without rounds, processor time: other processes hardly disturb it.
        unsteady = math.hypot(*spreads) if len(spreads) == 2 else math.inf
        found.append((unsteady, clock, label, ratios))
    found.sort(key=lambda item: item[0])
    changes = []
    short = any(case.ours is not None and case.ours < SHORT for case in (before, now))
    for place, (_, clock, label, (old, new)) in enumerate(found):
        least = max(OTHER_CLOCK if place else SLOWER, SLOWER_SHORT if short else 0.0)
        allowed = noise(before, now, clock, least)
        changes.append(Change(name, f"ratio by {label}", old, new, new / old, allowed, since))
    old, new = before.compile_ratio(), now.compile_ratio()
    if old is not None and new is not None:
        changes.append(Change(name, "ratio of compile times", old, new, new / old, 1.0 / (1.0 - COMPILE), since))
    return changes


def temporaries(name: str, before: Case, now: Case, since: Record) -> list[Change]:
    """The temporaries of a case, where both have them."""
    if before.memory is None or now.memory is None:
        return []
    old, new = before.memory.temporaries, now.memory.temporaries
    allowed = max(1.0 + MORE_MEMORY, (min(old, new) + PAGE) / max(min(old, new), 1))
    # Of sizes that may be none at all.
    factor = max(old, 1) / max(new, 1)
    return [Change(name, "temporaries", old / 2**20, new / 2**20, factor, allowed, since)]


def changes_of(name: str, now: Record, earlier: Sequence[Record]) -> list[Change]:
    """Every figure of a case beside that of the nearest earlier record that has it; empty if none has."""
    case = now.cases[name]
    found = []
    timed = [r for r in earlier if name in r.cases and same_baseline(r.cases[name], case)]
    if since := nearest(timed, now):
        found += speeds(name, since.cases[name], case, since)
    measured = [r for r in earlier if name in r.cases and r.cases[name].memory is not None]
    if since := nearest(measured, now):
        found += temporaries(name, since.cases[name], case, since)
    return found


def drift(name: str, now: Record, earlier: Sequence[Record]) -> Change | None:
    """By the steadier clock, against the best of all earlier records of this machine and these versions."""
    case = now.cases[name]
    alike = [r for r in earlier if name in r.cases and same_baseline(r.cases[name], case) and not differences(r, now)]
    firsts = [found[0] for r in alike if (found := speeds(name, r.cases[name], case, r))]
    worse = [change for change in firsts if change.worse()]
    return min(worse, key=lambda change: change.factor) if worse else None


def compare(now: Record, earlier: Iterable[Record]) -> Comparison:
    """A record beside all that are older than it."""
    before = sorted((r for r in earlier if r.date < now.date), key=lambda record: record.date)
    worse, better, drifted, new, since, same = [], [], [], [], {}, 0
    for name in now.cases:
        changes = changes_of(name, now, before)
        if not changes:
            new.append(name)
            continue
        since |= {change.since.date: change.since for change in changes}
        bad, good = [c for c in changes if c.worse()], [c for c in changes if c.better()]
        worse += bad
        better += good
        same += len(changes) - len(bad) - len(good)
        if not bad and (change := drift(name, now, before)):
            drifted.append(change)
    last = nearest(before, now)
    vanished = [] if last is None else [name for name in last.cases if name not in now.cases]
    told = [f"{record.label()}: {'; '.join(found)}" for record in since.values() if (found := differences(record, now))]
    return Comparison(worse, better, drifted, same, new, vanished, told)


def text(now: Record, found: Comparison) -> str:
    """What is printed."""
    lines = [f"{now.label()}, beside the records of earlier versions"]
    if not (found.worse or found.better or found.same):
        lines.append("There is nothing to compare with: no earlier record has these cases against these baselines.")
    for title, items in (
        ("Slower, or larger:", found.worse),
        ("Faster, or smaller:", found.better),
        ("Slower than the best of the records, though not than the last:", found.drifted),
        ("Compared with records of other machines or versions, so look twice:", found.differences),
        ("Not measured this time:", found.vanished),
        ("New, or with another baseline:", found.new if found.same or found.worse or found.better else []),
    ):
        lines += [title, *(f"  {item}" for item in items)] if items else []
    if found.same:
        lines.append(f"As before, within noise: {found.same} figures.")
    return "\n".join(lines)


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description="Say what got slower since earlier versions, beyond noise.")
    parser.add_argument("record", type=Path, nargs="?", help="default: the last one in benchmarks/results")
    parser.add_argument("--against", type=Path, default=records.KEPT, help="folder of the earlier records")
    arguments = parser.parse_args()
    path = (arguments.record or records.newest(arguments.against)).resolve()
    now = records.read(path)
    earlier = [record for other, record in records.stored(arguments.against) if other.resolve() != path]
    found = compare(now, earlier)
    print(text(now, found))
    if found.worse:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
