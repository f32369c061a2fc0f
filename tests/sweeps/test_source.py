"""Sweep files: what they mean, and what is wrong with them, by file and line."""

from pathlib import Path
from typing import Any

import pytest

from eqcrl.errors import ConfigError, EqcrlError, UnknownName, UsageError
from eqcrl.sweeps.source import Source
from eqcrl.sweeps.space import Choices, Range
from eqcrl.sweeps.spec import Sweep

TEXT = """\
title = "Rates"
method = "random"
trials = 7
draw_seed = 3
metric = "eval/time_at_goal"
direction = "minimize"
last = 2
seeds = [4, 5]
budget = 300_000

[settings]
env.name = "point-u-maze"
train.batch_size = 128

[search]
arch = ["resnet-4", "resnet-16"]
agent.discount = { uniform = [0.9, 0.999] }
"agent.critic_rate" = { log_uniform = [1e-5, 1e-2] }
"arch.width" = { log_integers = [16, 256] }
train.num_envs = { integers = [128, 512], step = 128 }
norms = [{ label = "none", critic_arch.norm = "none" }, { critic_arch.norm = "rms", critic_arch.activation = "relu" }]

[launcher]
name = "slurm"
partition = "gpu"
gpus = 2
"""


def source(folder: Path, text: str) -> Source:
    (folder / "mine.toml").write_text(text)
    return Source(folder / "mine.toml")


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return source(tmp_path, TEXT).sweep()


def test_what_a_file_says(sweep: Sweep) -> None:
    assert (sweep.name, sweep.title, sweep.method, sweep.trials, sweep.draw_seed) == ("mine", "Rates", "random", 7, 3)
    assert (sweep.metric, sweep.direction, sweep.last) == ("eval/time_at_goal", "minimize", 2)
    assert (sweep.preset, sweep.seeds) == ("quickstart", (4, 5))
    assert sweep.settings == {"env": "point-u-maze", "train.batch_size": 128, "train.total_env_steps": 300_000}
    assert sweep.axes[1:5] == (
        Range("agent.discount", "uniform", 0.9, 0.999),
        Range("agent.critic_rate", "log_uniform", 1e-5, 1e-2),
        Range("arch.width", "log_integers", 16, 256),
        Range("train.num_envs", "integers", 128, 512, 128),
    )
    arch, norms = sweep.axes[0], sweep.axes[5]
    assert isinstance(arch, Choices)
    assert isinstance(norms, Choices)
    assert [c.label for c in norms.values] == ["none", "norm rms, activation relu"]
    assert norms.sets() == ["critic_arch.norm", "critic_arch.activation"]
    assert (sweep.launcher, sweep.launcher_settings) == ("slurm", {"partition": "gpu", "gpus": 2})
    assert sweep.better(2.0) < sweep.better(1.0)


def test_it_is_written_as_it_is_read(sweep: Sweep, tmp_path: Path) -> None:
    again = source(tmp_path, sweep.to_toml()).sweep()
    assert vars(again) | {"origins": {}} == vars(sweep) | {"origins": {}}
    assert again.definition() == sweep.definition()


def test_flags_come_over_the_file(tmp_path: Path) -> None:
    found = source(tmp_path, TEXT)
    changed = found.sweep(
        trials=2, seeds=1, overrides={"train.batch_size": "64"}, launcher_settings={"gpus": "1", "time": "30"}
    )
    assert (changed.trials, changed.seeds, changed.settings["train.batch_size"]) == (2, (0,), 64)
    assert changed.launcher_settings == {"partition": "gpu", "gpus": 1, "time": 30}
    elsewhere = found.sweep(launcher="local", launcher_settings={"jobs": "2"})
    assert (elsewhere.launcher, elsewhere.launcher_settings) == ("local", {"jobs": 2}), "SLURM's mean nothing there"


def test_a_grid_has_all_combinations(tmp_path: Path) -> None:
    assert source(tmp_path, "[search]\narch.width = [1, 2, 3]\nagent.x = [1, 2]\n").sweep().trials == 6


