"""`eqcrl diagnose`: tables, JSON and figure, of fresh networks and of a run."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Command
from helpers import assert_message

SMALL = ("--arch.width", 8, "--rows", 8, "--env.episode-length", 30)


def test_json_has_every_block_and_the_picture_is_drawn(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl(
        "diagnose", "--arch", "resnet-32", "--actor-arch", "mlp-1", *SMALL, "--json", "--out", tmp_path / "a" / "d.png"
    )
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["rows"] == 8
    assert found["chance"] == pytest.approx(1 / 8)
    assert found["critic_loss"] == pytest.approx(found["contrastive_loss"] + found["penalty"], rel=1e-5)
    assert found["networks"]["actor"]["blocks"] is None
    for name in ("phi", "psi"):
        blocks = found["networks"][name]["blocks"]
        assert {key: len(values) for key, values in blocks.items()} == dict.fromkeys(
            ("stream", "varying", "change", "gradient"), 8
        )
        assert all(value > 0 for values in blocks.values() for value in values)
    with Image.open(tmp_path / "a" / "d.png") as picture:
        picture.load()
        assert picture.format == "PNG"


@pytest.mark.thorough
def test_tables_of_a_run_and_no_picture_where_nothing_repeats(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    answer = eqcrl("diagnose", "--run", finished, "--rows", 8)
    assert answer.code == 0, answer.err
    assert f"point-u-maze, resnet-4, seed 0, after {finished}: 8 pairs" in answer.out
    lines = [line.split("│")[1:-1] for line in answer.out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert [row[0] for row in cells if len(row) == 6 and row[1] == "1"] == ["actor", "phi", "psi"]
    alpha = next(row[1] for row in cells if row[0] == "weight of the entropy")
    assert float(alpha) != 1.0, "an untrained agent has 1"
    answer = eqcrl("diagnose", "--arch", "mlp-1", *SMALL, "--out", "none.png")
    assert answer.code == 0, answer.err
    assert "actor, phi, psi repeat no blocks" in answer.out
    assert "No picture" in answer.out
    assert not (tmp_path / "none.png").exists()


def test_a_run_keeps_its_own_configuration(eqcrl: Command, finished: Path) -> None:
    answer = eqcrl("diagnose", "--run", finished, "--arch", "resnet-8", "--preset", "paper")
    assert answer.code == 2
    assert_message(answer.err, "--preset and --run exclude each other", "Leave out --preset and --arch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arch", "resnt-64"), ("There is no arch called 'resnt-64'", "resnet")),
        (("--arch", "resnet-63"), ("depth 63 does not exist", "60 or 64")),
        (("--env", "point-u-maz"), ("There is no env called", "point-u-maze")),
        (("--out", "depth.jpg"), ("A figure cannot be written as", ".jpg is no format")),
        (("--run", "nowhere"), ("nowhere",)),
        (("--arch.recipe", "pper"), ("arch.recipe", "paper")),
    ],
)
def test_what_cannot_be_looked_at(eqcrl: Command, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    answer = eqcrl("diagnose", *arguments)
    assert answer.code in (1, 2)
    assert answer.code == 2 or "--run" in arguments
    assert_message(answer.err, *said)
