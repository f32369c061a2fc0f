"""Single settings: types, help, signatures of parts, and values from files and from flags."""

import subprocess
import sys
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eqcrl.agents.crl import CRL
from eqcrl.energies import L2
from eqcrl.envs.point import PointMaze, big_maze
from eqcrl.errors import ConfigError
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.resnet import ResNet
from eqcrl.settings import (
    REQUIRED,
    Meta,
    coerce,
    describe_type,
    is_scalar_type,
    make_setting,
    signature_of,
    unknown_key,
)

COUNT = Annotated[int, Meta(ge=1, description="how many", extra={"unit": "steps"})]
SHARE = Annotated[float, Meta(ge=0.0, le=1.0, description="what share")]


def convert(value: Any, annotation: Any) -> Any:
    return coerce(value, make_setting("x", annotation, 5), key="train.x", origin="mine.toml:3")


@pytest.mark.parametrize(
    ("annotation", "scalar", "text"),
    [
        (int, True, "int"),
        (bool, True, "bool"),
        (COUNT, True, "int"),
        (float | None, True, "float or none"),
        (Literal["a", "b"], True, "one of a, b"),
        (Annotated[Literal[1, 2], Meta(description="x")], True, "one of 1, 2"),
        (list[int], False, "list"),
        (AbstractArch, False, "AbstractArch"),
        (int | AbstractArch, False, "int or AbstractArch"),
    ],
)
def test_types_are_told_apart_and_described(annotation: Any, scalar: bool, text: str) -> None:
    assert is_scalar_type(annotation) is scalar
    assert describe_type(annotation) == text


def test_a_setting_carries_help_unit_and_default() -> None:
    setting = make_setting("x", COUNT, 5)
    assert (setting.help, setting.unit, setting.type_name(), setting.default_text()) == (
        "how many",
        "steps",
        "int",
        "5",
    )
    bare = make_setting("x", int, REQUIRED)
    assert (bare.help, bare.unit, bare.default_text()) == ("", None, "required")


@given(st.integers(1, 2**63 - 1))
@example(2**53 + 1)  # the first one that a float cannot hold
def test_whole_numbers_survive_exactly_from_file_and_flag(number: int) -> None:
    assert convert(number, COUNT) == number
    assert convert(str(number), COUNT) == number
    assert convert(f"{number:_}", COUNT) == number


@pytest.mark.parametrize(("text", "number"), [("1e6", 10**6), ("2.5e3", 2500), ("1_000_000", 10**6), ("4.0", 4)])
def test_whole_numbers_may_be_written_with_an_exponent(text: str, number: int) -> None:
    converted = convert(text, COUNT)
    assert converted == number
    assert type(converted) is int


@given(st.floats(0.0, 1.0))
def test_real_numbers_survive_exactly_from_file_and_flag(number: float) -> None:
    assert convert(number, SHARE) == number
    assert convert(repr(number), SHARE) == number


@pytest.mark.parametrize(
    ("value", "annotation", "converted"),
    [
        (1, SHARE, 1.0),
        ("true", bool, True),
        ("false", bool, False),
        ("0.5", float | None, 0.5),
        ("b", Literal["a", "b"], "b"),
        ("12", str, "12"),
        ("", str, ""),
    ],
)
def test_values_that_fit(value: Any, annotation: Any, converted: Any) -> None:
    found = convert(value, annotation)
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (0, COUNT),
        (-3, COUNT),
        ("0", COUNT),
        (True, COUNT),
        (2.0, COUNT),
        (None, COUNT),
        ([1], COUNT),
        ("many", COUNT),
        ("1.5", COUNT),
        ("1e400", COUNT),
        ("nan", COUNT),
        ("", COUNT),
        (1.5, SHARE),
        (float("nan"), SHARE),
        ("nan", SHARE),
        ("inf", SHARE),
        (True, SHARE),
        (1, bool),
        ("maybe", bool),
        (12, str),
        ("c", Literal["a", "b"]),
    ],
)
def test_values_that_do_not_fit_name_key_place_and_mend(value: Any, annotation: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(value, annotation)
    assert f"mine.toml:3: `train.x = {value!r}` does not fit" in caught.value.message
    assert caught.value.mend.startswith(f"train.x is {describe_type(annotation)}")
    assert caught.value.mend.endswith("the default is 5.")


def test_the_mend_tells_unit_and_meaning() -> None:
    with pytest.raises(ConfigError, match=r"train\.x is int \(steps\): how many; the default is 5\."):
        convert(0, COUNT)


def test_an_unknown_key_gets_the_nearest_ones() -> None:
    error = unknown_key("train.batchsize", ["train.batch_size", "seed"], origin="mine.toml:3")
    assert error.message == "mine.toml:3: there is no setting `train.batchsize`."
    assert error.mend == "Did you mean 'train.batch_size'?"


def test_signature_of_a_class() -> None:
    signature = signature_of(ResNet)
    assert list(signature.settings) == [
        "depth",
        "width",
        "block",
        "recipe",
        "remat",
        "depth_solver",
        "norm",
        "activation",
        "residual",
    ]
    assert signature.settings["depth"].default == 8
    assert signature.settings["depth"].unit == "layers"
    assert signature.settings["remat"].type_name() == "one of auto, none, dots, block, nested"
    assert not signature.slots


def test_signature_with_slots_for_other_parts() -> None:
    signature = signature_of(CRL)
    assert list(signature.slots) == ["actor_arch", "critic_arch", "energy", "loss", "actor_goals"]
    assert signature.slots["actor_arch"] is AbstractArch
    assert "representation_size" in signature.settings
    assert all(setting.help for setting in signature.settings.values())


def test_signature_of_a_class_without_parameters() -> None:
    assert not signature_of(L2).settings
    assert not signature_of(L2).slots


def test_signature_of_a_partial_has_its_defaults() -> None:
    settings = signature_of(big_maze).settings
    assert settings["layout"].default == "big"
    assert settings["episode_length"].default == 200
    assert list(settings) == list(signature_of(PointMaze).settings)
    nested = signature_of(partial(big_maze, cell_size=1.0)).settings
    assert nested["cell_size"].default == 1.0
    assert nested["episode_length"].default == 200
    assert nested["layout"].help == settings["layout"].help != ""


def test_fields_that_the_constructor_does_not_take_are_no_settings() -> None:
    assert "action_size" not in signature_of(PointMaze).settings


def test_signature_of_a_function() -> None:
    def make(count: COUNT, arch: AbstractArch, name: str = "x") -> None: ...

    signature = signature_of(make)
    assert list(signature.settings) == ["count", "name"]
    assert signature.settings["count"].default is REQUIRED
    assert signature.settings["count"].unit == "steps"
    assert signature.slots == {"arch": AbstractArch}


@pytest.mark.parametrize("module", ["errors", "registry", "settings", "config", "presets"])
def test_names_and_settings_are_read_without_jax(module: str) -> None:
    heavy = "jax", "jaxlib", "equinox", "numpy", "scipy", "matplotlib"
    code = f"import eqcrl.{module}, sys; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
