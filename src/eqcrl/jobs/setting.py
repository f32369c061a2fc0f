"""One setting of a study or a sweep: a configuration whose runs differ in the seed."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from eqcrl.config import Config
from eqcrl.errors import ConfigError, EqcrlError
from eqcrl.jobs.keys import PRESET, Scalar, is_key

BARE = ("env", "arch", "agent", PRESET)
"""Axes whose values speak for themselves in a name."""
LONGEST = 60
"""Characters of a value in the name of a folder."""


@runtime_checkable
class Planned(Protocol):
    """What settings belong to: a study or a sweep."""

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each dotted key was set, for messages."""
        ...

    def place(self) -> str:
        """What it is called in messages."""
        ...


@dataclass(frozen=True)
class Choice:
    """A value of an axis: what it is called, and the dotted keys that it sets."""

    label: Scalar
    sets: Mapping[str, Scalar]


@dataclass(frozen=True)
class Setting:
    """One combination of values; its runs differ in the seed."""

    slug: str
    values: Mapping[str, Scalar]
    """Axis -> value, or its label where keys move together."""
    preset: str
    overrides: Mapping[str, Scalar]
    config: Config
    """As far as it is known without the parts, seed 0."""

    def flags(self) -> list[str]:
        """The settings as they are given to `eqcrl train`."""
        words = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in self.overrides.items()}
        return ["--preset", self.preset, *(f"--{k.replace('_', '-')}={word}" for k, word in words.items())]


def make_setting(
    plan: Planned,
    slug: str,
    choices: Mapping[str, Choice],
    preset: str,
    settings: Mapping[str, Scalar],
    what: str,
    validate: bool = True,
) -> Setting:
    """The common settings with one choice of each axis over them. Raises: ConfigError, with `validate` if they cannot
    work together.
    """
    overrides = {**settings, **{k: v for c in choices.values() for k, v in c.sets.items()}}
    preset = str(overrides.pop(PRESET, preset))
    try:
        config, _ = Config.merge(preset=preset, overrides=overrides, origin=what)
        if validate:
            config.validate()
    except ConfigError as error:
        raise about(plan, slug, error) from None
    return Setting(slug, {a: c.label for a, c in choices.items()}, preset, overrides, config)


def about(plan: Planned, slug: str, error: EqcrlError) -> ConfigError:
    """The same error, saying which setting it is about."""
    return ConfigError(f"{plan.place()}, setting {slug}: {error.message}", mend=error.mend)


def word(axis: str, label: Scalar) -> str:
    """A value as part of the name of a folder, such as `resnet-64` or `batch_size-128`."""
    text = str(label).lower() if isinstance(label, bool) else str(label)
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.") or "x"
    if len(plain) > LONGEST:
        plain = f"{plain[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return plain if axis in BARE or not is_key(axis) else f"{axis.rpartition('.')[2]}-{plain}"
