"""Study files: what they mean at a scale, and what is refused, with file and line."""

from pathlib import Path

import pytest

from eqcrl.errors import BrokenPlugin, ConfigError, EqcrlError, UnknownName, UsageError
from eqcrl.jobs.keys import BUDGET, flatten, is_key, normal
from eqcrl.jobs.setting import Choice
from eqcrl.registry import Entry
from eqcrl.studies import source
from eqcrl.studies.grid import expand
from eqcrl.studies.source import Source, each_study, find_study
from eqcrl.studies.spec import Evaluation

WHOLE = """\
title = "Whole"
question = "Why?"
metric = "eval/time_at_goal"
seeds = [3, 5]

[settings]
arch.width = 16
train.batch_size = 8

[axes]
arch = ["resnet-4", "resnet-8"]
"train.num_envs" = [8, 16]
pair = [
    { label = "small", replay.min_filled = 240, relabeller.gamma = 0.9 },
    { replay.min_filled = 300, relabeller = { name = "geometric", gamma = 0.99 } },
]

[[evaluations]]
label = "far"
env = "point-big-maze"

[[evaluations]]
env.cell_size = 3.0

[[figures]]
kind = "score"
x = "arch.depth"
lines = "pair"
where = { arch.width = 16 }

[scales.laptop]
budget = 100_000

[scales.gpu]
preset = "paper"
seeds = 2
metric = "eval/success_end"

[scales.gpu.settings]
train.batch_size = 64

[scales.gpu.axes]
arch = ["resnet-16"]
env = ["point-u-maze", "point-big-maze"]
"""


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "mine.toml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


def test_a_scale_replaces_what_it_names_and_nothing_else(write) -> None:
    found = Source(write(WHOLE))
    assert found.scales() == ("laptop", "gpu")
    small, large = found.study("laptop"), found.study("gpu")
    assert (small.name, small.scale, small.preset, small.seeds) == ("mine", "laptop", "quickstart", (3, 5))
    assert small.settings == {"arch.width": 16, "train.batch_size": 8, BUDGET: 100_000}
    assert list(small.axes) == ["arch", "train.num_envs", "pair"]
    assert small.axes["pair"] == (
        Choice("small", {"replay.min_filled": 240, "relabeller.gamma": 0.9}),
        Choice(
            "min_filled 300, relabeller geometric, gamma 0.99",
            {"replay.min_filled": 300, "relabeller": "geometric", "relabeller.gamma": 0.99},
        ),
    )
    assert small.evaluations == (
        Evaluation("far", "point-big-maze", {}),
        Evaluation("cell_size 3.0", None, {"cell_size": 3.0}),
    )
    assert (large.preset, large.seeds, large.metric) == ("paper", (0, 1), "eval/success_end")
    assert large.settings == {"arch.width": 16, "train.batch_size": 64}
    # The environment first, so that what is compared within it stands together.
    assert list(large.axes) == ["env", "arch", "train.num_envs", "pair"]
    assert [c.label for c in large.axes["arch"]] == ["resnet-16"]


def test_the_smallest_scale_is_the_default(write) -> None:
    assert Source(write(WHOLE)).study(None).scale == "laptop"


def test_a_resolved_study_is_a_study_file_that_means_the_same(write) -> None:
    study = Source(write(WHOLE)).study("gpu", seeds=4, overrides={"eval.every": "7", "agent.representation_size": "8"})
    again = Source(write(study.to_toml(), "study.toml")).study(None)
    assert again.definition() == study.definition()
    assert (again.name, again.scale, again.seeds, again.metric) == ("mine", "gpu", (0, 1, 2, 3), "eval/success_end")
    assert again.figures == study.figures
    assert again.evaluations == study.evaluations
    assert [(s.slug, s.config) for s in expand(again)] == [(s.slug, s.config) for s in expand(study)]


