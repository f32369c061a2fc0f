"""Describing and checking single settings, for the configuration tree and for the parameters of parts alike.

A setting is an annotation such as `Annotated[int, Meta(ge=1, description="...", extra={"unit": "steps"})]`:
msgspec checks type and range, and the same text becomes the flag's help. This module imports no JAX.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from eqcrl.errors import ConfigError, did_you_mean

REQUIRED = inspect.Parameter.empty
Meta = msgspec.Meta


@dataclass(frozen=True)
class Setting:
    """One named value that a user may set."""

    name: str
    type: Any
    default: Any
    help: str
    unit: str | None

    def type_name(self) -> str:
        """The plain type, as shown in help and in messages."""
        return describe_type(self.type)

    def default_text(self) -> str:
        """The default, as shown in help."""
        return "required" if self.default is REQUIRED else str(self.default)


def _meta(annotation: Any) -> list[msgspec.Meta]:
    if get_origin(annotation) is Annotated:
        return [m for m in get_args(annotation)[1:] if isinstance(m, msgspec.Meta)]
    return []


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def is_scalar_type(annotation: Any) -> bool:
    """Whether a value of this type can be written on a command line (numbers, text, choices, options of them)."""
    plain = _plain(annotation)
    if plain in (bool, int, float, str, type(None)) or get_origin(plain) is Literal:
        return True
    if get_origin(plain) in (typing.Union, types.UnionType):
        return all(is_scalar_type(a) for a in get_args(plain))
    return False


def describe_type(annotation: Any) -> str:
    """A short name: `int`, `float`, `one of a, b`."""
    plain = _plain(annotation)
    if get_origin(plain) is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(plain))
    if get_origin(plain) in (typing.Union, types.UnionType):
        return " or ".join(describe_type(a) for a in get_args(plain))
    return "none" if plain is type(None) else getattr(plain, "__name__", str(plain))


def make_setting(name: str, annotation: Any, default: Any) -> Setting:
    """A setting from an annotation with optional `Meta` for help, unit and range."""
    metas = _meta(annotation)
    text = next((m.description for m in metas if m.description), "")
    unit = next((m.extra["unit"] for m in metas if m.extra and "unit" in m.extra), None)
    return Setting(name, annotation, default, text, unit)


@dataclass(frozen=True)
class Signature:
    """What a part's factory takes: settings (scalars a user may set) and slots (other parts, given by eqcrl)."""

    settings: Mapping[str, Setting]
    slots: Mapping[str, Any]


def signature_of(factory: Callable[..., Any]) -> Signature:
    """The settings and slots of a class, function or `functools.partial`, in the order of its signature."""
    target = factory
    while isinstance(target, functools.partial):
        target = target.func
    hints_of = target if inspect.isfunction(target) else target.__init__
    hints = typing.get_type_hints(hints_of, include_extras=True)
    if inspect.isclass(target):
        hints |= typing.get_type_hints(target, include_extras=True)
    settings: dict[str, Setting] = {}
    slots: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        annotation = hints.get(name, parameter.annotation)
        if is_scalar_type(annotation):
            settings[name] = make_setting(name, annotation, parameter.default)
        else:
            slots[name] = annotation
    return Signature(settings, slots)


def coerce(value: Any, setting: Setting, *, key: str, origin: str) -> Any:
    """`value` as the setting's type; text (from a flag) is parsed, other values must already fit.

    Raises: ConfigError naming the key, where it was set, what was expected and in what range.
    """
    given = value
    if isinstance(value, str) and _plain(setting.type) is int:
        value = _whole_number(value)
    try:
        return msgspec.convert(value, setting.type, strict=not isinstance(given, str))
    except msgspec.ValidationError as error:
        detail = str(error).split(" - at")[0].rstrip(".")
        expected = setting.type_name() + (f" ({setting.unit})" if setting.unit else "")
        raise ConfigError(
            f"{origin}: `{key} = {given!r}` does not fit: {detail}.",
            mend=f"{key} is {expected}{': ' + setting.help if setting.help else ''}; "
            f"the default is {setting.default_text()}.",
        ) from None


def _whole_number(text: str) -> Any:
    """`1e6` and `1_000_000` are welcome where a whole number is asked for; anything else is left to fail."""
    try:
        return int(text)  # first, because a float holds 53 bits only
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else text


def unknown_key(key: str, known: Iterable[str], *, origin: str) -> ConfigError:
    """The error for a key that does not exist, with the nearest ones that do."""
    return ConfigError(f"{origin}: there is no setting `{key}`.", mend=did_you_mean(key, known))
