"""From names to parts: parameters checked and completed, constructors and wrong objects caught."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl import registry
from eqcrl.actor_goals import Mixed
from eqcrl.assemble import assemble, build_env, build_part, check_params, complete, part_signature
from eqcrl.config import PART_KINDS, Config, Part
from eqcrl.energies import L1, L2
from eqcrl.envs.point import PointMaze
from eqcrl.errors import BrokenPlugin, ConfigError, UnknownName
from eqcrl.losses import BinaryNCE
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.relabel import Uniform

DECLARED = """
[eqcrl.envs]
dictionary = eqcrl_odd:dictionary
number = eqcrl_odd:number
[eqcrl.energies]
explodes = eqcrl_odd:Explodes
refuses = eqcrl_odd:Refuses
demanding = eqcrl_odd:Demanding
starving = eqcrl_odd:Starving
"""
MODULE = """
from eqcrl.errors import ConfigError
from eqcrl.energies import AbstractEnergy

number = 5

def dictionary(size: int = 3):
    return {"size": size}

class Explodes:
    def __init__(self, fuse: int = 1):
        raise ZeroDivisionError("boom")

class Refuses:
    def __init__(self, level: int = 3):
        raise ConfigError(f"level {level} does not exist.", mend="Use 4.")

class Demanding:
    def __init__(self, amount: float, unit: str):
        self.amount, self.unit = amount, unit

