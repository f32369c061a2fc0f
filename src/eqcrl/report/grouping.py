"""Runs in their places: environments are never mixed, seeds of one setting belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eqcrl.config import Config, Part, difference
from eqcrl.plots import group_runs
from eqcrl.report.collect import RunRecord

LONGEST = 60
"""Characters of a label; a longer one leaves out what is not needed to tell the settings apart."""


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed only, in the order of it."""

    label: str
    runs: list[RunRecord]

    def counted(self) -> list[RunRecord]:
        """The finished ones; if there are none (`provisional`), those that did not die; else all."""
        finished = [run for run in self.runs if run.finished()]
        return finished or [run for run in self.runs if not run.died] or self.runs

    def provisional(self) -> bool:
        """Whether no run has finished, so that every number is one of the way and not of the end."""
        return not any(run.finished() for run in self.runs)


@dataclass(frozen=True)
class Environment:
    """The settings that were trained and evaluated in one environment."""

    label: str
    settings: list[Setting]


def environments(runs: Sequence[RunRecord]) -> list[Environment]:
    """Runs by environment, and there by setting; a setting has the same label in every environment.

    An environment is its name with all parameters, and where it is evaluated.
    """
    if not runs:
        return []
    inside: dict[str, list[RunRecord]] = {}
    for run in runs:
        inside.setdefault(_env_key(run.config), []).append(run)
    of_study = all(run.axes for run in runs)
    names = _axis_labels(list(inside.values())) if of_study else _config_labels([run.config for run in runs])
    found = []
    for key, label in _env_labels({key: held[0].config for key, held in inside.items()}).items():
        members: dict[str, list[RunRecord]] = {name: [] for name in names.values()}
        for run in sorted(inside[key], key=lambda r: r.config.seed):
            members[names[_axis_key(run) if of_study else _setting_key(run.config)]].append(run)
        found.append(Environment(label, [Setting(name, held) for name, held in members.items() if held]))
    return found


def _axis_key(run: RunRecord) -> str:
    return repr(dict(run.axes))


def _axis_labels(inside: Sequence[Sequence[RunRecord]]) -> dict[str, str]:
    """Label by axes, in the order of the study: the values of those axes that vary within some environment."""
    runs = [run for held in inside for run in held]
    varied = [a for a in runs[0].axes if any(len({run.axes.get(a) for run in held}) > 1 for held in inside)]
    told = {_axis_key(run): ", ".join(run.axes[a] for a in varied if a in run.axes) for run in runs}
    return {key: label or _name(runs[0].config) for key, label in told.items()}


def _env_key(config: Config) -> str:
    return Config(env=config.env, eval_env=config.eval_env).to_toml()


def _setting_key(config: Config) -> str:
    return _without_env(config).to_toml()


def _without_env(config: Config) -> Config:
    return config.replace(seed=0, env=Part(""), eval_env=None, trackers=())


def _env_labels(keys: Mapping[str, Config]) -> dict[str, str]:
    """The name of each environment; with the parameters that tell those of one name apart."""
    labels = {}
    for key, config in keys.items():
        same = [other for other in keys.values() if other.env.name == config.env.name]
        apart = {k for other in same for k in difference(_env_only(config), _env_only(other))}
        told = _told([_env_only(other).flat() for other in same], sorted(apart))[same.index(config)]
        labels[key] = f"{config.env.name} ({told})" if told else config.env.name
    return labels


def _env_only(config: Config) -> Config:
    return Config(env=config.env, eval_env=config.eval_env)


def _config_labels(configs: Sequence[Config]) -> dict[str, str]:
    """Label by what differs in the configurations, in the order of its values."""
    distinct = {_setting_key(config): config for config in configs}
    if len(distinct) == 1:
        return {key: _name(config) for key, config in distinct.items()}
    ordered = group_runs([(_without_env(config), key) for key, config in distinct.items()])
    if max(map(len, ordered)) <= LONGEST:
        return {key: label for label, (key,) in ordered.items()}
    configs = [_without_env(distinct[key]) for (key,) in ordered.values()]
    labels = _told([config.flat() for config in configs], differing_keys(configs))
    return {key: label for (key,), label in zip(ordered.values(), labels, strict=True)}


def _told(flats: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """A label for each configuration, with all the keys; if one becomes too long, with as few as tell all apart."""

    def labels(keys: Sequence[str]) -> list[str]:
        return [", ".join(f"{k}={flat[k]}" for k in keys if k in flat) for flat in flats]

    kept = list(keys)
    if max(map(len, labels(kept))) > LONGEST:
        for key in reversed(keys):
            fewer = [k for k in kept if k != key]
            if len(set(labels(fewer))) == len(flats):
                kept = fewer
    return labels(kept)


def _name(config: Config) -> str:
    depth = config.arch.params.get("depth")
    return f"{config.agent.name}, {config.arch.name}{f'-{depth}' if depth else ''}"


def differing_keys(configs: Sequence[Config]) -> list[str]:
    """Dotted keys on which the configurations differ, beside the seed, in the order of the configuration."""
    apart = {key for config in configs[1:] for key in difference(configs[0], config, ignore=("seed",))}
    ordered = dict.fromkeys(key for config in configs for key in config.flat())
    return [key for key in ordered if key in apart]


def numeric_axis(settings: Sequence[Setting]) -> tuple[str, list[float]] | None:
    """The key and its values if the settings differ, beside the environment, in one number alone."""
    keys = differing_keys([_without_env(s.runs[0].config) for s in settings])
    if len(keys) != 1:
        return None
    values: list[Any] = [s.runs[0].config.flat().get(keys[0]) for s in settings]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    return keys[0], [float(v) for v in values]
