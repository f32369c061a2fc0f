"""Combinations of the values of axes: names, configurations, commands, and the choice among them."""

from pathlib import Path

import pytest

from eqcrl.errors import ConfigError, UsageError
from eqcrl.jobs.setting import Setting, word
from eqcrl.studies.grid import chosen, expand
from eqcrl.studies.source import Source

TEXT = """\
title = "t"
[settings]
train.fresh_resets = false
[axes]
env = ["point-u-maze", "point-maze"]
arch = ["resnet-4", "resnet-64", "mlp"]
"arch.width" = [16, 32]
mine = [{ label = "a b/c", relabeller.gamma = 0.9 }, { label = "d", relabeller.gamma = 0.99 }]
"""


@pytest.fixture
def settings(tmp_path: Path) -> list[Setting]:
    (tmp_path / "t.toml").write_text(TEXT)
    return expand(Source(tmp_path / "t.toml").study(None))


def test_every_combination_once(settings: list[Setting]) -> None:
    assert len(settings) == len({s.slug for s in settings}) == 2 * 3 * 2 * 2
    first = settings[0]
    assert first.slug == "point-u-maze_resnet-4_width-16_a-b-c"
    assert first.values == {"env": "point-u-maze", "arch": "resnet-4", "arch.width": 16, "mine": "a b/c"}
    assert first.config.arch.params == {"depth": 4, "width": 16}
    assert first.config.relabeller.params == {"gamma": 0.9}
    assert settings[1].slug.endswith("_d")
    # A common setting reaches a part of whatever name.
    mlp = next(s for s in settings if s.values["arch"] == "mlp")
    assert mlp.config.arch.params == {"width": 16}


def test_the_command_line_means_the_same(settings: list[Setting]) -> None:
    from eqcrl.config import Config

    for setting in settings:
        preset, *flags = setting.flags()[1:]
        given = dict(flag.removeprefix("--").replace("-", "_").partition("=")[::2] for flag in flags)
        given |= {k: v for flag in flags for k, v in [flag.removeprefix("--").split("=")] if k in ("env", "arch")}
        again = Config.load(preset=preset, overrides=given)
        # Parameters of parts are text until the part is known.
        assert {k: str(v) for k, v in again.flat().items()} == {k: str(v) for k, v in setting.config.flat().items()}


def test_two_that_are_the_same_are_refused(tmp_path: Path) -> None:
    text = 'title = "t"\n[axes]\narch = ["resnet-4", "resnet-8"]\n[settings]\narch.depth = 4\n'
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigError, match="resnet-4 and resnet-8 are the same configuration"):
        expand(Source(tmp_path / "t.toml").study(None))


def test_one_that_cannot_work_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('title = "t"\n[axes]\ntrain.batch_size = [8, 10_000_000]\n')
    with pytest.raises(
        ConfigError, match=r"Study t, setting batch_size-10000000: train.batch_size = 10000000 is larger"
    ):
        expand(Source(tmp_path / "t.toml").study(None))


def test_a_study_without_axes_has_one_setting(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('title = "t"\n')
    assert [s.slug for s in expand(Source(tmp_path / "t.toml").study(None))] == ["all"]


def test_words() -> None:
    assert word("arch", "resnet-64") == "resnet-64"
    assert word("actor_arch", "resnet-64") == "actor_arch-resnet-64"
    assert word("arch.residual", True) == "residual-true"
    assert word("relabeller.gamma", 0.97) == "gamma-0.97"
    assert word("maze", "../x y") == "x-y"
    assert word("maze", "/") == "x"
    long = [word("env.layout", "#" * 50 + "R" * 50 + tail) for tail in "ab"]
    assert long[0] != long[1]
    assert all(len(w) < 80 for w in long)


def test_only(settings: list[Setting]) -> None:
    assert len(chosen(settings, ["env=point-maze"])) == 12
    assert len(chosen(settings, ["arch=resnet-4", "arch=mlp", "arch.width=16"])) == 8
    with pytest.raises(UsageError, match=r"(?s)--only ach=mlp: not one of the axes.*'arch'"):
        chosen(settings, ["ach=mlp"])
    with pytest.raises(UsageError, match=r"(?s)no such value.*'resnet-64'"):
        chosen(settings, ["arch=resnet-46"])
    with pytest.raises(UsageError, match="--only arch:"):
        chosen(settings, ["arch"])