def test_overrides_of_all_runs(write) -> None:
    found = Source(write(WHOLE))
    study = found.study("laptop", overrides={"train.batch_size": "1e1", "env.name": "point-open"})
    assert study.settings["train.batch_size"] == 10
    assert study.settings["env"] == "point-open"
    with pytest.raises(UsageError, match=r"(?s)the axis `arch`.*--only arch=VALUE"):
        found.study("laptop", overrides={"arch": "resnet-4"})
    with pytest.raises(ConfigError, match=r"--set: there is no setting `train.batchsize`.*\n.*'train.batch_size'"):
        found.study("laptop", overrides={"train.batchsize": "4"})
    with pytest.raises(ConfigError, match=r"--set: `train.batch_size = 'many'` does not fit"):
        found.study("laptop", overrides={"train.batch_size": "many"})


TITLE = 'title = "t"\n'
BAD = [
    ("", "a study needs a `title`"),
    ('titel = "x"\n', r"mine.toml:1: a study has no `titel`.\n.*'title'"),
    (TITLE + "seeds = 0", r"mine.toml:2: a study of no seeds"),
    (TITLE + "seeds = []", r"mine.toml:2: a study of no seeds"),
    (TITLE + "seeds = [1, 1]", "a seed is named twice"),
    (TITLE + "seeds = [-1]", r"mine.toml:2: `seeds = -1` does not fit"),
    (TITLE + 'seeds = "three"', r"mine.toml:2: `seeds` does not fit"),
    (TITLE + "[axes]\narch = []", r"mine.toml:3: the axis `arch` is empty"),
    (TITLE + '[axes]\narch = "resnet-4"', r"mine.toml:3: the axis `arch` is not a list"),
    (TITLE + '[axes]\narch = ["resnet-4", "resnet-4"]', r"the axis `arch` has 'resnet-4' twice"),
    (TITLE + '[axes]\narch = ["resent-4"]', r"mine.toml:3: There is no arch called 'resent-4'.\n.*'resnet'"),
    (TITLE + "[axes]\narch = [4]", r"mine.toml:3: `arch = 4` is not the name of a part"),
    (TITLE + '[axes]\n"train.batch_size" = [1, "x"]', r"mine.toml:3: `train.batch_size = 'x'` does not fit"),
    (TITLE + "[axes]\n# one\n\ntrain.batch_size = [0]", r"mine.toml:5: `train.batch_size = 0` does not fit"),
    (TITLE + "[axes]\ntrain.batch_size = [[1]]", r"mine.toml:3: `train.batch_size = \[1\]` is not one value"),
    (TITLE + '[axes]\n"train.batchsize" = [8]', r"mine.toml:3: there is no setting `train.batchsize`.\n.*batch_size"),
    (TITLE + "[axes]\nmine = [1, 2]", r"mine.toml:3: there is no setting `mine`"),
    (TITLE + '[axes]\nmine = [{ label = "x" }]', r"mine.toml:3: a value of the axis `mine` sets nothing"),
    (TITLE + "[axes]\nmine = [{ train.bath = 1 }]", r"mine.toml:3: there is no setting `train.bath`"),
    (TITLE + "[axes]\nmine = [{ label = [1], seed = 1 }]", r"`seed` is no setting of a study"),
    (TITLE + "[axes]\nseed = [0, 1]", r"mine.toml:3: `seed` is no setting of a study.\n.*`seeds`"),
    (TITLE + '[axes]\nenv = ["point-open"]\na = [{ env = "point-u-maze" }]', "both set `env`"),
    (TITLE + "[settings]\narch.width = 4\n[axes]\narch.width = [4, 8]", r"mine.toml:3: `arch.width` is a common"),
    (TITLE + "budget = 4\n[settings]\ntrain.total_env_steps = 8", "`budget` and `train.total_env_steps` are the same"),
    (TITLE + 'budget = "long"', r"mine.toml:2: `budget` does not fit"),
    (TITLE + 'preset = "quickstrat"', r"mine.toml:2: There is no preset called 'quickstrat'"),
    (TITLE + "[[evaluations]]\narch.depth = 4", r"an evaluation has no `arch.depth`"),
    (TITLE + '[[evaluations]]\nenv = "point-bigmaze"', r"no env called 'point-bigmaze'.\n.*'point-big-maze'"),
    (TITLE + '[[figures]]\nkind = "pie"', r"mine.toml:3: there is no kind of figure 'pie'.\n.*bars"),
    (TITLE + "[[figures]]\nkind = 4", r"mine.toml:3: `figures.kind` does not fit"),
    (TITLE + "[[figures]]\nx = 'arch.depth'", "missing required field `kind`"),
    (TITLE + "scales = 4", r"mine.toml:2: `scales` holds no tables"),
    (TITLE + "[scales.gpu]\nseeds = 'x'", r"mine.toml:3: `scales.gpu.seeds` does not fit"),
    (TITLE + '[[figures]]\nkind = "score"', "a figure of kind 'score' needs `x`"),
    (TITLE + '[[figures]]\nkind = "heatmap"\nx = "arch.depth"', "a figure of kind 'heatmap' needs `y`"),
    (TITLE + '[[figures]]\nkind = "score"\nx = "depht"', "there is no setting `depht`"),
    (TITLE + '[[figures]]\nkind = "curves"\nx = "env_stes"', "cannot be drawn against 'env_stes'.\n.*'env_steps'"),
    (TITLE + '[[figures]]\nkin = "score"', r"mine.toml:3: a study has no `figures.kin`.\n.*'kind'"),
    (TITLE + "[scales.desktop]", r"there is no scale 'desktop'.\n.*laptop"),
    (TITLE + "[scales.gpu]\nseed = 4", r"mine.toml:3: a study has no `scales.gpu.seed`.\n.*'seeds'"),
    (TITLE + "[axes\n", r"mine.toml is not valid TOML: .*line 2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[m for _, m in BAD])
def test_what_is_refused(write, text: str, message: str) -> None:
    file = write(text)
    with pytest.raises(EqcrlError, match=f"(?s){message}") as raised:
        Source(file).study(None)
    assert raised.value.exit_code == 2
    assert raised.value.mend


@pytest.mark.parametrize(
    ("text", "scale", "message"),
    [
        (WHOLE, "paper", "has no scale 'paper'"),
        (WHOLE, "labtop", "'laptop'"),
        (TITLE, "laptop", "has no scales"),
        (TITLE + 'scale = "gpu"', "laptop", "is at scale 'gpu'"),
    ],
)
def test_a_scale_that_it_does_not_have(write, text: str, scale: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Source(write(text)).study(scale)


def test_studies_are_found_by_name_and_by_path(write) -> None:
    assert find_study("depth").study("laptop").name == "depth"
    assert find_study("eqcrl/depth").study("laptop").name == "depth"
    assert find_study(str(write(WHOLE))).spec.title == "Whole"
    with pytest.raises(UnknownName, match="'depth'"):
        find_study("dept")
    with pytest.raises(ConfigError, match=r"nowhere.toml cannot be read"):
        find_study("nowhere.toml")


def test_a_study_of_a_broken_package_breaks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from eqcrl import registry

    real = registry.entries("study")
    odd = [Entry("study", n, "pkg", "1", EntryPoint(n, v, "eqcrl.studies")) for n, v in
           (("no-file", "eqcrl.presets:PAPER"), ("no-module", "eqcrl.nowhere:X"))]  # fmt: skip
    monkeypatch.setattr(registry, "entries", lambda kind: (*real, *odd) if kind == "study" else ())
    found = {entry.name: what for entry, what in each_study()}
    assert isinstance(found["depth"], Source)
    assert isinstance(found["no-file"], BrokenPlugin)
    assert "not the path of a file" in str(found["no-file"])
    assert isinstance(found["no-module"], BrokenPlugin)


def test_keys() -> None:
    assert all(map(is_key, ("env", "env.name", "arch.depth", "train.batch_size", "preset", "seed", "actor_arch")))
    assert not any(map(is_key, ("envs", "train", "train.batch", "maze", "env.")))
    assert (normal("env.name"), normal("arch.depth")) == ("env", "arch.depth")
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}
    assert source.LABEL == "label"
