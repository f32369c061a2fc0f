"""`eqcrl render`: films of a policy."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from cli.conftest import Command
from helpers import assert_message, copy_run, snapshot
from scene.runs import reacher_run


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_films(eqcrl: Command, finished: Path, tmp_path: Path, suffix: str) -> None:
    film = tmp_path / f"film{suffix}"
    before = snapshot(finished)
    answer = eqcrl("render", finished, "--out", film, "--episodes", 2, "--seed", 3)
    assert answer.code == 0, answer.err
    assert answer.out.split() == [str(film), str(film.with_suffix(".png"))]
    reader = imageio_ffmpeg.read_frames(str(film))
    size = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(*size[::-1], 3).astype(int) for frame in reader]
    assert len(frames) > 5
    assert np.abs(frames[0] - frames[-1]).max() > 30  # it moves
    with Image.open(film.with_suffix(".png")) as still:
        assert still.format == "PNG"
    assert snapshot(finished) == before


def test_by_default_it_replaces_the_film_of_the_run(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    before = (run / "videos" / "policy.gif").read_bytes()
    answer = eqcrl("render", run, "--episodes", 1, "--seed", 9, "--sampled", "--training-starts")
    assert answer.code == 0, answer.err
    assert sorted(p.name for p in (run / "videos").iterdir()) == ["policy.gif", "policy.png"]
    assert (run / "videos" / "policy.gif").read_bytes() != before


def test_in_another_maze(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    film = tmp_path / "big.gif"
    answer = eqcrl(
        "render", finished, "--out", film, "--episodes", 1, "--env", "point-big-maze", "--env.episode-length", 9
    )
    assert answer.code == 0, answer.err
    assert film.exists()


@pytest.mark.parametrize("name", ["film.avi", "film", "film.png"])
def test_a_suffix_that_is_no_film(eqcrl: Command, finished: Path, tmp_path: Path, name: str) -> None:
    answer = eqcrl("render", finished, "--out", tmp_path / name)
    assert answer.code == 2
    assert_message(answer.err, f"A film cannot be written as {str(tmp_path / name)!r}", "suffix .gif or .mp4.")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    answer = eqcrl("render", finished, "--out", tmp_path / "file" / "film.gif", "--episodes", 1)
    assert answer.code == 1
    assert_message(answer.err, "Cannot write", str(tmp_path / "file"), "choose a place")
    assert snapshot(tmp_path) == {"file": b"kept"}


def test_how_many_episodes_can_be_shown(eqcrl: Command, finished: Path) -> None:
    answer = eqcrl("render", finished, "--episodes", 17)
    assert answer.code == 2
    assert "1<=x<=16" in answer.err


def test_stills_of_a_flat_task(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    answer = eqcrl("render", run, "--stills", "--episodes", 2)
    assert answer.code == 0, answer.err
    assert answer.out.split() == [str(run / "videos" / "policy-stills.png"), str(run / "videos" / "policy.png")]


def test_a_page_of_a_flat_task_is_refused(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    answer = eqcrl("render", finished, "--html", tmp_path / "page.html")
    assert answer.code == 2
    assert_message(answer.err, "A page cannot be made of 'point-u-maze'", "Make a film instead (--out).")
    assert list(tmp_path.iterdir()) == []


# --- MuJoCo tasks


@pytest.fixture(scope="module")
def reacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reacher_run(tmp_path_factory.mktemp("runs") / "reacher")


def test_a_task_in_space_is_filmed_by_default(eqcrl: Command, reacher: Path, tmp_path: Path) -> None:
    run = copy_run(reacher, tmp_path / "run")
    answer = eqcrl("render", run, "--episodes", 2)
    assert answer.code == 0, answer.err
    assert [Path(line).name for line in answer.out.split()] == ["policy.mp4", "policy-stills.png", "policy.png"]
    assert sorted(p.name for p in (run / "videos").iterdir()) == ["policy-stills.png", "policy.mp4", "policy.png"]
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(run / "videos" / "policy.mp4"))
    assert frames == 13 + 25


def test_a_page_and_stills_without_a_film(eqcrl: Command, reacher: Path, tmp_path: Path) -> None:
    before = snapshot(reacher)
    page = tmp_path / "pages" / "page.html"
    answer = eqcrl("render", reacher, "--html", page, "--stills", "--episodes", 1)
    assert answer.code == 0, answer.err
    assert sorted(p.name for p in page.parent.iterdir()) == ["page-stills.png", "page.html", "page.png"]
    assert "viser" not in answer.out  # the paths and nothing else
    assert "<title>reacher</title>" in page.read_text(encoding="utf-8")
    assert snapshot(reacher) == before


def test_a_page_without_viser(eqcrl: Command, reacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    answer = eqcrl("render", reacher, "--html", tmp_path / "page.html")
    assert answer.code == 2
    assert_message(answer.err, "needs the package viser", "pip install 'eqcrl[html]'")
    assert list(tmp_path.iterdir()) == []


def test_nowhere_to_draw(eqcrl: Command, reacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    answer = eqcrl("render", reacher, "--out", tmp_path / "film.mp4")
    assert answer.code == 1
    assert_message(answer.err, "MUJOCO_GL=off forbids to draw", "Unset MUJOCO_GL.")
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM while frames are written: the earlier film is intact, and no half of the new one stays."""
    run, film = reacher_run(tmp_path / "run"), tmp_path / "films" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(b"earlier")
    command = [sys.executable, "-m", "eqcrl", "render", str(run), "--out", str(film), "--episodes", "16"]
    options = ["--env.episode-length", "3000"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while len(list(film.parent.iterdir())) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert out == ""
    assert "Traceback" not in err
    assert {p.name: p.read_bytes() for p in film.parent.iterdir()} == {"film.mp4": b"earlier"}
