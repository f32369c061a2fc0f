"""The studies that come with eqcrl: every one, at every scale, is made of configurations that can be trained."""

import functools
import tomllib
from pathlib import Path

import pytest

from eqcrl import assemble, registry
from eqcrl.config import Part
from eqcrl.jobs.keys import is_key
from eqcrl.studies import builtin
from eqcrl.studies.grid import expand
from eqcrl.studies.source import find_study
from eqcrl.studies.spec import SCALES

NAMES = [entry.name for entry in registry.entries("study") if entry.distribution == "eqcrl"]
WANTED = {
    "depth", "width", "actor-critic-grid", "batch-size", "residual", "norm-activation", "collector-learner",
    "stitching", "limits", "baselines", "hyperspherical", "residual-norms", "q-map", "embeddings", "horizon",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def robots_once():
    """Compiling MuJoCo models takes most of the time, and the studies share a dozen environments."""
    patch = pytest.MonkeyPatch()
    build = assemble.build_env
    cached = functools.cache(lambda name, params, field: build(Part(name, dict(params)), field))
    patch.setattr(assemble, "build_env", lambda part, field="env": cached(part.name, tuple(part.params.items()), field))
    yield
    patch.undo()


def test_all_that_were_promised() -> None:
    assert set(NAMES) >= WANTED
    files = {p.stem for p in Path(builtin.__file__).parent.glob("*.toml")}
    assert files == set(NAMES)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_assembled(name: str, scale: str) -> None:
    source = find_study(name)
    if scale not in source.scales():
        assert (name, scale) == ("beyond", "paper")
        return
    study = source.study(scale)
    assert study.figures
    settings = expand(study)
    seen = set()
    for setting in settings:
        config = setting.config
        for field in ("arch", "actor_arch", "critic_arch"):
            part = getattr(config, field)
            assert part is None or assemble.build_part(field, part) is not None
        if scale == "laptop":
            assert config.env.name.startswith("point-")
        if scale == "paper":
            assert name == "width" or config.arch.name != "resnet" or config.arch.params["width"] == 256
            assert len(study.seeds) == 5
        # Sizes and rates are checked above and when the configuration is made; the rest needs its parts only once.
        which = tuple((k, v) for k, v in config.flat().items() if isinstance(v, str | bool))
        if which not in seen:
            seen.add(which)
            assemble.assemble(assemble.complete(config))
    if scale == "laptop":
        assert len(study.seeds) >= 2, "one seed has no interval"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_figures_are_drawn_against_is_there(name: str) -> None:
    source = find_study(name)
    for scale in source.scales():
        study = source.study(scale)
        flats = [assemble.complete(s.config).flat() for s in expand(study)[:1]]
        for figure in study.figures:
            keys = [figure.y, figure.lines, figure.panels, *([figure.x] if figure.kind != "curves" else [])]
            for key in filter(None, keys):
                plain = key.removesuffix(".name").replace("actor_arch", "arch").replace("critic_arch", "arch")
                assert key in study.axes or (is_key(key) and plain in flats[0]), (scale, key)


def test_the_scales_of_the_paper() -> None:
    """The numbers of runs and budgets of its table of experiments."""
    depth = find_study("depth").study("paper")
    assert len(depth.axes["preset"]) == 10
    assert {s.config.train.total_env_steps for s in expand(depth)} == {100_000_000, 200_000_000, 400_000_000}
    grid = find_study("actor-critic-grid").study("paper")
    assert len(expand(grid)) == 3 * 25
    limits = expand(find_study("limits").study("paper"))
    deepest = next(s.config for s in limits if s.config.arch.params["depth"] == 1024)
    assert deepest.actor_arch is not None
    assert deepest.actor_arch.params == {"depth": 512, "width": 256, "recipe": "paper"}
    stitching = find_study("stitching").study("paper")
    assert [e.params["eval_distance"] for e in stitching.evaluations][-3:] == [4, 5, 6]


def test_the_laptop_scale_of_depth() -> None:
    study = find_study("depth").study("laptop")
    settings = expand(study)
    assert {s.config.arch.params["depth"] for s in settings} == {4, 8, 16, 32, 64}
    assert len(study.seeds) == 3
    assert "point-u-maze" in {s.config.env.name for s in settings}
    assert any(s.config.env.name.endswith("-fixed-start") for s in settings)


def test_the_files_are_read_as_they_are_written() -> None:
    for name in NAMES:
        entry = next(e for e in registry.entries("study") if e.name == name)
        assert tomllib.loads(registry.load_entry(entry).read_text(encoding="utf-8"))["question"].endswith("?")
