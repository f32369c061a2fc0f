"""What a sweep searches: for each axis a list of choices or a range, and how a point of it is drawn."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eqcrl.config import PART_KINDS, static_settings
from eqcrl.errors import ConfigError, did_you_mean
from eqcrl.jobs.axes import Check, read_choices, written
from eqcrl.jobs.keys import Scalar, is_key, normal
from eqcrl.jobs.setting import Choice

RangeKind = Literal["uniform", "log_uniform", "integers", "log_integers"]
STEP = "step"
DIGITS = 6
"""Of a number that was drawn; more would only make names and commands long."""


@dataclass(frozen=True)
class Choices:
    """One of these."""

    axis: str
    values: tuple[Choice, ...]

    def sets(self) -> list[str]:
        """The dotted keys that it sets."""
        return list(dict.fromkeys(key for choice in self.values for key in choice.sets))

    def at(self, u: float) -> Choice:
        """The choice at u in [0, 1), all as likely."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def ends(self) -> tuple[Choice, ...]:
        """Every choice."""
        return self.values

    def written(self) -> Any:
        """As it stands in a file."""
        return [written(self.axis, choice) for choice in self.values]


@dataclass(frozen=True)
class Range:
    """A number between two others, both included."""

    axis: str
    kind: RangeKind
    low: float
    high: float
    step: int = 1

    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return self.kind in ("integers", "log_integers")

    def log(self) -> bool:
        """Whether equal ratios are as likely."""
        return self.kind in ("log_uniform", "log_integers")

    def sets(self) -> list[str]:
        """The one key that it sets."""
        return [self.axis]

    def at(self, u: float) -> Choice:
        """The choice at u in [0, 1): `low + u (high - low)`, or `low (high / low)^u`, rounded."""
        if self.kind == "integers":
            steps = int(self.high - self.low) // self.step + 1
            return self.choice(self.low + self.step * min(int(u * steps), steps - 1))
        # Every whole number stands for the interval half below to half above.
        margin = 0.5 if self.whole() else 0.0
        low, high = self.low - margin, self.high + margin
        return self.choice(low * (high / low) ** u if self.log() else low + u * (high - low))

    def choice(self, value: float) -> Choice:
        """A value, rounded and kept within the range."""
        if self.whole():
            kept: Scalar = int(min(max(round(value), self.low), self.high))
        else:
            kept = float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))
        return Choice(kept, {self.axis: kept})

    def ends(self) -> tuple[Choice, ...]:
        """The lowest and the highest value."""
        steps = (self.high - self.low) // self.step if self.kind == "integers" else None
        return self.choice(self.low), self.choice(self.high if steps is None else self.low + self.step * steps)

    def written(self) -> Any:
        """As it stands in a file."""
        ends = [int(e) if self.whole() else e for e in (self.low, self.high)]
        return {self.kind: ends, **({STEP: self.step} if self.step != 1 else {})}


Axis = Choices | Range


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Axes by their dotted names; a table that holds a kind of range is one, any other is part of the name."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and not value.keys() & {*get_args(RangeKind), STEP}:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_axis(name: str, value: Any, origin: str, check: Check) -> Axis:
    """An axis of a sweep file. Raises: ConfigError for one that is empty, out of range or of the wrong type."""
    head, _, rest = name.partition(".")
    if head in PART_KINDS and "." in rest:  # parameters of parts have no dots
        raise ConfigError(
            f"{origin}: there is no kind of range {name.rpartition('.')[2]!r}.",
            mend=did_you_mean(name.rpartition(".")[2], get_args(RangeKind)),
        )
    if isinstance(value, Mapping):
        return _read_range(name, value, origin, check)
    return Choices(normal(name) if is_key(name) else name, read_choices(name, value, origin, check))


def _read_range(name: str, tree: Mapping[str, Any], origin: str, check: Check) -> Range:
    kinds: list[RangeKind] = [kind for kind in get_args(RangeKind) if kind in tree]
    foreign = [key for key in tree if key not in (*get_args(RangeKind), STEP)]
    if len(kinds) != 1 or foreign:
        raise ConfigError(
            f"{origin}: the axis `{name}` is no range: it has {', '.join(map(repr, tree))}.",
            mend="Write uniform, log_uniform, integers or log_integers = [low, high]; integers may have a step.",
        )
    kind, ends = kinds[0], tree[kinds[0]]
    if not isinstance(ends, list) or len(ends) != 2 or not all(_is_number(e) for e in ends):
        raise ConfigError(
            f"{origin}: `{name}.{kind} = {ends!r}` is not two numbers.", mend=f"Write {{ {kind} = [low, high] }}."
        )
    step = tree.get(STEP, 1)
    whole_step = isinstance(step, int) and not isinstance(step, bool) and step >= 1
    found = Range(normal(name), kind, *ends, step=step if whole_step else 1)
    problem = _problem(found) if whole_step else (f"a step of {step!r} is none.", "Give a whole number from 1 on.")
    if problem is None and STEP in tree and kind != "integers":
        problem = "only integers have a step.", "Leave out the step."
    if problem:
        raise ConfigError(f"{origin}: the axis `{name}`: {problem[0]}", mend=problem[1])
    for end in ends:
        check(name, end, origin)
    return found


def _problem(found: Range) -> tuple[str, str] | None:
    if not all(math.isfinite(e) for e in (found.low, found.high)):
        return "its ends are not finite.", "Give two finite numbers."
    if found.low >= found.high:
        return f"{found.low} is not below {found.high}.", "Write the lower end first; one value is a list of one."
    if found.log() and found.low <= 0:
        return f"a logarithmic range cannot begin at {found.low}.", "Begin above 0, or leave out the logarithm."
    whole = isinstance(found.low, int) and isinstance(found.high, int)
    if found.whole() and not whole:
        return "its ends are not whole numbers.", "Write whole numbers, or take uniform or log_uniform."
    setting = static_settings().get(found.axis)
    if setting is not None and setting.type_name() == "int" and not found.whole():
        return "it takes whole numbers only.", "Take integers or log_integers."
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def corners(axes: Sequence[Axis]) -> list[dict[str, Choice]]:
    """Points that are tried out before anything runs: all first values, then every other end of each axis alone, then
    all last values together."""
    first = {axis.axis: axis.ends()[0] for axis in axes}
    found = [first] + [first | {axis.axis: end} for axis in axes for end in axis.ends()[1:]]
    last = {axis.axis: axis.ends()[-1] for axis in axes}
    return found if last in found else [*found, last]
