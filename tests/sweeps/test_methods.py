"""Which settings are tried: reproducible, whatever was tried before."""

from pathlib import Path

import pytest

from eqcrl.errors import ConfigError
from eqcrl.sweeps.folder import SweepFolder
from eqcrl.sweeps.methods import Grid, Random, make_method
from eqcrl.sweeps.source import Source
from eqcrl.sweeps.spec import Sweep

RANDOM = """\
method = "random"
trials = 6
[search]
"arch.width" = { integers = [8, 512] }
agent.critic_rate = { log_uniform = [1e-5, 1e-2] }
env = ["point-u-maze", "point-maze"]
"""


def sweep(folder: Path, text: str) -> Sweep:
    (folder / "mine.toml").write_text(text)
    return Source(folder / "mine.toml").sweep()


def values(method: Random, count: int = 6) -> list[dict[str, object]]:
    return [dict(method.next(i).setting.values) for i in range(count)]


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    found = sweep(tmp_path, '[search]\narch = ["resnet-4", "resnet-8"]\nagent.critic_rate = [1e-3, 1e-4]\n')
    method = make_method(found, SweepFolder(tmp_path / "none"))
    assert isinstance(method, Grid)
    assert not method.learns()
    trials = [method.next(i) for i in range(found.trials)]
    assert [(t.name(), *t.setting.values.values()) for t in trials] == [
        ("0000", "resnet-4", 1e-3), ("0001", "resnet-4", 1e-4), ("0002", "resnet-8", 1e-3), ("0003", "resnet-8", 1e-4),
    ]  # fmt: skip
    assert trials[2].setting.config.arch.params["depth"] == 8
    assert trials[2].setting.flags() == ["--preset", "quickstart", "--arch=resnet-8", "--agent.critic-rate=0.001"]


def test_one_of_a_grid_that_cannot_work(tmp_path: Path) -> None:
    method = Grid(sweep(tmp_path, "[search]\ntrain.batch_size = [8, 10_000_000]\n"))
    with pytest.raises(ConfigError, match=r"Sweep mine, setting 0001: train.batch_size = 10000000 is larger"):
        method.next(1)


def test_draws_are_those_of_the_seed(tmp_path: Path) -> None:
    first = values(Random(sweep(tmp_path, RANDOM)))
    assert first == values(Random(sweep(tmp_path, RANDOM)))
    # Written down here so that another version draws the same.
    assert first[0] == {"arch.width": 192, "agent.critic_rate": 7.36552e-05, "env": "point-maze"}
    assert len({row["arch.width"] for row in first}) > 3
    other = values(Random(sweep(tmp_path, "draw_seed = 1\n" + RANDOM)))
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_a_longer_sweep_begins_like_a_shorter_one_and_axes_do_not_mind_each_other(tmp_path: Path) -> None:
    first = values(Random(sweep(tmp_path, RANDOM)))
    assert values(Random(sweep(tmp_path, RANDOM.replace("6", "20"))), 20)[:6] == first
    more = values(Random(sweep(tmp_path, RANDOM + "agent.discount = { uniform = [0.9, 0.99] }\n")))
    assert [{k: v for k, v in row.items() if k != "agent.discount"} for row in more] == first


def test_what_was_drawn_and_cannot_work_is_left_to_the_run(tmp_path: Path) -> None:
    text = "method = 'random'\ntrials = 1\n[search]\ntrain.batch_size = { integers = [9_000_000, 10_000_000] }\n"
    assert Random(sweep(tmp_path, text)).next(0).setting.config.train.batch_size >= 9_000_000
