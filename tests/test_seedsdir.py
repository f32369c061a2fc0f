"""The folder of several seeds: what lies where, and what is refused."""

from pathlib import Path

import pytest

from eqcrl.config import Config
from eqcrl.errors import ConfigError, UsageError
from eqcrl.rundir import RunDir
from eqcrl.seedsdir import SeedsDir, default_folder, recorded_at, seed_range, seeds_in
from helpers import snapshot

CONFIG = Config.load(overrides={"seed": 8, "arch": "resnet-64"})
SEEDS = seed_range(8, 3)
THREE = [CONFIG.replace(seed=seed) for seed in SEEDS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SeedsDir(tmp_path / "a" / "three").create(CONFIG, SEEDS, {"started": "now", "seed": 8})
    return tmp_path / "a" / "three"


def test_consecutive_seeds() -> None:
    assert list(SEEDS) == [8, 9, 10]
    assert seed_range(2**32 - 2, 2)[-1] == 2**32 - 1
    with pytest.raises(ConfigError, match=r"2 seeds from seed = 4294967295 on end at 4294967296, beyond 2\^32 - 1"):
        seed_range(2**32 - 1, 2)
    for number in (0, -1):
        with pytest.raises(ConfigError, match="at least one"):
            seed_range(8, number)


def test_each_seed_has_an_ordinary_run_directory(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["seed10", "seed8", "seed9"]
    assert seeds_in(folder) == [8, 9, 10]
    assert SeedsDir.open(folder).configs() == THREE
    for config in THREE:
        run = RunDir.open(folder / f"seed{config.seed}")
        assert run.config() == config
        assert run.header() == {"started": "now", "seed": config.seed, "seeds_together": [8, 9, 10]}
    assert recorded_at(folder) == THREE[0]
    assert recorded_at(folder / "seed9") == THREE[1]


def test_the_default_folder_says_which_seeds() -> None:
    path = default_folder(CONFIG, SEEDS)
    assert path.parent == Path("runs")
    assert path.name.endswith("_point-u-maze_resnet-64_seeds8-10")


def test_what_holds_no_seeds(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "seed3").mkdir()
    for path in (tmp_path, tmp_path / "nowhere", folder / "seed8", folder / "seed8" / "config.toml"):
        assert seeds_in(path) == []
        with pytest.raises(UsageError, match="holds no runs called seed<k>"):
            SeedsDir.open(path)
    with pytest.raises(UsageError, match="is not a run directory"):
        recorded_at(tmp_path)


def test_a_command_for_one_run_names_those_of_the_folder(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"runs of several seeds; give one of them: seed10, seed8, seed9\."):
        RunDir.open(folder)


def test_more_seeds_beside_those_that_are_there(folder: Path) -> None:
    SeedsDir(folder).create(CONFIG, seed_range(0, 2), {})
    assert seeds_in(folder) == [0, 1, 8, 9, 10]


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    before = snapshot(tmp_path)
    for path, said in (
        (folder, "seed10 holds a run already"),
        (folder / "seed8", "seed8 holds a run already"),
        (tmp_path / "thesis", "holds other things than runs called seed<k>"),
        (tmp_path / "thesis" / "thesis.tex", "exists and is not an empty directory"),
    ):
        with pytest.raises(UsageError, match=said):
            SeedsDir(path).create(CONFIG, seed_range(10, 2), {})
    assert snapshot(tmp_path) == before


def test_runs_that_do_not_belong_together(folder: Path) -> None:
    SeedsDir(folder).run(9).write_config(THREE[1].replace(arch=Config.load(overrides={"arch": "resnet-32"}).arch))
    with pytest.raises(ConfigError, match=r"arch\.depth is 64 in seed8, 32 in seed9") as caught:
        SeedsDir(folder).configs()
    assert caught.value.mend == f"Continue each by itself: eqcrl train --resume {folder}/seed9"
    SeedsDir(folder).run(9).write_config(THREE[0])
    with pytest.raises(ConfigError, match="seed9 holds a run of seed 8"):
        SeedsDir(folder).configs()


def test_how_long_they_go_on_may_differ(folder: Path) -> None:
    """As after a kill between the writing of two configurations."""
    longer = Config.load(overrides={"train.total_env_steps": 10**7}).train
    SeedsDir(folder).run(8).write_config(THREE[0].replace(train=longer))
    assert [c.train == longer for c in SeedsDir(folder).configs()] == [True, False, False]


def test_a_seed_is_missing(folder: Path) -> None:
    (folder / "seed9").rename(folder / "elsewhere")
    with pytest.raises(UsageError, match="lacks seed9, trained beside the others"):
        SeedsDir(folder).configs()
