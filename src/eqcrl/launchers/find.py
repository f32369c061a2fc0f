"""Launchers by name, with their settings checked."""

import inspect
from collections.abc import Mapping
from typing import Any

from eqcrl import registry
from eqcrl.errors import BrokenPlugin, UnknownName
from eqcrl.launchers.base import AbstractLauncher
from eqcrl.settings import Setting, coerce, signature_of, unknown_key


def launcher_settings(name: str) -> Mapping[str, Setting]:
    """What may be set for a launcher. Raises: UnknownName, NameConflict, BrokenPlugin."""
    return signature_of(_class_of(name)).settings


def checked_settings(name: str, given: Mapping[str, tuple[Any, str]], origin: str) -> dict[str, Any]:
    """Settings of a launcher, each with where it was set, of the right types and within their ranges.

    Raises: ConfigError; UnknownName, saying that it was asked for at `origin`; NameConflict, BrokenPlugin.
    """
    try:
        known = launcher_settings(name)
    except UnknownName as error:
        raise UnknownName(f"{origin}: {error.message}", mend=error.mend) from None
    checked = {}
    for key, (value, where) in given.items():
        if key not in known:
            raise unknown_key(f"launcher.{key}", [f"launcher.{k}" for k in known], origin=where)
        checked[key] = coerce(value, known[key], key=f"launcher.{key}", origin=where)
    return {key: value for key, value in checked.items() if value is not None}


def make_launcher(name: str, settings: Mapping[str, Any]) -> AbstractLauncher:
    """The launcher with these settings, not opened yet. Raises: UnknownName, NameConflict, BrokenPlugin."""
    return _class_of(name)(**settings)


def _class_of(name: str) -> type[AbstractLauncher]:
    entry = registry.resolve("launcher", name).entry
    found = registry.load_entry(entry)
    if not inspect.isclass(found) or not issubclass(found, AbstractLauncher):
        raise BrokenPlugin(
            f"The launcher {name!r} of {entry.origin()} is no launcher.",
            mend="Let its entry point name a class that derives from eqcrl.launchers.base.AbstractLauncher.",
        )
    return found
