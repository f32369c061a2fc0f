"""Settings that Optuna suggests from the scores of those before."""

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqcrl.errors import RunError, UsageError
from eqcrl.files import writing
from eqcrl.jobs.setting import Choice
from eqcrl.sweeps.folder import Trial, trial_name
from eqcrl.sweeps.methods import AbstractMethod
from eqcrl.sweeps.space import Axis, Choices
from eqcrl.sweeps.spec import Sweep

if TYPE_CHECKING:
    import optuna

NUMBER = "optuna"
"""Under which a trial keeps the number that Optuna gave it."""
AGAIN = "again"
"""Marks a trial that Optuna knows as failed, told once more with the score that a second try brought."""


class Optuna(AbstractMethod):
    """Tree-structured Parzen estimator, asked for one setting at a time; what it was told lies in a journal file.

    The sampler is made anew for each setting, from the seed of the draws and the number of the trial: a sweep that is
    stopped and goes on draws what it would have drawn. Source: Bergstra et al. 2011; Akiba et al. 2019.
    """

    def __init__(self, sweep: Sweep, journal: Path, trials: Sequence[Trial]):
        refuse_missing()
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep = sweep
        mend_journal(journal)
        try:
            with writing(journal):
                storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
                self.study = optuna.create_study(
                    storage=storage, study_name="sweep", direction=sweep.direction, load_if_exists=True
                )
        except (ValueError, KeyError, AssertionError) as error:
            raise RunError(
                f"{journal} cannot be read: {error}.", mend="Restore it, or begin the sweep anew in another folder."
            ) from None
        self.space = {axis.axis: _distribution(axis) for axis in sweep.axes}
        self.known = {trial.extra.get(NUMBER) for trial in trials}

    def learns(self) -> bool:
        """From every score."""
        return True

    def next(self, number: int) -> Trial:
        """A new suggestion; or one that was made just before the sweep was killed, and of which nobody knows."""
        import optuna

        lost = [
            t for t in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
            if t.number not in self.known and t.params.keys() == self.space.keys()
        ]  # fmt: skip
        if lost:
            asked, values = lost[0].number, lost[0].params
        else:
            seed = random.Random(f"{self.sweep.draw_seed}/{number}").getrandbits(32)
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            suggested = self.study.ask(self.space)
            asked, values = suggested.number, suggested.params
        self.known.add(asked)
        choices = {axis.axis: _choice(axis, values[axis.axis]) for axis in self.sweep.axes}
        return Trial(number, self.sweep.setting(trial_name(number), choices, validate=False), {NUMBER: asked})

    def tell(self, trial: Trial, score: float | None) -> None:
        """Once for each trial; a score after a failure is a trial of its own to Optuna."""
        import optuna

        states = optuna.trial.TrialState
        known = next(t for t in self.study.get_trials(deepcopy=False) if t.number == trial.extra[NUMBER])
        if not known.state.is_finished():
            self.study.tell(known.number, score, states.COMPLETE if score is not None else states.FAIL)
        elif known.state == states.FAIL and score is not None and not self._told_again(trial):
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=known.params,
                    distributions=known.distributions,
                    value=score,
                    user_attrs={AGAIN: trial.number},
                )
            )

    def _told_again(self, trial: Trial) -> bool:
        return any(t.user_attrs.get(AGAIN) == trial.number for t in self.study.get_trials(deepcopy=False))


def refuse_missing() -> None:
    """Raises: UsageError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError(
            "The method 'optuna' needs Optuna, which is not installed.", mend="pip install 'eqcrl[optuna]'"
        )


def mend_journal(journal: Path) -> None:
    """Undo what a kill left: a last line that was not written to its end, after which Optuna would refuse all, and its
    lock. Only for whoever holds the sweep.
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if not journal.is_file():
        return
    with writing(journal), journal.open("r+b") as file:
        whole = file.read()
        file.truncate(whole.rfind(b"\n") + 1)


def _distribution(axis: Axis) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choices):
        return CategoricalDistribution([_label(choice) for choice in axis.values])
    if axis.whole():
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log(), step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log())


def _label(choice: Choice) -> str:
    # As text: to Optuna True, 1 and 1.0 would be the same.
    return repr(choice.label)


def _choice(axis: Axis, value: Any) -> Choice:
    if isinstance(axis, Choices):
        return next(choice for choice in axis.values if _label(choice) == value)
    return axis.choice(value)
