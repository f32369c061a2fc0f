"""The pictures that a run leaves behind."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eqcrl import artifacts, trainer
from eqcrl.errors import UsageError
from eqcrl.run import Run
from eqcrl.rundir import RunDir
from eqcrl.trainer import Trainer
from helpers import tiny, tiny_programs, tiny_system


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run in which no picture has been drawn."""
    monkeypatch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
    directory = RunDir.create(tmp_path / "run", tiny(), {})
    outcome = Trainer(tiny(), tiny_system(), directory, Console(quiet=True)).train()
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
    asked: dict[str, Any] = {
        "env": None, "episodes": 2, "seed": 1, "deterministic": True, "training_starts": False,
    }  # fmt: skip
    paths = artifacts.render_policy(run, tmp_path / "films" / "mine.gif", **asked)
    assert paths == [tmp_path / "films" / "mine.gif", tmp_path / "films" / "mine.png"]
    content = [p.read_bytes() for p in paths]
    artifacts.render_policy(run, paths[0], **asked)
    assert [p.read_bytes() for p in paths] == content  # the same seed, the same film
    artifacts.render_policy(run, paths[0], **asked | {"seed": 2})
    assert paths[0].read_bytes() != content[0]


def test_what_is_no_film_is_refused_before_anything_is_computed(run: Run, tmp_path: Path) -> None:
    for name in ("film.avi", "film", "film.gif.txt"):
        with pytest.raises(UsageError, match=r"\.gif or \.mp4"):
            artifacts.render_policy(
                run, tmp_path / name, env=None, episodes=1, seed=0, deterministic=True, training_starts=False
            )
    assert "agent_state" not in vars(run)
