"""`eqcrl render`: films of a policy."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from cli.conftest import Command
from helpers import assert_message, copy_run, snapshot


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
