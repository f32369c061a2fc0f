"""`eqcrl info`: the system, a part, a run."""

from pathlib import Path

import jax
import pytest

from cli.conftest import Command
from helpers import assert_message, records


def shown(eqcrl: Command, *args: object) -> str:
    answer = eqcrl("info", *args)
    assert answer.code == 0, answer.err
    return " ".join(answer.out.split())


def test_the_system(eqcrl: Command) -> None:
    text = shown(eqcrl)
    for part in ("eqcrl", "jax", jax.__version__, "equinox", "optax", "git revision", "devices", "cpu"):
        assert part in text


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ("env", "point-u-maze", ("env point-u-maze, of eqcrl", "eqcrl.envs.point:u_maze", "A point mass in a",
                                 "Parameters", "episode_length", "120", "steps", "length of an episode", "layout")),
        ("arch", "resnet-64", ("arch resnet", "Parameters", "depth", "64", "layers", "remat", "one of auto, none")),
        ("energy", "l2", ("energy l2, of eqcrl",)),
        ("preset", "paper", ("preset paper", "total_env_steps = 100000000", "batch_size = 512")),
        ("command", "train", ("command train", "eqcrl.cli.train:train")),
        ("env", "eqcrl/point-maze", ("env point-maze, of eqcrl",)),
    ],
)  # fmt: skip
def test_a_part(eqcrl: Command, kind: str, name: str, parts: tuple[str, ...]) -> None:
    text = shown(eqcrl, kind, name)
    for part in parts:
        assert part in text, text


def test_a_run(eqcrl: Command, finished: Path) -> None:
    text = shown(eqcrl, finished)
    last = records(finished)[-1]
    for part in (
        "point-u-maze", "resnet", "seed", "started", "checkpoints", "392, 402", "eval/success_any",
        str(last["env_steps"]), f"{last['train/critic_loss']:.6g}", "jax",
    ):  # fmt: skip
        assert part in text, text


def test_nothing_to_tell(eqcrl: Command, tmp_path: Path) -> None:
    for args, parts in (
        ((tmp_path / "absent",), ("There is nothing to tell about", "Give a run directory, or a kind and a name")),
        ((tmp_path,), (f"{tmp_path} is not a run directory", "`eqcrl train` wrote")),
        (("env", "point-umaze"), ("There is no env called 'point-umaze'", "'point-u-maze'")),
        (("envs", "point-u-maze"), ("There is no kind of part called 'envs'", "'env'")),
        (("a", "b", "c"), ("There is nothing to tell about 'a b c'",)),
    ):
        answer = eqcrl("info", *args)
        assert answer.code == 2
        assert_message(answer.err, *parts)