RANDOM = "method = 'random'\ntrials = 1\n[search]\n"
GRID = "[search]\narch.width = [16, 32]\n"
WRONG: list[tuple[str, dict[str, Any], type[EqcrlError], str]] = [
    ("metod = 'grid'", {}, ConfigError, r"(?s)mine.toml:1: a sweep has no `metod`.*'method'"),
    ("method = 'gird'", {}, ConfigError, r"(?s)mine.toml:1: there is no method 'gird'.*'grid'"),
    ("direction = 'max'", {}, ConfigError, r"(?s)mine.toml:1: there is no direction 'max'.*maximize"),
    ("trials = 'x'", {}, ConfigError, "mine.toml:1: `trials` does not fit: Expected `int | null`, got `str`"),
    ("", {}, ConfigError, "the sweep searches nothing"),
    ("[search]\n", {}, ConfigError, "the sweep searches nothing"),
    ("[search]\narch.width = []", {}, ConfigError, "mine.toml:2: the axis `arch.width` is empty"),
    ("[search]\narch.width = { integers = [1, 2] }", {}, ConfigError, "mine.toml:2: a grid has values"),
    ("trials = 3\n" + GRID, {}, ConfigError, "mine.toml:1: a grid has as many trials as there are combinations"),
    (GRID, {"trials": 3}, ConfigError, "--trials: a grid has as many trials"),
    ("method = 'random'\n" + GRID, {}, ConfigError, "mine.toml:1: how many trials does 'random' make"),
    ("method = 'optuna'\ntrials = 0\n" + GRID, {}, ConfigError, "mine.toml:2: 0 trials are none"),
    ("seeds = []\n" + GRID, {}, ConfigError, "mine.toml:1: a sweep of no seeds"),
    (GRID, {"seeds": 0}, ConfigError, "--seeds: a sweep of no seeds"),
    ("seeds = [1, 1]\n" + GRID, {}, ConfigError, "mine.toml:1: a seed is named twice"),
    ("last = 0\n" + GRID, {}, ConfigError, "mine.toml:1: `last = 0` takes no evaluation"),
    ("[search]\narhc = ['a']", {}, ConfigError, r"(?s)mine.toml:2: there is no setting `arhc`.*'arch'"),
    ("[search]\narch = ['resent-4']", {}, UnknownName, r"(?s)mine.toml:2: There is no arch called.*'resnet'"),
    ("[search]\ntrain.batch_size = [0]", {}, ConfigError, "mine.toml:2: `train.batch_size = 0` does not fit"),
    (
        "method='random'\ntrials=1\n[search]\ntrain.batch_size = { integers = [0, 9] }", {}, ConfigError,
        "mine.toml:4: `train.batch_size = 0` does not fit",
    ),
    (RANDOM + "rates = { uniform = [0, 9] }", {}, ConfigError, "mine.toml:4: there is no setting"),
    ("[search]\nseed = [1, 2]", {}, ConfigError, "mine.toml:2: `seed` is no setting of a sweep"),
    (GRID + "[settings]\narch.width = 8", {}, ConfigError, "mine.toml:4: `arch.width` is a common setting"),
    (GRID + "a = [{ arch.width = 3 }]", {}, ConfigError, "both set `arch.width`"),
    (GRID, {"overrides": {"arch.width": "3"}}, UsageError, "--set arch.width: the sweep searches this"),
    (GRID + "[settings]\ntrain.batch_sise = 8", {}, ConfigError, "mine.toml:4: there is no setting"),
    ("budget = 3\n[settings]\ntrain.total_env_steps = 4\n" + GRID, {}, ConfigError, "mine.toml:1: `budget` and"),
    (GRID + "[launcher]\nname = 'slrum'", {}, UnknownName, r"(?s)mine.toml:4: There is no launcher.*'slurm'"),
    (GRID + "[launcher]\nname = 3", {}, ConfigError, "mine.toml:4: `launcher.name = 3` is not the name"),
    (GRID + "[launcher]\nprtition = 'a'", {}, ConfigError, "mine.toml:4: there is no setting `launcher.prtition`"),
    (GRID + "[launcher]\njobs = 0", {}, ConfigError, "mine.toml:4: `launcher.jobs = 0` does not fit"),
    ("preset = 'papr'\n" + GRID, {}, UnknownName, r"(?s)mine.toml:1: There is no preset.*'paper'"),
    ("title = ", {}, ConfigError, "mine.toml is not valid TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "flags", "kind", "said"), WRONG, ids=[said for _, _, _, said in WRONG])
def test_what_is_wrong_with_a_file(
    tmp_path: Path, text: str, flags: dict[str, Any], kind: type[EqcrlError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        source(tmp_path, text).sweep(**flags)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml cannot be read"):
        Source(tmp_path / "none.toml")
