"""Which settings are tried: every one of a grid, or as many as asked for that are drawn at random."""

import abc
import itertools
import random
from collections.abc import Mapping
from typing import Any

from eqcrl.jobs.setting import Choice
from eqcrl.sweeps.folder import SweepFolder, Trial, trial_name
from eqcrl.sweeps.spec import Sweep


class AbstractMethod(abc.ABC):
    """Makes the trials of a sweep, one after the other."""

    @abc.abstractmethod
    def learns(self) -> bool:
        """Whether a trial depends on the scores of those before it, and should be asked for as late as possible."""

    @abc.abstractmethod
    def next(self, number: int) -> Trial:
        """The trial of this number, the first being 0. Raises: ConfigError."""

    @abc.abstractmethod
    def tell(self, trial: Trial, score: float | None) -> None:
        """The score of a trial, None if it has none; may be told again when the sweep goes on."""


class Grid(AbstractMethod):
    """Every combination of the values, the last axis fastest."""

    def __init__(self, sweep: Sweep):
        self.sweep = sweep

    def learns(self) -> bool:
        """All are known at once."""
        return False

    def next(self, number: int) -> Trial:
        """The combination of this number."""
        combinations = itertools.product(*(axis.ends() for axis in self.sweep.axes))
        return _trial(self.sweep, number, next(itertools.islice(combinations, number, None)), {})

    def tell(self, trial: Trial, score: float | None) -> None:
        """Changes nothing."""


class Random(AbstractMethod):
    """Each value drawn by itself: from the seed of the draws, the number of the trial and the name of the axis.

    So a longer sweep begins with the trials of a shorter one, and another axis leaves the values of the others alone.
    """

    def __init__(self, sweep: Sweep):
        self.sweep = sweep

    def learns(self) -> bool:
        """All are known at once."""
        return False

    def next(self, number: int) -> Trial:
        """The draw of this number."""
        seeds = (f"{self.sweep.draw_seed}/{number}/{axis.axis}" for axis in self.sweep.axes)
        drawn = [axis.at(random.Random(seed).random()) for axis, seed in zip(self.sweep.axes, seeds, strict=True)]
        return _trial(self.sweep, number, drawn, {})

    def tell(self, trial: Trial, score: float | None) -> None:
        """Changes nothing."""


def _trial(sweep: Sweep, number: int, choices: Any, extra: Mapping[str, Any]) -> Trial:
    named: dict[str, Choice] = {axis.axis: choice for axis, choice in zip(sweep.axes, choices, strict=True)}
    return Trial(number, sweep.setting(trial_name(number), named, validate=sweep.method == "grid"), extra)


def make_method(sweep: Sweep, folder: SweepFolder) -> AbstractMethod:
    """The method of a sweep, with what it knows from its folder. Raises: UsageError if its package is missing."""
    if sweep.method == "optuna":
        from eqcrl.sweeps.bayes import Optuna

        return Optuna(sweep, folder.journal, folder.trials())
    return Grid(sweep) if sweep.method == "grid" else Random(sweep)


def check_method(sweep: Sweep) -> None:
    """Raises: UsageError if the package that the method needs is not installed."""
    if sweep.method == "optuna":
        from eqcrl.sweeps.bayes import refuse_missing

        refuse_missing()
