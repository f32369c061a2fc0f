"""`eqcrl plot`: curves and scores of runs, seeds together and environments apart, and looks into trained networks."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image

from cli.conftest import Command
from eqcrl.statistics import final_score
from helpers import assert_message, copy_run, records


@pytest.fixture(scope="module")
def runs(finished_of: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of depth 4; and what stands for a run of depth 8: plotting reads configuration and metrics only."""
    one, two = finished_of(0), finished_of(1)
    return [one, two, of_depth(one, tmp_path_factory.mktemp("plot") / "deep", "arch", 8)]


def elsewhere(run: Path, to: Path) -> Path:
    """What stands for a run in another maze."""
    tree = tomllib.loads((run / "config.toml").read_text())
    return with_config(run, to, tree | {"env": tree["env"] | {"name": "point-big-maze", "layout": "big"}})


def of_depth(run: Path, to: Path, network: str, depth: int) -> Path:
    """What stands for a run with another depth of that network."""
    tree = tomllib.loads((run / "config.toml").read_text())
    return with_config(run, to, tree | {network: tree["arch"] | {"depth": depth}})


def with_config(run: Path, to: Path, tree: dict[str, Any]) -> Path:
    made = copy_run(run, to)
    (made / "config.toml").write_text(tomli_w.dumps(tree))
    return made


def score_text(run: Path, last: int = 5) -> str:
    score = final_score(records(run), "eval/time_at_goal", last)
    assert score is not None
    return f"{score:.3g}"[:3]


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        picture.load()
        return picture.format == "PNG"


# --- curves


