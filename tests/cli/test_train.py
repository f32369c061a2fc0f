"""`eqcrl train`: what a run leaves and says."""

import json
import re
import tomllib
from pathlib import Path

import jax
import pytest
from PIL import Image

from cli.conftest import Command
from eqcrl import checkpoint
from eqcrl.assemble import complete
from eqcrl.config import Config
from helpers import LONG, METRICS, TINY, assert_message, copy_run, flags, records, snapshot


def test_what_a_run_leaves(finished: Path) -> None:
    assert {p.name for p in finished.glob(".*")} <= {".lock"}
    assert sorted(p.name for p in finished.glob("[!.]*")) == [
        "checkpoints", "config.toml", "figures", "header.json", "metrics.jsonl", "videos",
    ]  # fmt: skip
    assert sorted(snapshot(finished / "figures")) == ["learning_curve.png", "trajectories.png"]
    assert sorted(snapshot(finished / "videos")) == ["policy.gif"]
    for file, form in (
        ("figures/learning_curve.png", "PNG"),
        ("figures/trajectories.png", "PNG"),
        ("videos/policy.gif", "GIF"),
    ):
        with Image.open(finished / file) as picture:
            picture.load()
            assert picture.format == form
    assert checkpoint.numbers(finished / "checkpoints") == [392, 402]


def test_the_configuration_is_complete(finished: Path) -> None:
    config = Config.from_toml((finished / "config.toml").read_text(), "config.toml")
    assert config == complete(Config.load(overrides=LONG))
    tree = tomllib.loads((finished / "config.toml").read_text())
    assert tree["agent"]["critic_rate"] == 3e-4  # a default, written out
    assert tree["env"] | {"name": "point-u-maze", "layout": "u", "episode_length": 30} == tree["env"]


def test_the_header(finished: Path) -> None:
    header = json.loads((finished / "header.json").read_text())
    assert header.keys() == {"started", "argv", "seed", "versions", "git_revision", "devices", "platform"}
    assert header["seed"] == 0
    assert "train" in header["argv"]
    assert str(finished) in header["argv"]
    assert header["versions"]["jax"] == jax.__version__
    assert header["versions"].keys() == {"python", "eqcrl", "jax", "jaxlib", "equinox", "optax", "numpy"}
    assert len(header["devices"]) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", header["started"])


def test_the_metrics(finished: Path) -> None:
    found = records(finished)
    assert len(found) == 40
    for i, record in enumerate(found, start=1):
        # The agent may log more than the common measures; CRL logs its entropy coefficient.
        assert record.keys() == METRICS | {"train/alpha"}
        assert record["env_steps"] == 80 * (2 + 10 * i)
        assert record["grad_steps"] == 3 * 10 * i
        assert record["eval/episode_length"] == 30
        assert 0 <= record["eval/success_end"] <= record["eval/success_any"] <= 1
        assert record["train/env_steps_per_second"] > 0
        assert abs(record["train/grad_steps_per_second"] / record["train/env_steps_per_second"] - 3 / 80) < 1e-9
    assert found[-1]["train/critic_loss"] < found[0]["train/critic_loss"]  # it learns


def test_what_it_says_and_when(finished_output: str, finished: Path) -> None:
    order = [
        finished_output.index(part)
        for part in (
            "parameters", "memory, estimated", "gradient steps per environment step", "Compiled in",
            "First epoch took", "960 env steps", "Summary", "of it tracing and compiling",
        )
    ]  # fmt: skip
    assert order == sorted(order)
    assert re.search(r"First epoch took .* 399 to go: about .* done \w{3} \d\d:\d\d\.", finished_output)
    assert "0.0375 gradient steps per environment step" in finished_output
    assert str(finished) in "".join(finished_output.split())


def test_an_existing_run_is_left_alone(eqcrl: Command, finished: Path) -> None:
    before = snapshot(finished)
    answer = eqcrl("train", *flags(LONG), "--out", finished)
    assert answer.code == 2
    assert_message(answer.err, f"The run directory {finished} holds a run already", f"--resume {finished}", "--out")
    assert snapshot(finished) == before


def test_a_dry_run_writes_nothing(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("train", "--dry-run", "--out", tmp_path / "run", *flags(LONG))
    assert answer.code == 0
    assert list(tmp_path.iterdir()) == []
    assert "Compil" not in answer.out
    config, _, plan = answer.out.partition("\nPlan")
    assert Config.from_toml(config, "printed") == complete(Config.load(overrides=LONG))
    for part in ("parameters", "memory, estimated", "gradient steps per environment step", "resnet (depth 4, width 16"):
        assert part in plan
    assert re.search(
        r"Estimated time on this device: \d[^(]*\([\d,.]+ gradient steps/s; [\d,]+ environment steps/s",
        " ".join(plan.split()),
    )


@pytest.mark.thorough
def test_a_dry_run_of_the_largest_network(eqcrl: Command, tmp_path: Path) -> None:
    answer = eqcrl("train", "--dry-run", "--preset", "paper", "--arch", "resnet-1024")
    assert answer.code == 0
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"parameters +203 M|parameters +204 M", answer.out), answer.out
    assert re.search(r"memory, estimated +\d+\.\d GiB", answer.out)
    assert "from depths 32 and 128" in answer.out


def test_a_dry_run_of_a_resumed_run(eqcrl: Command, finished: Path) -> None:
    before = snapshot(finished)
    answer = eqcrl("train", "--resume", finished, "--train.total-env-steps", 64_000, "--dry-run")
    assert answer.code == 0, answer.err
    assert "total_env_steps = 64000" in answer.out
    assert snapshot(finished) == before


def test_quiet_is_quiet(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    answer = eqcrl("train", "--resume", run, "--quiet")
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert "Error" not in answer.err


def test_a_limit_on_hours_and_checkpoints_without_a_replay(eqcrl: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = eqcrl("train", *flags(TINY), "--max-hours", 1e-9, "--no-checkpoint-replay", "--out", run)
    assert answer.code == 75, answer.err
    assert "Stopped by --max-hours; everything is saved." in answer.out
    assert f"eqcrl train --resume {run}" in answer.out
    assert tomllib.loads((run / "config.toml").read_text())["checkpoint"]["replay"] is False
    assert checkpoint.read_manifest(checkpoint.latest(run / "checkpoints"))["rows"] is None
    answer = eqcrl("train", "--resume", run)
    assert answer.code == 0, answer.err
    assert records(run)[-1]["env_steps"] == TINY["train.total_env_steps"]


def test_hours_that_are_none(eqcrl: Command) -> None:
    answer = eqcrl("train", "--max-hours", 0)
    assert answer.code == 2
    assert_message(answer.err, "--max-hours", "x>0")
