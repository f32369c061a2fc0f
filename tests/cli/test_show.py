"""`eqcrl show env`: facts and a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Command
from helpers import assert_message


def rows(text: str) -> dict[str, str]:
    """The cells of the printed table, folded lines put together."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("│"):
            label, value = (cell.strip() for cell in line.strip("│").split("│"))
            last = label or last
            found[last] = f"{found.get(last, '')} {value}".strip()
    return found


def test_facts_and_picture_of_a_mujoco_task(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("show", "env", "reacher", "--env.episode-length", 50)
    assert answer.code == 0, answer.err
    table = rows(answer.out)
    assert table["observation"].startswith("10 numbers: cos (2)")
    assert table["action"].startswith("2 numbers in [-1, 1]: Torques")
    assert table["goal"] == "3 numbers: Position of the tip."
    assert table["success radius"] == "0.05"
    assert table["termination"] == "Never."
    assert table["episode"] == "50 steps (2 s)"
    assert table["control step"].startswith("0.04 s (")
    assert table["physics engine"] in ("mujoco", "mjx")
    assert table["sizes"] == "2 positions, 2 velocities, 2 actuators"
    assert "episode_length = 50" in table["settings"]
    assert table["evaluation"] == "the same task"
    assert answer.out.splitlines()[-1] == "reacher.png"
    with Image.open(tmp_path / "reacher.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10


def test_facts_and_picture_of_a_flat_task(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("show", "env", "point-big-maze", "--out", tmp_path / "new" / "maze.png", "--seed", 3)
    assert answer.code == 0, answer.err
    table = rows(answer.out)
    assert table["physics"] == "its own"
    assert "layout = big" in table["settings"]
    assert "start = evaluation" in table["evaluation"]
    with Image.open(tmp_path / "new" / "maze.png") as picture:
        assert picture.size[0] == 640
    first = (tmp_path / "new" / "maze.png").read_bytes()
    assert eqcrl("show", "env", "point-big-maze", "--out", tmp_path / "new" / "maze.png", "--seed", 4).code == 0
    assert (tmp_path / "new" / "maze.png").read_bytes() != first


def test_only_the_table(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("show", "env", "ant-u-maze", "--no-picture")
    assert answer.code == 0, answer.err
    table = rows(answer.out)
    assert table["contacts on MJX"] == "at most 8 contacts, at most 4 geom pairs of a kind"
    assert "kg" in table["mass"]
    assert "fixed geoms" in table["bodies"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("argument", "said"), [("point-u-maz", "point-u-maze"), ("nothing-like-it", "eqcrl list env")])
def test_a_task_that_does_not_exist(eqcrl: Command, argument: str, said: str) -> None:
    answer = eqcrl("show", "env", argument)
    assert answer.code == 2
    assert_message(answer.err, f"There is no env called {argument!r}", said)


def test_another_format_is_refused(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("show", "env", "point-u-maze", "--out", tmp_path / "maze.jpg")
    assert answer.code == 2
    assert_message(answer.err, "A picture cannot be written as", ".jpg is no format")
