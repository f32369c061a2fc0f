"""The configuration tree: layers, messages, TOML, and combinations that cannot work."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqcrl.config import (
    INHERITS,
    OPTIONAL_PARTS,
    PART_KINDS,
    RESUMABLE,
    Checkpoint,
    Config,
    Eval,
    Part,
    Replay,
    Train,
    difference,
    static_settings,
)
from eqcrl.errors import ConfigError, UnknownName

WriteToml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> WriteToml:
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_mistake_in_the_tree_itself_would_show() -> None:
    assert PART_KINDS == {
        "env": "env",
        "eval_env": "env",
        "arch": "arch",
        "actor_arch": "arch",
        "critic_arch": "arch",
        "agent": "agent",
        "energy": "energy",
        "loss": "loss",
        "relabeller": "relabeller",
        "actor_goals": "actor-goals",
    }
    assert OPTIONAL_PARTS == ("eval_env", "actor_arch", "critic_arch")
    assert INHERITS == {"actor_arch": "arch", "critic_arch": "arch"}


def test_every_setting_has_help_and_a_default_that_fits_it() -> None:
    settings = static_settings()
    assert {"seed", "env", "train.batch_size", "replay.capacity", "eval.every"} <= settings.keys()
    for key, setting in settings.items():
        assert setting.help, key
        assert key in OPTIONAL_PARTS or setting.default is not None, key
    assert Config.load(overrides={k: s.default for k, s in settings.items() if k not in PART_KINDS})


# Round trip.

# How long drawing may take is wall time, which a busy machine stretches.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
COUNTS = st.integers(1, 2**62)
VALUES = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
PARAMS = st.dictionaries(st.sampled_from(["depth", "width", "layout", "gamma"]), VALUES, max_size=2)
NAMES = {
    "env": ["point-u-maze", "point-maze", "eqcrl/point-big-maze"],
    "arch": ["resnet", "mlp", "eqcrl/resnet"],
    "agent": ["crl"],
    "energy": ["l2", "cosine"],
    "loss": ["infonce", "nce-binary"],
    "relabeller": ["geometric", "uniform"],
    "actor-goals": ["future", "mixed"],
}


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any configuration that `load` could have made; parameters are not checked there, so any will do."""
    values: dict[str, dict[str, Any]] = {"train": {}, "replay": {}, "eval": {}, "checkpoint": {}}
    for key, setting in static_settings().items():
        section, _, name = key.partition(".")
        if name:
            values[section][name] = draw(st.booleans() if setting.type_name() == "bool" else COUNTS)
    fields: dict[str, Any] = {
        section.__name__.lower(): section(**values[section.__name__.lower()])
        for section in (Train, Replay, Eval, Checkpoint)
    }
    for field, kind in PART_KINDS.items():
        part = st.builds(Part, st.sampled_from(NAMES[kind]), PARAMS)
        fields[field] = draw(st.none() | part if field in OPTIONAL_PARTS else part)
        parent = fields[INHERITS[field]] if field in INHERITS else None
        if parent and fields[field] and parent.name == fields[field].name:
            fields[field] = Part(parent.name, parent.params | fields[field].params)
    return Config(seed=draw(st.integers(0, 2**32 - 1)), **fields)


@unhurried
@given(configs())
def test_toml_reads_back_what_was_written(config: Config) -> None:
    assert Config.from_toml(config.to_toml(), "mine.toml") == config


@pytest.mark.parametrize("params", [{}, {"depth": 4}])
def test_an_actor_set_by_hand_takes_over_nothing_on_the_way_through_toml(params: dict[str, Any]) -> None:
    config = Config(arch=Part("resnet", {"width": 64}), actor_arch=Part("resnet", params))
    assert Config.from_toml(config.to_toml(), "mine.toml") == config


@unhurried
@given(configs())
def test_toml_and_the_flat_view_agree(config: Config) -> None:
    def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found = {}
        for key, value in tree.items():
            name = f"{prefix}{key}"
            found |= leaves(value, f"{name}.") if isinstance(value, dict) else {name: value}
        return {k.removesuffix(".name"): v for k, v in found.items()}

    assert leaves(tomllib.loads(config.to_toml())) == config.flat()


@unhurried
@given(configs(), configs())
def test_difference_names_exactly_the_keys_that_differ(one: Config, other: Config) -> None:
    assert difference(one, one) == {}
    found = difference(one, other)
    for key in one.flat().keys() | other.flat().keys():
        a, b = one.flat().get(key), other.flat().get(key)
        assert found.get(key) == (None if a == b else (a, b))
    assert not difference(one, other, ignore=found)


