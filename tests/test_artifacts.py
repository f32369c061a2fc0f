"""The pictures that a run leaves behind."""

import io
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eqcrl import artifacts, trainer
from eqcrl.errors import RunError, UsageError
from eqcrl.logbook import Logbook
from eqcrl.run import Run, load
from eqcrl.rundir import RunDir
from eqcrl.trainer import Outcome, Trainer
from helpers import copy_run, tiny, tiny_programs, tiny_system
from scene.runs import reacher_run

ASKED: dict[str, Any] = {"env": None, "episodes": 2, "seed": 1, "deterministic": True, "training_starts": False}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run in which no picture has been drawn."""
    monkeypatch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
    directory = RunDir.create(tmp_path / "run", tiny(), {})
    (outcome,) = Trainer([Logbook(tiny(), directory)], tiny_system(), Console(quiet=True)).train()
    return Run(directory, tiny(), tiny_system(), outcome)


def written(run: Run) -> list[str]:
    folders = (run.directory.figures, run.directory.videos)
    return sorted(p.name for folder in folders for p in folder.iterdir())


def say() -> tuple[Console, Any]:
    text = io.StringIO()
    return Console(file=text, width=200), text


def test_three_pictures(run: Run) -> None:
    console, text = say()
    artifacts.leave(run, console)
    assert written(run) == ["learning_curve.png", "policy.gif", "trajectories.png"]
    assert text.getvalue() == ""
    for path in (run.directory.figures / "learning_curve.png", run.directory.figures / "trajectories.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn
    with Image.open(run.directory.videos / "policy.gif") as film:
        assert film.format == "GIF"
        assert film.n_frames > 2  # type: ignore[attr-defined]


def test_no_evaluation_no_pictures(run: Run) -> None:
    run.directory.metrics_file.unlink()
    console, text = say()
    artifacts.leave(run, console)
    assert written(run) == []
    assert "No evaluation yet: no pictures." in text.getvalue()


def test_stopped_before_an_evaluation_of_its_own_a_run_still_gets_its_curve(run: Run) -> None:
    assert run.outcome is not None
    run.outcome.episodes = None
    artifacts.leave(run, say()[0])
    assert written(run) == ["learning_curve.png"]


def test_a_task_without_a_plane_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(run.system.eval_env), "top_view", lambda env: None)
    console, text = say()
    artifacts.leave(run, console)
    assert written(run) == ["learning_curve.png"]
    assert "point-u-maze has no top view: no picture of trajectories, no film." in text.getvalue()


def test_a_film_of_fresh_episodes(run: Run, tmp_path: Path) -> None:
    paths = [tmp_path / "films" / name for name in ("mine.gif", "stills.png", "mine.png")]
    wanted = artifacts.Wanted(film=paths[0], stills=paths[1], trajectories=paths[2])
    assert artifacts.render_policy(run, wanted, **ASKED) == paths
    content = [p.read_bytes() for p in paths]
    artifacts.render_policy(run, wanted, **ASKED)
    assert [p.read_bytes() for p in paths] == content  # the same seed, the same film
    artifacts.render_policy(run, wanted, **ASKED | {"seed": 2})
    assert paths[0].read_bytes() != content[0]


def test_what_is_no_film_is_refused_before_anything_is_computed(run: Run, tmp_path: Path) -> None:
    for name in ("film.avi", "film", "film.gif.txt"):
        with pytest.raises(UsageError, match=r"\.gif or \.mp4"):
            artifacts.render_policy(run, artifacts.Wanted(film=tmp_path / name), **ASKED)
    with pytest.raises(UsageError, match=r"page cannot be made of 'point-u-maze': it has no MuJoCo model"):
        artifacts.render_policy(run, artifacts.Wanted(page=tmp_path / "page.html"), **ASKED)
    assert "agent_state" not in vars(run)


# --- MuJoCo tasks


@pytest.fixture(scope="module")
def reacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reacher_run(tmp_path_factory.mktemp("runs") / "reacher")


@pytest.fixture
def run_in_space(reacher: Path, tmp_path: Path) -> Run:
    """A finished run of a MuJoCo task in which no picture has been drawn."""
    run = load(copy_run(reacher, tmp_path / "run"))
    _, episodes = run.evaluate(episodes=3)
    run.outcome = Outcome(episodes, None, {})
    return run


def test_a_task_in_space_leaves_film_stills_and_trajectories(run_in_space: Run) -> None:
    console, text = say()
    artifacts.leave(run_in_space, console)
    assert text.getvalue() == ""
    assert written(run_in_space) == ["learning_curve.png", "policy.mp4", "stills.png", "trajectories.png"]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(run_in_space.directory.videos / "policy.mp4"))
    assert frames == 13 + 25  # 12 steps of 0.04 s, and a second


def test_a_stopped_run_makes_no_film(run_in_space: Run) -> None:
    assert run_in_space.outcome is not None
    run_in_space.outcome.stopped_by = 15
    console, text = say()
    artifacts.leave(run_in_space, console)
    assert written(run_in_space) == ["learning_curve.png", "trajectories.png"]
    assert f"Stopped, so no film; `eqcrl render {run_in_space.directory.path}` makes it." in text.getvalue()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RunError("Nothing can be drawn here.", mend="Install it."),
            "No film: Nothing can be drawn here.\n  Install it.",
        ),
        (ValueError("out of paint"), "No film: ValueError: out of paint"),
    ],
)
def test_a_film_that_fails_is_said_and_fails_nothing(
    run_in_space: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(artifacts, "require_drawing", fail)
    console, text = say()
    artifacts.leave(run_in_space, console)
    assert said in text.getvalue()
    assert "eqcrl render" in text.getvalue()
    assert written(run_in_space) == ["learning_curve.png", "trajectories.png"]


def test_without_a_way_to_draw_nothing_is_computed(run_in_space: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(Run, "evaluate", lambda *_, **__: pytest.fail("evaluated"))
    for wanted in (artifacts.Wanted(film=Path("x.mp4")), artifacts.Wanted(stills=Path("x.png"))):
        with pytest.raises(RunError, match="MUJOCO_GL=disable"):
            artifacts.render_policy(run_in_space, wanted, **ASKED)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UsageError, match=r"pip install 'eqcrl\[html\]'"):
        artifacts.render_policy(run_in_space, artifacts.Wanted(page=Path("x.html")), **ASKED)
