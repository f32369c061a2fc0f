"""Presets are starting points that work: names that exist, parameters that fit, sizes that go together."""

import jax
import msgspec
import numpy as np
import pytest

from eqcrl import registry
from eqcrl.assemble import build_env, complete
from eqcrl.config import Config, Part, Replay, difference

NAMES = [entry.name for entry in registry.entries("preset") if entry.distribution == "eqcrl"]


# Table 1 of the paper: environment steps in millions.
PAPER_TASKS = {
    "humanoid": 100, "humanoid-u-maze": 400, "humanoid-big-maze": 400, "ant-u4-maze": 100, "ant-u5-maze": 400,
    "ant-big-maze": 100, "ant-hardest-maze": 200, "arm-push-easy": 100, "arm-push-hard": 100, "arm-binpick-hard": 100,
}  # fmt: skip


def test_what_there_is() -> None:
    assert sorted(["paper", "quickstart", *(f"paper/{task}" for task in PAPER_TASKS)]) == NAMES


@pytest.mark.parametrize("task", PAPER_TASKS)
def test_a_paper_task_is_the_paper_preset_on_its_task_with_its_budget(task: str) -> None:
    config, base = complete(Config.load(f"paper/{task}")), complete(Config.load("paper"))
    assert config.env.name == task
    assert config.train.total_env_steps == PAPER_TASKS[task] * 1_000_000
    assert config.arch.params == base.arch.params | {"depth": 64}
    differ = {key.partition(".")[0] for key in difference(config, base)}
    assert differ <= {"env", "arch", "train"}
    assert difference(config, base).keys() & {f"train.{k}" for k in msgspec.structs.asdict(base.train)} <= {
        "train.total_env_steps"
    }
    env = build_env(config.env)
    assert env.episode_length == 1000
    assert not config.train.fresh_resets
    assert env.evaluation().episode_length == 1000


def test_the_evaluation_of_a_maze_asks_for_the_far_goals() -> None:
    env = build_env(complete(Config.load("paper/ant-u4-maze")).env)
    goals = np.asarray(jax.vmap(env.evaluation().reset)(jax.random.split(jax.random.key(0), 64))[1])
    cells = {(int(i), int(j)) for i, j in np.round(goals / 4).astype(int)}
    assert cells == {(4, 1), (5, 1), (5, 2), (5, 3)}


def test_a_preset_goes_with_another_depth() -> None:
    config = complete(Config.load("paper/ant-u4-maze", overrides={"arch": "resnet-1024"}))
    assert config.arch.params["depth"] == 1024
    assert config.arch.params["width"] == 256


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