class Starving:
    def __init__(self, feeder: AbstractEnergy):
        self.feeder = feeder
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution whose parts do not behave."""
    info = tmp_path / "eqcrl_odd-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eqcrl-odd\nVersion: 0.3\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(DECLARED, encoding="utf-8")
    (tmp_path / "eqcrl_odd.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    yield
    sys.modules.pop("eqcrl_odd", None)
    monkeypatch.undo()
    registry.refresh()


SMALL = {
    "arch": "resnet-4",
    "arch.width": 8,
    "train.num_envs": 4,
    "train.unroll_length": 5,
    "replay.capacity": 50,
    "replay.min_filled": 10,
    "train.batch_size": 8,
    "train.updates_per_epoch": 2,
    "train.total_env_steps": 1000,
}


def test_parameters_are_checked_and_completed() -> None:
    assert check_params("arch", Part("resnet", {"depth": "12"})) == {
        "depth": 12,
        "width": 256,
        "block": "dense-norm-swish",
        "recipe": "calm",
        "remat": "auto",
        "depth_solver": "scan",
        "norm": "layer",
        "activation": "swish",
        "residual": True,
    }
    assert check_params("energy", Part("l2")) == {}


def test_an_unknown_parameter_gets_the_nearest_and_its_origin() -> None:
    with pytest.raises(ConfigError) as caught:
        check_params("arch", Part("resnet", {"dept": 4}), {"arch.dept": "mine.toml:3"})
    assert caught.value.message == "mine.toml:3: there is no setting `arch.dept`."
    assert caught.value.mend.startswith("Did you mean 'arch.depth'")
    with pytest.raises(ConfigError, match=r"^arch 'resnet': there is no setting `arch\.dept`"):
        check_params("arch", Part("resnet", {"dept": 4}))


def test_a_slot_is_not_a_parameter() -> None:
    with pytest.raises(ConfigError, match=r"there is no setting `agent\.energy`"):
        check_params("agent", Part("crl", {"energy": "l2"}))


@pytest.mark.parametrize("params", [{"depth": "deep"}, {"depth": 4.5}, {"depth": 0}, {"remat": "most"}])
def test_a_parameter_that_does_not_fit_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"arch\.{next(iter(params))}.*does not fit"):
        check_params("arch", Part("resnet", params))


def test_a_required_parameter_must_be_set(odd: None) -> None:
    with pytest.raises(ConfigError, match=r"energy 'demanding' needs `energy\.unit`.*\n.*Set energy\.unit"):
        check_params("energy", Part("demanding", {"amount": 3}))
    built = build_part("energy", Part("demanding", {"amount": "3", "unit": "kg"}))
    assert (built.amount, built.unit) == (3.0, "kg")


def test_complete_writes_out_every_parameter() -> None:
    config = complete(Config.load(overrides=SMALL))
    for field, kind in PART_KINDS.items():
        part = getattr(config, field)
        if part is not None:
            assert part.params.keys() == part_signature(kind, part.name).settings.keys(), field
    assert config.arch.params == {
        "depth": 4,
        "width": 8,
        "block": "dense-norm-swish",
        "recipe": "calm",
        "remat": "auto",
        "depth_solver": "scan",
        "norm": "layer",
        "activation": "swish",
        "residual": True,
    }
    assert config.env.params["layout"] == "u"
    assert (config.eval_env, config.actor_arch) == (None, None)


@given(
    st.sampled_from(["point-u-maze", "point-hardest-maze-fixed-start", "eqcrl/point-maze"]),
    st.sampled_from(["resnet-8", "mlp", "mlp-3"]),
    st.sampled_from([None, "resnet-4", "mlp"]),
    st.sampled_from(["cosine", "l2"]),
    st.sampled_from(["uniform", "geometric"]),
)
def test_complete_is_idempotent_and_survives_toml(
    env: str, arch: str, actor: str | None, energy: str, relabeller: str
) -> None:
    overrides = {**SMALL, "env": env, "arch": arch, "energy": energy, "relabeller": relabeller}
    config = complete(Config.load(overrides=overrides | ({"actor_arch": actor} if actor else {})))
    assert complete(config) == config
    assert Config.from_toml(config.to_toml(), "mine.toml") == config


def test_an_impossible_depth_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(ConfigError, match=r"depth 10 does not exist.*\n.*8 or 12"):
        build_part("arch", Part("resnet", {"depth": 10}))
    with pytest.raises(ConfigError, match=r"depth 3 does not exist.*\n.*Use depth 4\."):
        assemble(Config.load(overrides={**SMALL, "arch": "resnet-3"}))


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(UnknownName, match="There is no block called 'dense'"):
        build_part("arch", Part("resnet", {"block": "dense"}))


def test_a_constructor_that_raises_is_a_broken_plugin(odd: None) -> None:
    with pytest.raises(BrokenPlugin, match="ZeroDivisionError: boom") as caught:
        build_part("energy", Part("explodes", {"fuse": 9}))
    assert "'explodes' of eqcrl-odd 0.3 (eqcrl_odd:Explodes)" in caught.value.message
    assert "{'fuse': 9}" in caught.value.message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_part_that_refuses_its_parameters_is_not_broken(odd: None) -> None:
    with pytest.raises(ConfigError, match="level 3 does not exist"):
        build_part("energy", Part("refuses"))


def test_a_slot_that_nothing_fills_is_a_broken_plugin(odd: None) -> None:
    with pytest.raises(BrokenPlugin, match="feeder"):
        build_part("energy", Part("starving"))
    assert build_part("energy", Part("starving"), {"feeder": L2(), "other": 3}).feeder == L2()


def test_an_environment_that_is_none_is_a_broken_plugin(odd: None) -> None:
    with pytest.raises(BrokenPlugin, match=r"The env 'dictionary' is a dict, not an .*AbstractEnv"):
        build_env(Part("dictionary"))


def test_an_object_that_cannot_be_called_is_a_broken_plugin(odd: None) -> None:
    with pytest.raises(BrokenPlugin, match=r"'number' of eqcrl-odd 0\.3"):
        build_env(Part("number"))


def test_every_part_lands_where_it_belongs() -> None:
    system = assemble(
        Config.load(
            overrides={
                **SMALL,
                "actor_arch": "mlp-2",
                "actor_arch.width": 16,
                "energy": "l1",
                "loss": "nce-binary",
                "relabeller": "uniform",
                "actor_goals.fraction": 0.25,
                "agent.representation_size": 3,
                "env.episode_length": 9,
                "eval_env": "point-big-maze",
                "eval.num_envs": 6,
            }
        )
    )
    algorithm, agent = system.algorithm, system.algorithm.agent
    assert (agent.actor_arch, agent.critic_arch) == (MLP(2, 16), ResNet(4, 8))
    assert (agent.energy, agent.loss, agent.actor_goals) == (L1(), BinaryNCE(), Mixed(0.25))
    assert agent.representation_size == 3
    assert algorithm.relabeller == Uniform()
    assert algorithm.env.env == PointMaze("u", episode_length=9)
    assert system.eval_env == PointMaze("big", episode_length=200)
    assert (algorithm.env.num_envs, algorithm.capacity, algorithm.unroll_length) == (4, 50, 5)
    assert (algorithm.updates, algorithm.batch_size, system.eval_episodes) == (2, 8, 6)


@pytest.mark.parametrize("fresh", [True, False])
def test_fresh_resets_reach_the_batched_environment(fresh: bool) -> None:
    system = assemble(Config.load(overrides={**SMALL, "train.fresh_resets": fresh}))
    assert system.algorithm.env.fresh_resets is fresh


def test_the_evaluation_environment_is_the_one_that_the_environment_names() -> None:
    system = assemble(Config.load(overrides={**SMALL, "env": "point-u-maze-fixed-start"}))
    assert system.algorithm.env.env == PointMaze("u", "fixed")
    assert system.eval_env == PointMaze("u", "evaluation")


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Events of JAX's compiler while the test runs."""
    heard: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            heard.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield heard
    jax.monitoring.unregister_event_duration_listener(listen)


def test_assembling_compiles_nothing(compilations: list[str]) -> None:
    """A plan for a network of 1024 layers is checked before, not after, minutes of compilation."""
    assemble(Config.load(overrides={**SMALL, "arch": "resnet-1024"}))
    assert not compilations
    jax.jit(lambda x: x * 3.25 + 1.5)(1.0)
    assert compilations, "the listener hears nothing"
