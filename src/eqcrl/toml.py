"""Reading TOML so that messages can name the line."""

import re
import tomllib
from pathlib import Path
from typing import Any

from eqcrl.errors import ConfigError


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """The tree that the text describes; `origin` names it in messages. Raises: ConfigError with the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}.", mend="Correct that line.") from None
    # Numbers of thousands of digits, brackets a thousand deep.
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{origin} holds a value that no setting has: {error}.", mend="Write what a person would write."
        ) from None


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and tree of a file. Raises: ConfigError if it cannot be read or is not valid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"The configuration file {path} cannot be read: {reason}.", mend="Give the path of a TOML file."
        ) from None
    return text, parse_toml(text, str(path))


def line_of(text: str, dotted: str) -> str:
    """`:12` for the line on which a dotted key is set, as far as a plain scan can tell; else nothing."""
    wanted = (dotted, f"{dotted}.name")
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        # Keys hold no quotes or hashes of their own, so both can go; values are not looked at.
        key, equals, _ = line.partition("#")[0].partition("=")
        key = re.sub(r"[\s'\"]", "", key)
        if key.startswith("[") and not equals:
            table = key.strip("[]") + "."
        elif equals and table + key in wanted:
            return f":{number}"
    return ""
