"""How a configuration names trackers: `tracker` has the names, `tracker.NAME.PARAM` what is set for them."""

from collections.abc import Mapping
from typing import Any

from eqcrl.errors import ConfigError

TRACKER, NAMES = "tracker", "names"
"""The section of a file that chooses trackers, and its key with their names; `tracker` alone will do too."""


def tracker_of(key: str) -> str:
    """`tracker.csv.folder` -> `csv`; the name may hold dots, as that of a distribution may."""
    return key.removeprefix(f"{TRACKER}.").rpartition(".")[0]


def names_in(value: Any, origin: str) -> list[str]:
    """A list of names, or text with commas; `none` stands for none. Raises: ConfigError for anything else."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{origin}: `{TRACKER} = {value!r}` is no list of names.", mend="`eqcrl list tracker` shows the names."
        )
    return list(dict.fromkeys(name.strip() for name in names if name.strip() not in ("", "none")))


def params_by_name(values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What is set for each tracker, in their order. Raises: ConfigError for one that is not chosen."""
    named: dict[str, dict[str, Any]] = {name: {} for name in values.get(TRACKER, [])}
    for key in [k for k in values if k.startswith(f"{TRACKER}.")]:
        if tracker_of(key) not in named:
            raise ConfigError(
                f"{origins[key]}: `{key}` is set, but no tracker {tracker_of(key)!r} is chosen.",
                mend=f"Add --{TRACKER} {tracker_of(key)}, or to {NAMES} under [{TRACKER}].",
            )
        named[tracker_of(key)][key.rpartition(".")[2]] = values[key]
    return named
