"""The trackers that a configuration names: looked up, their parameters checked. Needs no JAX."""

from collections.abc import Mapping
from typing import Any

from eqcrl import registry
from eqcrl.config import Config, Part
from eqcrl.errors import BrokenPlugin, ConfigError, UnknownName
from eqcrl.settings import REQUIRED, Setting, coerce, signature_of, unknown_key
from eqcrl.trackers.base import AbstractTracker


def settings_of(name: str) -> Mapping[str, Setting]:
    """The parameters of a tracker. Raises: UnknownName, NameConflict, BrokenPlugin."""
    try:
        factory = registry.load("tracker", name)
    except UnknownName as error:
        raise UnknownName(error.message, mend=f"{error.mend} `--tracker none` goes on without.") from None
    if not callable(factory):
        origin = registry.resolve("tracker", name).entry.origin()
        raise BrokenPlugin(f"The tracker {name!r} of {origin} is no class.", mend="Repair its entry point.")
    return signature_of(factory).settings


def checked(part: Part, origins: Mapping[str, str] | None = None) -> Part:
    """The tracker with all its parameters. Raises: ConfigError for one it does not have or that does not fit."""
    settings, origins = settings_of(part.name), origins or {}
    params = {k: s.default for k, s in settings.items() if s.default is not REQUIRED}
    for param, value in part.params.items():
        key = f"tracker.{part.name}.{param}"
        origin = origins.get(key, f"tracker {part.name!r}")
        if param not in settings:
            raise unknown_key(key, [f"tracker.{part.name}.{s}" for s in settings], origin=origin)
        params[param] = coerce(value, settings[param], key=key, origin=origin)
    missing = [f"tracker.{part.name}.{k}" for k in settings if k not in params]
    if missing:
        raise ConfigError(f"The tracker {part.name!r} needs `{missing[0]}`.", mend=f"Set {', '.join(missing)}.")
    return Part(part.name, params)


def complete_trackers(config: Config, origins: Mapping[str, str] | None = None) -> Config:
    """The configuration with every parameter of every tracker. Raises: ConfigError, PluginError."""
    return config.replace(trackers=tuple(checked(part, origins) for part in config.trackers))


def build(part: Part) -> AbstractTracker:
    """A tracker that has not been started. Raises: ConfigError, PluginError."""
    params: dict[str, Any] = dict(checked(part).params)
    tracker = registry.load("tracker", part.name)(**params)
    if not isinstance(tracker, AbstractTracker):
        origin = registry.resolve("tracker", part.name).entry.origin()
        raise BrokenPlugin(
            f"The tracker {part.name!r} of {origin} is a {type(tracker).__name__}, not an "
            "eqcrl.trackers.base.AbstractTracker.",
            mend="Let its class derive from AbstractTracker.",
        )
    return tracker
