"""From a study to its settings: every combination of the values of its axes, each a configuration of its own."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eqcrl.config import Config
from eqcrl.errors import ConfigError, EqcrlError, UsageError, did_you_mean
from eqcrl.studies.spec import PRESET, Choice, Scalar, Study, is_key

BARE = ("env", "arch", "agent", PRESET)
"""Axes whose values speak for themselves in a name."""
LONGEST = 60
"""Characters of a value in the name of a folder."""


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


def expand(study: Study) -> list[Setting]:
    """Every combination, the last axis fastest.

    Raises: ConfigError for one that cannot work, or for two that are the same; PluginError.
    """
    found: list[Setting] = []
    same: dict[str, str] = {}
    for combination in itertools.product(*study.axes.values()):
        choices = dict(zip(study.axes, combination, strict=True))
        setting = _setting(study, choices)
        identity = repr(sorted(setting.config.flat().items()))
        if identity in same:
            raise ConfigError(
                f"{_place(study)}: {same[identity]} and {setting.slug} are the same configuration.",
                mend="Let every combination of the axes be another one.",
            )
        same[identity] = setting.slug
        found.append(setting)
    return found


def _setting(study: Study, choices: Mapping[str, Choice]) -> Setting:
    overrides = {**study.settings, **{k: v for c in choices.values() for k, v in c.sets.items()}}
    preset = str(overrides.pop(PRESET, study.preset))
    slug = "_".join(word(axis, choice.label) for axis, choice in choices.items()) or "all"
    try:
        config, _ = Config.merge(preset=preset, overrides=overrides, origin="the study")
        config.validate()
    except ConfigError as error:
        raise about(study, slug, error) from None
    return Setting(slug, {a: c.label for a, c in choices.items()}, preset, overrides, config)


def about(study: Study, slug: str, error: EqcrlError) -> ConfigError:
    """The same error, saying which setting of the study it is about."""
    return ConfigError(f"{_place(study)}, setting {slug}: {error.message}", mend=error.mend)


def _place(study: Study) -> str:
    return f"Study {study.name}" + (f" at scale {study.scale}" if study.scale else "")


def word(axis: str, label: Scalar) -> str:
    """A value as part of the name of a folder, such as `resnet-64` or `batch_size-128`."""
    text = str(label).lower() if isinstance(label, bool) else str(label)
    plain = re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.") or "x"
    if len(plain) > LONGEST:
        plain = f"{plain[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return plain if axis in BARE or not is_key(axis) else f"{axis.rpartition('.')[2]}-{plain}"


def chosen(settings: Sequence[Setting], only: Sequence[str]) -> list[Setting]:
    """Those that `--only AXIS=VALUE` leaves; values of one axis add up.

    Raises: UsageError for an axis or value that the study does not have.
    """
    wanted: dict[str, set[str]] = {}
    for text in only:
        axis, equals, value = text.partition("=")
        axes = list(settings[0].values)
        if not equals or axis not in axes:
            raise UsageError(f"--only {text}: not one of the axes with a value.", mend=did_you_mean(axis, axes))
        known = {_text(s.values[axis]) for s in settings}
        if value not in known:
            raise UsageError(f"--only {text}: the axis has no such value.", mend=did_you_mean(value, known))
        wanted.setdefault(axis, set()).add(value)
    return [s for s in settings if all(_text(s.values[a]) in values for a, values in wanted.items())]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