# Layers.


def test_the_default_preset_is_quickstart() -> None:
    assert Config.load() == Config.load(preset="quickstart")
    assert Config.load().actor_goals == Part("mixed", {"fraction": 0.5})
    assert Config().actor_goals == Part("future")


def test_defaults_then_preset_then_file_then_flags(toml: WriteToml) -> None:
    file = toml('preset = "paper"\n[train]\nbatch_size = 300\nnum_envs = 100\n[arch]\nwidth = 32\n')
    config = Config.load(file=file, overrides={"train.batch_size": "128", "arch.depth": 12})
    assert config.train.batch_size == 128  # the flag, over file and preset
    assert config.train.num_envs == 100  # the file, over the preset
    assert config.train.updates_per_epoch == 800  # the preset, over the default
    assert config.checkpoint.keep == Checkpoint().keep  # the default
    assert config.arch == Part("resnet", {"depth": 12, "width": 32, "recipe": "paper"})


def test_a_file_without_a_preset_stands_on_the_one_asked_for(toml: WriteToml) -> None:
    file = toml("seed = 3")
    assert Config.load("paper", file) == Config.load("paper").replace(seed=3)


def test_a_part_may_be_named_by_a_string_or_in_its_table(toml: WriteToml) -> None:
    for text in ('arch = "mlp"', '[arch]\nname = "mlp"', 'arch = { name = "mlp" }', 'arch.name = "mlp"'):
        assert Config.load(file=toml(text)).arch == Part("mlp")


@pytest.mark.parametrize("key", ["arch", "arch.name"])
def test_a_part_may_be_named_by_either_key_in_overrides(key: str) -> None:
    assert Config.load(overrides={key: "mlp"}).arch == Part("mlp")


def test_another_name_drops_the_parameters_of_the_old_one() -> None:
    assert Config.load().arch == Part("resnet", {"depth": 8, "width": 64})
    assert Config.load(overrides={"arch": "mlp"}).arch == Part("mlp")
    assert Config.load(overrides={"arch.width": 16, "arch": "mlp"}).arch == Part("mlp", {"width": 16})
    assert Config.load(overrides={"relabeller": "uniform"}).relabeller == Part("uniform")


def test_the_same_name_keeps_the_parameters() -> None:
    assert Config.load(overrides={"arch": "resnet"}).arch == Part("resnet", {"depth": 8, "width": 64})


def test_a_number_after_the_name_is_the_depth() -> None:
    assert Config.load(overrides={"arch": "resnet-1024"}).arch == Part("resnet", {"depth": 1024, "width": 64})
    assert Config.load(overrides={"arch": "mlp-3"}).arch == Part("mlp", {"depth": 3})
    assert Config.load(overrides={"arch": "eqcrl/resnet-4"}).arch == Part("eqcrl/resnet", {"depth": 4})


def test_an_explicit_depth_wins_over_the_number_whatever_the_order() -> None:
    for overrides in ({"arch": "resnet-16", "arch.depth": 32}, {"arch.depth": 32, "arch": "resnet-16"}):
        assert Config.load(overrides=overrides).arch.params["depth"] == 32


@pytest.mark.parametrize("field", ["actor_arch", "critic_arch"])
def test_actor_and_critic_take_over_what_they_do_not_set(field: str) -> None:
    def load(**overrides: Any) -> Part | None:
        return getattr(Config.load(overrides={k.replace("__", "."): v for k, v in overrides.items()}), field)

    assert load() is None
    assert load(**{f"{field}__depth": 4}) == Part("resnet", {"depth": 4, "width": 64})
    assert load(**{field: "resnet-4"}) == Part("resnet", {"depth": 4, "width": 64})
    assert load(**{field: "mlp"}) == Part("mlp")
    both = {f"{field}__depth": 4, "arch": "mlp", "arch__width": 9}
    assert load(**both) == Part("mlp", {"depth": 4, "width": 9})


def test_the_evaluation_environment_takes_over_nothing() -> None:
    config = Config.load(overrides={"env.episode_length": 7, "eval_env": "point-big-maze"})
    assert config.eval_env == Part("point-big-maze")
    with pytest.raises(ConfigError, match=r"`eval_env\.layout` is set, but `eval_env` names no part"):
        Config.load(overrides={"eval_env.layout": "u"})


