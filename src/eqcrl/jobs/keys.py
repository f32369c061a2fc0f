"""Keys of the configuration and their values in the files of studies and sweeps, checked as far as names go."""

from collections.abc import Mapping
from typing import Any

from eqcrl import registry
from eqcrl.config import PART_KINDS, static_settings
from eqcrl.errors import ConfigError, UnknownName, UsageError
from eqcrl.settings import coerce, unknown_key

PRESET = "preset"
"""Stands among the keys of configurations: it may be varied too."""
LABEL = "label"
BUDGET = "train.total_env_steps"

Scalar = bool | int | float | str


def is_key(text: str) -> bool:
    """Whether this is a key of the configuration, or `preset`, rather than a name for keys that move together."""
    head, _, rest = text.partition(".")
    return text == PRESET or text in static_settings() or (head in PART_KINDS and (rest != "" or text in PART_KINDS))


def normal(key: str) -> str:
    """`env.name` is `env`."""
    return key.removesuffix(".name") if key.removesuffix(".name") in PART_KINDS else key


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def checked(key: str, value: Any, origin: str, what: str) -> Scalar:
    """The value, of the right type as far as that can be told without its part; `what` is `study` or `sweep`.

    Raises: ConfigError for a key that does not exist or a value that does not fit, UnknownName for a part.
    """
    known, plain = static_settings(), normal(key)
    if plain == "seed":
        raise ConfigError(f"{origin}: `seed` is no setting of a {what}.", mend="`seeds` says which ones there are.")
    if not is_key(key):
        raise unknown_key(key, [*known, PRESET], origin=origin)
    if not isinstance(value, bool | int | float | str):
        raise ConfigError(
            f"{origin}: `{key} = {value!r}` is not one value.", mend="Give a number, a word, true or false."
        )
    kind = PRESET if plain == PRESET else PART_KINDS.get(plain)
    if kind is not None:
        if not isinstance(value, str):
            raise ConfigError(
                f"{origin}: `{key} = {value!r}` is not the name of a part.", mend=f"`eqcrl list {kind}` shows them."
            )
        _resolved(kind, value, origin)
    elif plain in known:
        return coerce(value, known[plain], key=plain, origin=origin)
    return value


def _resolved(kind: str, name: str, origin: str) -> None:
    try:
        registry.resolve(kind, name)
    except UnknownName as error:
        raise UnknownName(f"{origin}: {error.message}", mend=error.mend) from None


def given_sets(sets: tuple[str, ...]) -> dict[str, str]:
    """What `--set KEY=VALUE` was given. Raises: UsageError for what is not of that form."""
    overrides: dict[str, str] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {text}: not a key with a value.", mend="Write --set train.batch_size=128.")
        overrides[key.replace("-", "_")] = value
    return overrides
