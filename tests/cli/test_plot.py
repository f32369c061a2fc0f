"""`eqcrl plot`: curves of runs, seeds together."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Command
from helpers import assert_message, copy_run


@pytest.fixture(scope="module")
def runs(finished_of: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of depth 4; and what stands for a run of depth 8: plotting reads configuration and metrics only."""
    one, two = finished_of(0), finished_of(1)
    deep = copy_run(one, tmp_path_factory.mktemp("plot") / "deep")
    config = deep / "config.toml"
    assert config.read_text().count("depth = 4") == 1
    config.write_text(config.read_text().replace("depth = 4", "depth = 8"))
    return [one, two, deep]


def test_seeds_are_one_curve_and_depths_are_two(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    answer = eqcrl("plot", *runs, "--out", tmp_path / "curves.png")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["arch.depth=4: 2 seeds", "arch.depth=8: 1 seed", str(tmp_path / "curves.png")]
    with Image.open(tmp_path / "curves.png") as picture:
        picture.load()
        assert picture.format == "PNG"


@pytest.mark.parametrize("axis", ["env_steps", "grad_steps", "wall_seconds"])
def test_axes_and_metrics(eqcrl: Command, runs: list[Path], tmp_path: Path, axis: str) -> None:
    answer = eqcrl("plot", runs[0], "--metric", "train/critic_loss", "--x", axis, "--out", "a.svg")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["crl on point-u-maze: 1 seed", "a.svg"]
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_the_default_file(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    assert eqcrl("plot", runs[0]).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_what_cannot_be_plotted(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    for args, parts in (
        ((runs[0], "--metric", "eval/succes_any"), ("No run has recorded 'eval/succes_any'", "'eval/success_any'")),
        ((runs[0], "--out", "curves.bmp"), ("curves.bmp", ".png or .pdf or .svg")),
        ((runs[0], runs[0]), ("have the same configuration and the same seed 0", "Leave one of them out.")),
    ):
        answer = eqcrl("plot", *args)
        assert answer.code == 2
        assert_message(answer.err, *parts)
    answer = eqcrl("plot", runs[0], "--x", "time")
    assert answer.code == 2
    assert "env_steps" in answer.err
    assert eqcrl("plot").code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_metrics(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    run = copy_run(runs[0], tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    answer = eqcrl("plot", run)
    assert answer.code == 2
    assert_message(answer.err, "The runs have no metrics yet.", "Wait for the first evaluation.")