def test_merge_tells_where_each_setting_was_made(toml: WriteToml) -> None:
    file = toml("seed = 3\n[arch]\nwidth = 32\n")
    config, origins = Config.merge(file=file, overrides={"train.batch_size": 8}, origin="flag")
    assert config == Config.load(file=file, overrides={"train.batch_size": 8})
    assert origins["seed"] == f"{file}:1"
    assert origins["arch.width"] == f"{file}:3"
    assert origins["arch.depth"] == "preset 'quickstart'"
    assert origins["train.batch_size"] == "flag `train.batch_size`"
    assert "checkpoint.keep" not in origins


def test_a_base_stands_in_for_preset_and_file() -> None:
    base = Config.load("paper", overrides={"seed": 9, "arch": "mlp-2"})
    merged, _ = Config.merge(base=base, overrides={"train.total_env_steps": 5})
    assert difference(base, merged) == {"train.total_env_steps": (100_000_000, 5)}


def test_what_a_resumed_run_may_change_are_settings() -> None:
    assert set(RESUMABLE) <= static_settings().keys()


def test_a_label_tells_environment_architecture_and_seed() -> None:
    config = Config.load(overrides={"arch": "resnet-64", "seed": 1, "env": "point-big-maze"})
    assert config.label() == "point-big-maze, resnet-64, seed 1"
    assert Config.load(overrides={"arch": "mlp"}).label() == "point-u-maze, mlp, seed 0"


# Messages.


