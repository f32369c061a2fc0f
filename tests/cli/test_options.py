"""Every setting is a flag, with help, unit and default; flags of parts follow the chosen parts."""

import re

import pytest

from cli.conftest import Command
from eqcrl import estimate
from eqcrl.assemble import check_params
from eqcrl.cli.options import config_options, flag_of, normalize, peek
from eqcrl.config import PART_KINDS, Config, static_settings
from helpers import assert_message


def help_of(eqcrl: Command, *args: str) -> str:
    answer = eqcrl("train", *args, "--help")
    assert answer.code == 0, answer.err
    return " ".join(answer.out.split())


def test_every_setting_is_in_the_help(eqcrl: Command) -> None:
    shown = help_of(eqcrl)
    config = Config.load()
    for key, setting in static_settings().items():
        assert f"{flag_of(key)} " in shown, key
        assert setting.unit is None or f"[{setting.unit}]" in shown
    for field in PART_KINDS:
        part = getattr(config, field)
        for name in check_params(field, part) if part else ():
            assert f"{flag_of(f'{field}.{name}')} " in shown
    for option in config_options(config):
        assert option.help
        assert "(default: " in option.help


def test_defaults_are_those_in_force(eqcrl: Command) -> None:
    def default(shown: str, flag: str) -> str:
        found = re.search(rf"{re.escape(flag)} .*?\(default: (.*?)\)", shown)
        assert found, flag
        return found[1]

    plain, paper = help_of(eqcrl), help_of(eqcrl, "--preset", "paper")
    assert default(plain, "--train.num-envs") == "1024"
    assert default(paper, "--train.num-envs") == "512"
    assert default(plain, "--arch.width") == "64"
    assert default(paper, "--arch.width") == "256"
    assert default(help_of(eqcrl, "--arch", "resnet-64"), "--arch.depth") == "64"


def test_flags_follow_the_chosen_part(eqcrl: Command) -> None:
    assert "--energy.temperature" not in help_of(eqcrl)
    assert "--energy.temperature" in help_of(eqcrl, "--energy", "cosine")
    assert "--energy.temperature" in help_of(eqcrl, "--energy=cosine")
    assert "--arch.block" not in help_of(eqcrl, "--arch", "mlp")
    assert "--eval-env.layout" in help_of(eqcrl, "--eval-env", "point-maze")


def test_flags_set_what_they_say(eqcrl: Command) -> None:
    answer = eqcrl(
        "train", "--dry-run", "--train.batch_size=64", "--arch.width", "32", "--seed", "5", "--energy", "cosine",
        "--energy.temperature", "0.5", "--train.total-env-steps", "1e6",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    config = Config.from_toml(answer.out.partition("\nPlan")[0], "printed")
    assert (config.train.batch_size, config.seed, config.train.total_env_steps) == (64, 5, 1_000_000)
    assert config.arch.params["width"] == 32
    assert config.energy.name == "cosine"
    assert config.energy.params["temperature"] == 0.5


def test_file_and_flags(eqcrl: Command, tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "paper"\nseed = 4\n[train]\nbatch_size = 100\n')
    answer = eqcrl("train", "--dry-run", "--config", file, "--seed", "9")
    config = Config.from_toml(answer.out.partition("\nPlan")[0], "printed")
    assert (config.seed, config.train.batch_size, config.train.num_envs) == (9, 100, 512)


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--train.num-envs", "many", "Expected `int`"),
        ("--train.num-envs", "0", "Expected `int` >= 1"),
        ("--train.num-envs", "1.5", "Expected `int`"),
        ("--seed", "-1", "Expected `int` >= 0"),
        ("--agent.actor-rate", "-0.1", "Expected `float` > 0.0"),
        ("--agent.actor-rate", "fast", "Expected `float`"),
        ("--env.start", "everywhere", "Invalid enum value 'everywhere'"),
        ("--arch.remat", "some", "Invalid enum value 'some'"),
    ],
)
def test_a_value_that_does_not_fit(eqcrl: Command, flag: str, value: str, said: str) -> None:
    answer = eqcrl("train", flag, value)
    assert answer.code == 2
    key = flag.removeprefix("--").replace("-", "_")
    assert_message(answer.err, f"flag `{key}`", said, f"{key} is ", "the default is")


def test_normalize_touches_flags_only() -> None:
    assert normalize(["--train.num_envs=3", "--a_b", "c_d", "-x_y", "--out=my_run"]) == [
        "--train.num-envs=3", "--a-b", "c_d", "-x_y", "--out=my_run",
    ]  # fmt: skip


def test_peek_takes_the_last_as_click_does() -> None:
    assert peek(["--arch", "a", "--arch=b", "--out", "o"], ("arch", "env")) == {"arch": "b"}
    assert peek(["--arch=b", "--arch", "a"], ("arch",)) == {"arch": "a"}
    assert peek(["--arch"], ("arch",)) == {}


def test_physics_stands_for_the_engine_of_every_environment_of_a_command(
    eqcrl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "estimate", lambda *_: estimate.Estimate(1.0, 1.0))
    answer = eqcrl("train", "--env", "ant", "--eval-env", "ant", "--physics", "mjx", "--dry-run")
    assert answer.code == 0, answer.err
    assert answer.out.count('physics = "mjx"') == 2
    for order in (("--physics", "mjx", "--env.physics", "mujoco"), ("--env.physics", "mujoco", "--physics", "mjx")):
        answer = eqcrl("train", "--env", "ant", *order, "--dry-run")
        assert 'physics = "mujoco"' in answer.out, "the long flag goes over the short one"
    assert "--physics " in help_of(eqcrl, "--env", "reacher")


def test_physics_is_no_flag_where_there_is_no_engine_to_choose(eqcrl: Command) -> None:
    answer = eqcrl("train", "--physics", "mjx")
    assert answer.code == 2
    assert "--physics" in answer.err


def test_an_unknown_engine_is_named_with_the_nearest(eqcrl: Command) -> None:
    answer = eqcrl("train", "--env", "ant", "--physics", "mujco", "--dry-run")
    assert answer.code == 2
    assert_message(answer.err, "There is no physics called 'mujco'", "mujoco")
