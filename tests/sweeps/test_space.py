"""Choices and ranges: every draw lies within, the ends are reached, nothing out of range is accepted."""

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eqcrl.errors import ConfigError
from eqcrl.jobs.keys import Scalar
from eqcrl.jobs.setting import Choice
from eqcrl.sweeps.space import Choices, Range, corners, leaves, read_axis

UNIT = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(1e-12, 1e12)


def kept(key: str, value: Any, origin: str) -> Scalar:
    return value


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), UNIT)
def test_a_number_lies_between_its_ends(low: float, width: float, u: float) -> None:
    found = Range("agent.x", "uniform", low, low + width).at(u).label
    assert isinstance(found, float)
    assert low <= found <= low + width
    exact = low + u * width
    assert found == pytest.approx(exact, rel=1e-5, abs=1e-5 * width)


@given(POSITIVE, st.floats(1.001, 1e6), UNIT)
def test_ratios_are_as_likely_on_a_logarithmic_range(low: float, ratio: float, u: float) -> None:
    found = Range("agent.x", "log_uniform", low, low * ratio).at(u).label
    assert isinstance(found, float)
    assert low <= found <= low * ratio
    assert math.log(found / low) == pytest.approx(u * math.log(ratio), abs=2e-5)


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 50), UNIT)
def test_whole_numbers_keep_their_step(low: int, width: int, step: int, u: float) -> None:
    found = Range("agent.x", "integers", low, low + width, step).at(u).label
    assert isinstance(found, int)
    assert low <= found <= low + width
    assert (found - low) % step == 0


@given(st.integers(1, 1000), st.integers(1, 100_000), UNIT)
def test_whole_numbers_of_a_logarithmic_range(low: int, width: int, u: float) -> None:
    found = Range("agent.x", "log_integers", low, low + width).at(u).label
    assert isinstance(found, int)
    assert low <= found <= low + width


@pytest.mark.parametrize("kind", ["integers", "log_integers"])
def test_both_ends_are_drawn(kind: Any) -> None:
    axis = Range("agent.x", kind, 2, 5)
    drawn = [axis.at((i + 0.5) / 400).label for i in range(400)]
    assert set(drawn) == {2, 3, 4, 5}
    if kind == "integers":
        assert {drawn.count(n) for n in (2, 3, 4, 5)} == {100}
    else:
        assert drawn.count(2) > drawn.count(5)
    assert drawn == sorted(drawn)


@given(st.lists(st.integers(), min_size=1, max_size=9, unique=True), UNIT)
def test_every_choice_is_as_likely(values: list[int], u: float) -> None:
    axis = Choices("agent.x", tuple(Choice(v, {"agent.x": v}) for v in values))
    assert axis.at(u).label == values[int(u * len(values))]


def test_names_and_ranges_are_told_apart() -> None:
    tree = {
        "agent": {"rate": {"log_uniform": [1, 2]}, "x": [1]},
        "arch.width": {"integers": [1, 2], "step": 1},
        "a": [],
    }
    assert dict(leaves(tree)) == {
        "agent.rate": {"log_uniform": [1, 2]}, "agent.x": [1], "arch.width": {"integers": [1, 2], "step": 1}, "a": [],
    }  # fmt: skip


WRONG: list[tuple[str, Any, str]] = [
    ("agent.x", {"uniform": [1, 1]}, "1 is not below 1"),
    ("agent.x", {"uniform": [2, 1]}, "2 is not below 1"),
    ("agent.x", {"uniform": [1]}, "is not two numbers"),
    ("agent.x", {"uniform": 3}, "is not two numbers"),
    ("agent.x", {"uniform": [0, True]}, "is not two numbers"),
    ("agent.x", {"uniform": ["0", "1"]}, "is not two numbers"),
    ("agent.x", {"uniform": [0, math.inf]}, "are not finite"),
    ("agent.x", {"uniform": [math.nan, 1.0]}, "are not finite"),
    ("agent.x", {"log_uniform": [0, 1]}, "cannot begin at 0"),
    ("agent.x", {"log_integers": [-3, 1]}, "cannot begin at -3"),
    ("agent.x", {"integers": [0.5, 2]}, "are not whole numbers"),
    ("agent.x", {"integers": [1, 9], "step": 0}, "a step of 0 is none"),
    ("agent.x", {"integers": [1, 9], "step": 1.5}, "a step of 1.5 is none"),
    ("agent.x", {"uniform": [1, 9], "step": 2}, "only integers have a step"),
    ("agent.x", {"step": 2}, "is no range"),
    ("agent.x", {"uniform": [1, 2], "integers": [1, 2]}, "is no range"),
    ("agent.x", {"uniform": [1, 2], "low": 1}, "is no range"),
    ("agent.x.log_unifrom", [1, 2], r"(?s)no kind of range 'log_unifrom'.*'log_uniform'"),
    ("train.batch_size", {"uniform": [8, 64]}, "takes whole numbers only"),
    ("agent.x", [], "is empty"),
    ("agent.x", 3, "is not a list"),
    ("agent.x", [1, 1], "has '1' twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_is_no_axis(name: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_axis(name, value, "f.toml:3", kept)


def test_corners() -> None:
    axes = (Range("agent.x", "integers", 1, 9, 3), Choices("agent.y", (Choice("a", {}), Choice("b", {}))))
    points = [{k: c.label for k, c in point.items()} for point in corners(axes)]
    assert points == [
        {"agent.x": 1, "agent.y": "a"}, {"agent.x": 7, "agent.y": "a"}, {"agent.x": 1, "agent.y": "b"},
        {"agent.x": 7, "agent.y": "b"},
    ]  # fmt: skip
