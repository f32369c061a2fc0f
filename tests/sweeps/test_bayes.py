"""Optuna: suggestions that a stop does not change, a journal that a kill does not spoil."""

import importlib.util
import json
from pathlib import Path

import pytest

from eqcrl.errors import RunError, UsageError
from eqcrl.sweeps.bayes import Optuna, mend_journal
from eqcrl.sweeps.folder import Trial
from eqcrl.sweeps.methods import check_method
from eqcrl.sweeps.source import Source
from eqcrl.sweeps.spec import Sweep

optuna = pytest.importorskip("optuna")

TEXT = """\
method = "optuna"
trials = 30
direction = "minimize"
[search]
agent.critic_rate = { log_uniform = [1e-5, 1e-1] }
"arch.width" = { integers = [8, 64], step = 8 }
"agent.actor_rate" = [1e-3, 1e-4]
case = [{ label = "a", arch.recipe = "calm" }, { label = "b", arch.recipe = "paper" }]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "mine.toml").write_text(TEXT)
    return Source(tmp_path / "mine.toml").sweep()


def loss(trial: Trial) -> float:
    width = trial.setting.values["arch.width"]
    assert isinstance(width, int)
    return abs(width - 40) + (trial.setting.values["case"] == "a")


def tried(sweep: Sweep, journal: Path, count: int, *, reopened_after: int | None = None) -> list[Trial]:
    found: list[Trial] = []
    method = Optuna(sweep, journal, found)
    for number in range(count):
        if number == reopened_after:
            method = Optuna(sweep, journal, found)
        found.append(method.next(number))
        method.tell(found[-1], loss(found[-1]))
    return found


def test_it_learns_and_a_stop_changes_nothing(sweep: Sweep, tmp_path: Path) -> None:
    first = tried(sweep, tmp_path / "a.journal", 24)
    again = tried(sweep, tmp_path / "b.journal", 24, reopened_after=13)
    assert [t.setting.values for t in first] == [t.setting.values for t in again]
    early, late = ([loss(t) for t in part] for part in (first[:10], first[14:]))
    assert sum(late) / len(late) < sum(early) / len(early)
    for trial in first:
        assert trial.setting.values["arch.width"] in range(8, 65, 8)
        assert 1e-5 <= float(trial.setting.values["agent.critic_rate"]) <= 1e-1
        assert trial.setting.values["agent.actor_rate"] in (1e-3, 1e-4)
        assert trial.setting.overrides["arch.recipe"] == {"a": "calm", "b": "paper"}[str(trial.setting.values["case"])]


def test_what_was_suggested_and_lost_is_suggested_again(sweep: Sweep, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    method = Optuna(sweep, journal, [])
    first, lost = method.next(0), method.next(1)
    method = Optuna(sweep, journal, [first])
    again = method.next(1)
    assert (again.setting.values, again.extra) == (lost.setting.values, lost.extra)
    assert method.next(2).extra != lost.extra


def test_a_failure_and_a_second_try(sweep: Sweep, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    method = Optuna(sweep, journal, [])
    trial = method.next(0)
    method.tell(trial, None)
    method.tell(trial, None)
    assert [t.state.name for t in method.study.trials] == ["FAIL"]
    for _ in range(2):  # told again whenever the sweep goes on
        method = Optuna(sweep, journal, [trial])
        method.tell(trial, 3.0)
        method.tell(trial, 3.0)
    assert [(t.state.name, t.value) for t in method.study.trials] == [("FAIL", None), ("COMPLETE", 3.0)]
    assert method.next(1).name() == "0001"


def test_a_journal_that_was_cut_off(sweep: Sweep, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    trials = tried(sweep, journal, 2)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"tri')
    (tmp_path / "journal.lock").symlink_to(journal)  # of a process that was killed
    method = Optuna(sweep, journal, trials)
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    method.tell(method.next(2), 1.0)
    assert len(Optuna(sweep, journal, trials).study.trials) == 3
    mend_journal(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_journal_that_is_none(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("what?\nhow?\n")
    with pytest.raises(RunError, match="journal cannot be read"):
        Optuna(sweep, tmp_path / "journal", [])


def test_without_optuna(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"(?s)needs Optuna.*pip install 'eqcrl\[optuna\]'"):
        check_method(sweep)