def test_seeds_are_one_curve_and_depths_are_two(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    answer = eqcrl("plot", *runs, "--out", tmp_path / "curves.png")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["arch.depth=4: 2 seeds", "arch.depth=8: 1 seed", str(tmp_path / "curves.png")]
    assert is_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("axis", ["env_steps", "grad_steps", "wall_seconds"])
def test_axes_and_metrics(eqcrl: Command, runs: list[Path], tmp_path: Path, axis: str) -> None:
    answer = eqcrl("plot", runs[0], "--metric", "train/critic_loss", "--x", axis, "--out", "a.svg")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["crl on point-u-maze: 1 seed", "a.svg"]
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_the_default_file(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    assert eqcrl("plot", runs[0]).code == 0
    assert eqcrl("plot", runs[0], "--kind", "bars").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.png", "curves.png"]


def test_every_environment_has_a_panel(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    big = elsewhere(runs[0], tmp_path / "big")
    answer = eqcrl("plot", *runs, big, "--out", "panels.png")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        "point-big-maze, arch.depth=4: 1 seed", "point-u-maze, arch.depth=4: 2 seeds",
        "point-u-maze, arch.depth=8: 1 seed", "panels.png",
    ]  # fmt: skip
    assert is_picture(tmp_path / "panels.png")


# --- scores


def test_scores_against_the_depth(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    answer = eqcrl("plot", *runs, "--kind", "depth", "--metric", "eval/time_at_goal", "--last", 2)
    assert answer.code == 0, answer.err
    shallow, deep, path = answer.out.splitlines()
    assert shallow.startswith("point-u-maze, crl, arch.depth=4: ")
    assert "[" in shallow
    assert deep.startswith(f"point-u-maze, crl, arch.depth=8: {score_text(runs[2], 2)}")
    assert deep.endswith("(1 run, no interval)")
    assert path == "depth.png"
    assert is_picture(tmp_path / path)
    big = elsewhere(runs[0], tmp_path / "big")
    answer = eqcrl("plot", *runs, big, "--kind", "depth", "--over", "train.batch-size", "--out", "batch.png")
    assert answer.code == 0, answer.err
    assert [line.rpartition(":")[0] for line in answer.out.splitlines()[:-1]] == [
        "point-big-maze, arch.depth=4, train.batch_size=8", "point-u-maze, arch.depth=4, train.batch_size=8",
        "point-u-maze, arch.depth=8, train.batch_size=8",
    ]  # fmt: skip


def test_bars_and_profiles(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    big = [elsewhere(run, tmp_path / f"big{i}") for i, run in enumerate(runs)]
    answer = eqcrl("plot", *runs, *big, "--kind", "bars", "--out", "b.png")
    assert answer.code == 0, answer.err
    assert [line.rpartition(":")[0] for line in answer.out.splitlines()[:-1]] == [
        f"{env}, arch.depth={depth}" for env in ("point-big-maze", "point-u-maze") for depth in (4, 8)
    ]
    answer = eqcrl("plot", *runs, *big, "--kind", "profiles", "--out", "p.png")
    assert answer.code == 0, answer.err
    assert [line.rpartition(":")[0] for line in answer.out.splitlines()[:-1]] == [
        f"arch.depth={depth}, 2 environments" for depth in (4, 8)
    ]
    assert is_picture(tmp_path / "b.png")
    assert is_picture(tmp_path / "p.png")
    answer = eqcrl("plot", *runs, big[0], "--kind", "profiles", "--out", "none.png")
    assert answer.code == 2
    assert_message(answer.err, "'arch.depth=8' has no run in point-big-maze", "Add those runs")


def test_heat_map_of_two_depths(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    grid = [
        runs[0],
        runs[1],
        of_depth(runs[0], tmp_path / "a", "actor_arch", 8),
        of_depth(runs[0], tmp_path / "c", "critic_arch", 16),
    ]
    answer = eqcrl("plot", *grid, "--kind", "heatmap")
    assert answer.code == 0, answer.err
    assert [line.rpartition(":")[0] for line in answer.out.splitlines()[:-1]] == [
        f"actor_arch.depth={a}, critic_arch.depth={c}" for a, c in ((4, 4), (4, 16), (8, 4))
    ]
    assert is_picture(tmp_path / "heatmap.png")
    for more, parts in (
        ([elsewhere(runs[0], tmp_path / "big")], ("of one environment", "point-big-maze, point-u-maze")),
        (["--over", "arch.depth,train.num_envs", of_depth(runs[0], tmp_path / "d", "actor_arch", 8)],
         ("differ in more than arch.depth and train.num_envs", "actor_arch=resnet")),
    ):  # fmt: skip
        answer = eqcrl("plot", *grid[:2], *more, "--kind", "heatmap", "--out", "none.png")
        assert answer.code == 2
        assert_message(answer.err, *parts)
    assert not (tmp_path / "none.png").exists()


def test_a_run_that_ended_early_is_noted(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    short = copy_run(runs[0], tmp_path / "short")
    lines = (short / "metrics.jsonl").read_text().splitlines(keepends=True)
    (short / "metrics.jsonl").write_text("".join(lines[:3]))
    ended = json.loads(lines[2])["env_steps"]
    answer = eqcrl("plot", short, "--kind", "bars")
    assert answer.code == 0, answer.err
    assert f"Note: {short} has ended at {ended:,} of 32,160 environment steps." in answer.err
    assert "Note" not in eqcrl("plot", runs[0], "--kind", "bars").err


# --- trained networks


@pytest.mark.parametrize("kind", ["q-map", "embeddings", "residual-norms"])
def test_looks_into_runs(eqcrl: Command, runs: list[Path], tmp_path: Path, kind: str) -> None:
    answer = eqcrl("plot", *runs[:2], "--kind", kind, "--seed", 1)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        *(f"crl on point-u-maze, seed {i}: {runs[i]}" for i in range(2)), f"{kind}.png",
    ]  # fmt: skip
    assert is_picture(tmp_path / f"{kind}.png")


# --- what is refused


def test_what_cannot_be_plotted(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    cases: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
        ((runs[0], "--metric", "eval/succes_any"), ("No run has recorded 'eval/succes_any'", "'eval/success_any'")),
        ((runs[0], "--kind", "bars", "--metric", "eval/succes_any"), ("'eval/success_any'",)),
        ((runs[0], "--out", "curves.bmp"), ("curves.bmp", ".png or .pdf or .svg")),
        ((runs[0], "--kind", "q-map", "--out", "map.bmp"), ("map.bmp", ".png or .pdf or .svg")),
        ((runs[0], runs[0]), ("have the same configuration and the same seed 0", "Leave one of them out.")),
        ((runs[0], "--kind", "q-map", "--metric", "eval/success_any"), ("--metric means nothing for --kind q-map",)),
        ((runs[0], "--kind", "bars", "--x", "env_steps"), ("--x means nothing for --kind bars", "draw curves")),
        ((runs[0], "--kind", "depth", "--over", "arch.dept"), ("has no number 'arch.dept'", "'arch.depth'")),
        ((runs[0], "--kind", "depth", "--over", "a,b"), ("does not name one setting", "--over arch.depth")),
        ((runs[0], "--kind", "heatmap", "--over", "arch.depth"), ("two different settings",)),
    ]
    for args, parts in cases:
        answer = eqcrl("plot", *args)
        assert answer.code == 2, args
        assert_message(answer.err, *parts)
    answer = eqcrl("plot", runs[0], "--x", "time")
    assert answer.code == 2
    assert "env_steps" in answer.err
    assert eqcrl("plot", runs[0], "--kind", "pie").code == 2
    assert eqcrl("plot").code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_metrics(eqcrl: Command, runs: list[Path], tmp_path: Path) -> None:
    run = copy_run(runs[0], tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    for kind in ("curves", "bars"):
        answer = eqcrl("plot", run, "--kind", kind)
        assert answer.code == 2
        assert_message(answer.err, "The runs have no metrics yet.", "Wait for the first evaluation.")
    answer = eqcrl("plot", runs[1], run, "--kind", "bars")
    assert answer.code == 2
    assert_message(answer.err, f"The run {run} has not recorded 'eval/success_any'.", "Leave it out")