@pytest.mark.parametrize(
    ("text", "line", "near"),
    [
        ("seed = 1\n\n[train]\nbatch_sise = 3\n", 4, "train.batch_size"),
        ("[train]  # how much\n'batch_sise' = 3\n", 2, "train.batch_size"),
        ("# nothing\nsed = 3\n", 2, "seed"),
        ("train.num_env = 3\n", 1, "train.num_envs"),
        ("[replay]\ncapacity = 10\n[trian]\nnum_envs = 4", 4, "train.num_envs"),
        ("[replay]\nmin_filed = 10\n[train]\nnum_envs = 4", 2, "replay.min_filled"),
    ],
)
def test_an_unknown_key_gets_the_nearest_and_its_line(toml: WriteToml, text: str, line: int, near: str) -> None:
    file = toml(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(file=file)
    assert caught.value.message.startswith(f"{file}:{line}: there is no setting `")
    assert near in str(caught.value.mend)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("seed = -1", 1, "Expected `int` >= 0"),
        ('seed = 1\n[train]\nnum_envs = "many"', 3, "Expected `int`"),
        ("[train]\nnum_envs = 1.5", 2, "Expected `int`"),
        ("[train]\nnum_envs = [1]", 2, "Expected `int`"),
        ("[train]\nbatch_size = true", 2, "Expected `int`"),
        ("[arch]\nname = 3", 2, "is not the name of a part"),
        ("env = []", 1, "is not the name of a part"),
        ('env = ""', 1, "is not the name of a part"),
        ("[eval_env]\nlayout = 'u'", 2, "names no part"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_line(
    toml: WriteToml, text: str, line: int, complaint: str
) -> None:
    file = toml(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(file=file)
    assert caught.value.message.startswith(f"{file}:{line}: ")
    assert complaint in caught.value.message
    assert caught.value.mend


def test_a_section_that_is_no_table_is_refused(toml: WriteToml) -> None:
    with pytest.raises(ConfigError, match="there is no setting `train`"):
        Config.load(file=toml("train = 3"))


def test_an_override_is_named_as_where_it_came_from() -> None:
    with pytest.raises(ConfigError, match=r"^flag `train\.batchsize`: there is no setting"):
        Config.load(overrides={"train.batchsize": 3}, origin="flag")
    with pytest.raises(ConfigError, match=r"^flag `train\.batch_size`: `train\.batch_size = '0'`"):
        Config.load(overrides={"train.batch_size": "0"}, origin="flag")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"env": "point-umaze"}, "Did you mean 'point-u-maze'"),
        ({"arch": "resnet-x"}, "There is no arch called 'resnet-x'"),
        ({"arch": "renset-8"}, "There is no arch called 'renset-8'"),
        ({"energy": "eqcrl/l3"}, "'eqcrl/l2'"),
        ({"loss": "nobody/infonce"}, "'infonce'"),
    ],
)
def test_an_unknown_part_gets_the_nearest(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        Config.load(overrides=overrides)
    assert message in str(caught.value)


def test_an_unknown_preset_gets_the_nearest(toml: WriteToml) -> None:
    with pytest.raises(UnknownName, match=r"There is no preset called 'papr'.*\n.*'paper'"):
        Config.load("papr")
    with pytest.raises(UnknownName, match="There is no preset called 'papr'"):
        Config.load(file=toml('preset = "papr"'))


def test_a_preset_that_is_no_name_is_refused(toml: WriteToml) -> None:
    with pytest.raises(ConfigError, match="preset"):
        Config.load(file=toml("preset = 5"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file"):
        Config.load(file=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Config.load(file=tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"seed = \xff")
    with pytest.raises(ConfigError, match=r"binary\.toml cannot be read: .*decode"):
        Config.load(file=binary)


@pytest.mark.parametrize("text", ["seed = ", "seed = 1\nseed = 2", "[train\n", "seed 3"])
def test_a_file_that_is_not_toml_is_refused_with_the_place(toml: WriteToml, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML: .*(line \d|end of document)"):
        Config.load(file=toml(text))


# Derived numbers and combinations.


def sizes(**train: int) -> Config:
    """A small configuration that works: 4 envs x 10 steps, 20 steps prefilled, 2 epochs."""
    settings = {
        "train.num_envs": 4,
        "train.unroll_length": 10,
        "train.batch_size": 16,
        "train.total_env_steps": 160,
        "replay.capacity": 50,
        "replay.min_filled": 20,
    }
    return Config.load(overrides=settings | {k.replace("__", "."): v for k, v in train.items()})


def test_derived_numbers() -> None:
    config = sizes()
    assert (config.env_steps_per_epoch(), config.prefill_epochs(), config.num_epochs()) == (40, 2, 2)
    assert sizes(replay__min_filled=21).prefill_epochs() == 3
    assert sizes(train__total_env_steps=161).num_epochs() == 3


def test_two_seeds_are_never_one_to_the_random_numbers() -> None:
    """A key is made from 32 bits: 2^32 would silently repeat the run of seed 0."""
    assert Config.load(overrides={"seed": 2**32 - 1}).seed == 2**32 - 1
    with pytest.raises(ConfigError, match="seed"):
        Config.load(overrides={"seed": 2**32})


@given(st.integers(1, 64), st.integers(1, 100), st.integers(1, 1000), st.integers(0, 10**6))
def test_at_least_the_steps_asked_for_are_taken_and_less_than_an_epoch_more(
    num_envs: int, unroll: int, min_filled: int, extra: int
) -> None:
    train, replay = Train(num_envs=num_envs, unroll_length=unroll), Replay(capacity=2000, min_filled=min_filled)
    config = Config(train=train, replay=replay)
    needed = (config.prefill_epochs() + 1) * config.env_steps_per_epoch()
    config = config.replace(train=msgspec.structs.replace(train, total_env_steps=needed + extra))
    taken = (config.prefill_epochs() + config.num_epochs()) * config.env_steps_per_epoch()
    assert needed + extra <= taken < needed + extra + config.env_steps_per_epoch()
    assert config.prefill_epochs() * unroll >= min_filled


@pytest.mark.parametrize(
    ("change", "first", "second"),
    [
        ({"train__unroll_length": 51}, "train.unroll_length = 51", "replay.capacity = 50"),
        ({"replay__min_filled": 51}, "replay.min_filled = 51", "replay.capacity = 50"),
        ({"train__batch_size": 81}, "train.batch_size = 81", "4 environments x 20 steps = 80"),
        ({"train__total_env_steps": 119}, "train.total_env_steps = 119", "takes 80 steps and one epoch 40"),
    ],
)
def test_impossible_combinations_name_both_settings_and_a_mend(change: dict[str, int], first: str, second: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sizes(**change)
    assert first in caught.value.message
    assert second in caught.value.message
    assert caught.value.mend


@pytest.mark.parametrize(
    "change",
    [
        {"train__unroll_length": 50, "train__total_env_steps": 400},
        {"replay__min_filled": 50, "train__total_env_steps": 400},
        {"train__batch_size": 80},
        {"train__total_env_steps": 120},
    ],
)
def test_the_largest_values_that_can_work_are_accepted(change: dict[str, int]) -> None:
    assert sizes(**change).num_epochs() >= 1


def test_a_buffer_that_overwrites_its_prefill_counts_what_it_keeps() -> None:
    """Prefill 3 x 20 = 60 steps into 50 rows: 200 transitions are there, not 240."""
    change = {"train__unroll_length": 20, "replay__min_filled": 50, "train__total_env_steps": 400}
    assert sizes(**change, train__batch_size=200)
    with pytest.raises(ConfigError, match="batch_size = 201"):
        sizes(**change, train__batch_size=201)
