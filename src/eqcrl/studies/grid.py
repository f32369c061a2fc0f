"""From a study to its settings: every combination of the values of its axes, each a configuration of its own."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from eqcrl.errors import ConfigError, UsageError, did_you_mean
from eqcrl.jobs.setting import Choice, Setting, make_setting, word
from eqcrl.studies.spec import Study


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
                f"{study.place()}: {same[identity]} and {setting.slug} are the same configuration.",
                mend="Let every combination of the axes be another one.",
            )
        same[identity] = setting.slug
        found.append(setting)
    return found


def _setting(study: Study, choices: Mapping[str, Choice]) -> Setting:
    slug = "_".join(word(axis, choice.label) for axis, choice in choices.items()) or "all"
    return make_setting(study, slug, choices, study.preset, study.settings, "the study")


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
