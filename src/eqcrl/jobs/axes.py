"""Axes with their values, as studies and sweeps have them: keys of the configuration, or keys that move together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eqcrl.config import static_settings
from eqcrl.errors import ConfigError
from eqcrl.jobs.keys import LABEL, PRESET, Scalar, flatten, is_key, normal
from eqcrl.jobs.setting import Choice
from eqcrl.settings import unknown_key

Check = Callable[[str, Any, str], Scalar]
"""(key, value, origin) -> the value, of its type."""


def read_choices(axis: str, values: Any, origin: str, check: Check) -> tuple[Choice, ...]:
    """The values of an axis. Raises: ConfigError for none, for one that is there twice, and what `check` raises."""
    if not isinstance(values, list):
        raise ConfigError(f"{origin}: the axis `{axis}` is not a list.", mend="Write its values as [a, b, c].")
    if not values:
        raise ConfigError(f"{origin}: the axis `{axis}` is empty.", mend="Give it values, or leave it out.")
    choices = tuple(_choice(axis, value, origin, check) for value in values)
    labels = [str(c.label) for c in choices]
    twice = next((x for x in labels if labels.count(x) > 1), None)
    if twice is not None:
        raise ConfigError(f"{origin}: the axis `{axis}` has {twice!r} twice.", mend="Name each value once.")
    return choices


def _choice(axis: str, value: Any, origin: str, check: Check) -> Choice:
    if is_key(axis):
        checked = check(axis, value, origin)
        return Choice(checked, {normal(axis): checked})
    if not isinstance(value, Mapping):
        raise unknown_key(axis, [*static_settings(), PRESET], origin=origin)
    sets = flatten(value)
    label = sets.pop(LABEL, None)
    if not sets:
        raise ConfigError(
            f"{origin}: a value of the axis `{axis}` sets nothing.", mend="Write settings into it, or leave it out."
        )
    checked_all = {normal(k): check(k, v, origin) for k, v in sets.items()}
    if label is None:
        label = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in checked_all.items())
    if not isinstance(label, str | int | float):
        raise ConfigError(f"{origin}: the label {label!r} is neither text nor a number.", mend="Write it as text.")
    return Choice(label, checked_all)


def claim(owner: dict[str, str], axis: str, keys: Sequence[str], origin: str) -> None:
    """Note in `owner` that the axis sets these keys. Raises: ConfigError if another axis does."""
    for key in keys:
        if owner.setdefault(key, axis) != axis:
            raise ConfigError(
                f"{origin}: the axes `{owner[key]}` and `{axis}` both set `{key}`.",
                mend="Let one axis set it; keys that move together belong in the tables of one axis.",
            )


def written(axis: str, choice: Choice) -> Any:
    """A value as it stands in a file."""
    return choice.label if is_key(axis) else {LABEL: choice.label, **choice.sets}
