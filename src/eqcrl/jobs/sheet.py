"""A TOML file that says what many runs should do, read so that every message names file and line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eqcrl.config import static_settings
from eqcrl.errors import ConfigError, did_you_mean
from eqcrl.settings import coerce
from eqcrl.toml import line_of, read_toml

T = TypeVar("T", bound=msgspec.Struct)


class Sheet:
    """Text and tree of a file; `what` is `study` or `sweep`, described by the page `page`."""

    def __init__(self, path: Path, what: str, page: str):
        self.path = path
        self.what = what
        self.page = page
        self.text, self.tree = read_toml(path)

    def at(self, *dotted: str) -> str:
        """`file:line` of the first of the keys that the text sets."""
        return f"{self.path}{next((line for key in dotted if (line := line_of(self.text, key))), '')}"

    def converted(self, tree: Any, kind: type[T], prefix: str) -> T:
        """The tree as a structure. Raises: ConfigError for a value of another type."""
        try:
            return msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:
            detail, _, place = str(error).partition(" - at ")
            key = prefix + re.sub(r"\[[^]]*\]", "", place.strip("`").removeprefix("$")).strip(".")
            raise ConfigError(
                f"{self.at(key)}: `{key}` does not fit: {detail}.", mend=f"{self.page} describes the file."
            ) from None

    def known(self, tree: Any, kind: type[msgspec.Struct], prefix: str) -> None:
        """Raises: ConfigError for a key that the structure does not have, with the nearest one."""
        names = [f.name for f in msgspec.structs.fields(kind)]
        for key in tree if isinstance(tree, Mapping) else ():
            if key not in names:
                raise ConfigError(
                    f"{self.at(f'{prefix}{key}')}: a {self.what} has no `{prefix}{key}`.",
                    mend=did_you_mean(key, names),
                )


def checked_seeds(given: int | list[int], where: str, what: str) -> tuple[int, ...]:
    """The seeds that a number or a list of them means. Raises: ConfigError for none, or for one that is named twice."""
    chosen = tuple(range(given)) if isinstance(given, int) else tuple(given)
    if not chosen:
        raise ConfigError(
            f"{where}: a {what} of no seeds has no runs.", mend="Give at least one; 3 or more make an interval."
        )
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{where}: a seed is named twice.", mend="Name each seed once.")
    return tuple(coerce(s, static_settings()["seed"], key="seeds", origin=where) for s in chosen)
