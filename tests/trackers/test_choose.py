"""Which trackers a configuration names: layers, parameters, and what they do not decide."""

from pathlib import Path

import pytest

from eqcrl import registry
from eqcrl.config import Config, Part, difference
from eqcrl.errors import BrokenPlugin, ConfigError, UnknownName
from eqcrl.plots.groups import group_runs
from eqcrl.report.grouping import differing_keys
from eqcrl.trackers import choose
from eqcrl.trackers.base import AbstractTracker

BOARDS = {"tracker": "tensorboard", "tracker.tensorboard.folder": "boards"}


def test_flags_replace_the_names_of_a_file_and_keep_the_parameters_of_those_that_stay(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(
        '[tracker]\nnames = ["csv", "tensorboard"]\ncsv.folder = "tables"\n[tracker.tensorboard]\nfolder = "b"'
    )
    both = Config.load(file=file)
    assert both.trackers == (Part("csv", {"folder": "tables"}), Part("tensorboard", {"folder": "b"}))
    changed = Config.load(file=file, overrides={"tracker": "console,tensorboard"})
    assert changed.trackers == (Part("console"), Part("tensorboard", {"folder": "b"}))
    assert Config.load(file=file, overrides={"tracker": "none"}).trackers == ()
    file.write_text('tracker = "csv"')
    assert Config.load(file=file).trackers == (Part("csv"),)


def test_they_come_back_from_the_text_of_a_run_and_may_be_changed_there() -> None:
    config = choose.complete_trackers(Config.load(overrides=BOARDS))
    back = Config.from_toml(config.to_toml(), "config.toml")
    assert back == config
    other, _ = Config.merge(base=back, overrides={"tracker": "csv"})
    assert other.trackers == (Part("csv"),)
    longer, _ = Config.merge(base=back, overrides={"train.total_env_steps": 10**9})
    assert longer.trackers == config.trackers


def test_a_run_can_be_read_where_its_tracker_is_not_installed() -> None:
    text = Config.load(overrides=BOARDS).to_toml().replace("tensorboard", "gone")
    config = Config.from_toml(text, "config.toml")
    assert config.trackers == (Part("gone", {"folder": "boards"}),)
    with pytest.raises(UnknownName, match="--tracker none"):
        config.validate()


def test_runs_that_differ_in_trackers_alone_are_of_one_setting() -> None:
    one, other = Config.load(), Config.load(overrides=BOARDS).replace(seed=1)
    assert difference(one, other) == {"seed": (0, 1)}
    assert differing_keys([one, other]) == []
    assert len(group_runs([(one, 1), (other, 2)])) == 1


def test_what_is_no_list_of_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="no list of names"):
        Config.load(overrides={"tracker": 3})
    with pytest.raises(ConfigError, match="no tracker 'csv' is chosen"):
        Config.load(overrides={"tracker.csv.folder": "x"})


def test_parameters_are_checked_and_completed() -> None:
    assert choose.checked(Part("csv")) == Part("csv", {"folder": None})
    with pytest.raises(ConfigError, match=r"tracker\.csv\.foldr"):
        choose.checked(Part("csv", {"foldr": "x"}))
    with pytest.raises(ConfigError, match=r"needs `tracker\.jsonl\.folder`"):
        choose.checked(Part("jsonl"))
    with pytest.raises(ConfigError, match="does not fit"):
        choose.checked(Part("console", {"metrics": 3}))
    with pytest.raises(UnknownName, match="--tracker none"):
        choose.checked(Part("cvs"))


class Loose:
    """No tracker."""


def test_what_is_no_tracker_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(registry, "load", lambda kind, name: Loose)
    with pytest.raises(BrokenPlugin, match=r"not an eqcrl\.trackers\.base\.AbstractTracker"):
        choose.build(Part("csv"))
    monkeypatch.setattr(registry, "load", lambda kind, name: "text")
    with pytest.raises(BrokenPlugin, match="is no class"):
        choose.build(Part("csv"))


@pytest.mark.parametrize("name", ["console", "jsonl", "csv", "tensorboard"])
def test_built_in_trackers_are_found_and_built(name: str, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path)} if name == "jsonl" else {}
    assert isinstance(choose.build(Part(name, params)), AbstractTracker)
