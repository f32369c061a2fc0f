"""Every error that eqcrl raises on purpose: one message that says what, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class EqcrlError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line exits with."""

    exit_code = 1

    def __init__(self, message: str, *, mend: str | None = None):
        super().__init__(message if mend is None else f"{message}\n  {mend}")
        self.message = message
        self.mend = mend


class ConfigError(EqcrlError):
    """A setting that is unknown, of the wrong type, out of range, or impossible beside another one."""

    exit_code = 2


class PluginError(EqcrlError):
    """Base of what can go wrong when a part is looked up by name."""


class UnknownName(PluginError):
    """No installed distribution offers a part of that name."""

    exit_code = 2


class NameConflict(PluginError):
    """Two installed distributions offer one name."""

    exit_code = 2


class BrokenPlugin(PluginError):
    """The part is declared, but its module cannot be imported or does not hold what it promised."""


class RunError(EqcrlError):
    """A run directory that is missing, unreadable, locked or cannot be written."""


class UsageError(EqcrlError):
    """A command that cannot be carried out as it was given."""

    exit_code = 2


class CheckpointError(EqcrlError):
    """A checkpoint that is truncated, edited, or of another configuration."""


class DivergenceError(EqcrlError):
    """Training met a value that is not finite."""


class CheckFailed(EqcrlError):
    """An environment breaks the contract."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing sentence for an unknown `word`: the nearest known words, or all of them if few."""
    known = sorted(set(known))
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if not known:
        return "There are none."
    if len(known) <= 12:
        return f"Known: {', '.join(known)}."
    return f"Known: {', '.join(known[:12])}, and {len(known) - 12} more."
