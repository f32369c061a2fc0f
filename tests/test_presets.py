"""Presets are starting points that work: names that exist, parameters that fit, sizes that go together."""

import pytest

from eqcrl import registry
from eqcrl.assemble import complete
from eqcrl.config import Config, Part, Replay

NAMES = [entry.name for entry in registry.entries("preset") if entry.distribution == "eqcrl"]


def test_there_are_two() -> None:
    assert NAMES == ["paper", "quickstart"]


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_complete_and_possible_configuration(name: str) -> None:
    config = complete(Config.load(name))
    config.validate()
    assert Config.from_toml(config.to_toml(), "mine.toml") == config


def test_the_paper_preset_has_the_papers_numbers() -> None:
    config = complete(Config.load("paper"))
    train = config.train
    assert (train.num_envs, train.unroll_length, train.batch_size) == (512, 62, 512)
    assert (train.updates_per_epoch, train.total_env_steps) == (800, 100_000_000)
    assert config.replay == Replay(capacity=10_000, min_filled=1_000)
    assert config.arch.name == "resnet"
    assert config.arch.params["width"] == 256
    assert (config.energy.name, config.loss.name) == ("l2", "infonce")
    assert config.relabeller == Part("geometric", {"gamma": 0.99})
    assert config.actor_goals == Part("future")
    assert config.eval.num_envs == 128


def test_quickstart_trains_on_the_u_maze() -> None:
    config = Config.load("quickstart")
    assert config.env == Part("point-u-maze")
    assert config.agent.name == "crl"
