"""Launchers by name, and their settings."""

import pytest

from eqcrl import registry
from eqcrl.errors import BrokenPlugin, ConfigError, UnknownName
from eqcrl.launchers.find import checked_settings, launcher_settings, make_launcher
from eqcrl.launchers.local import Local
from eqcrl.launchers.slurm import Slurm


def test_settings_are_those_of_the_class() -> None:
    assert list(launcher_settings("local")) == ["jobs"]
    slurm = launcher_settings("slurm")
    assert {"partition", "account", "time", "gpus", "cpus", "memory", "jobs", "warning"} <= slurm.keys()
    assert all(setting.help for setting in slurm.values())
    assert (slurm["time"].unit, slurm["time"].default) == ("min", 240)


def test_one_is_made_with_its_settings() -> None:
    assert make_launcher("local", {"jobs": 3}) == Local(3)
    assert make_launcher("eqcrl/slurm", {"gpus": 0}) == Slurm(gpus=0)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("time", 0, r"launcher.time = 0` does not fit: Expected `int` >= 1"),
        ("time", "soon", "launcher.time = 'soon'` does not fit"),
        ("partition", "a b", "launcher.partition = 'a b'` does not fit"),
        ("partition", "a\n", "does not fit"),
        ("constraint", "a\n#SBATCH --x", "does not fit"),
        ("memory", -1.0, "does not fit"),
        ("gpus", True, "does not fit"),
        ("warning", 10, "Expected `int` >= 60"),
        ("partitoin", "x", r"no setting `launcher.partitoin`.*'launcher.partition'"),
    ],
)
def test_settings_are_checked(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^f.toml:3: .*{said}"):
        checked_settings("slurm", {key: (value, "f.toml:3")}, "f.toml:2")


def test_text_from_flags_is_understood() -> None:
    given = {
        "time": ("90", "--launcher.time"),
        "memory": ("1.5", "--launcher.memory"),
        "qos": ("low", "--launcher.qos"),
    }
    assert checked_settings("slurm", given, "--launcher") == {"time": 90, "memory": 1.5, "qos": "low"}


def test_one_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"(?s)^f.toml:2: There is no launcher called 'slrum'.*'slurm'"):
        checked_settings("slrum", {}, "f.toml:2")


def test_one_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load_entry", lambda entry: dict)
    with pytest.raises(BrokenPlugin, match=r"(?s)is no launcher.*AbstractLauncher"):
        make_launcher("local", {})
