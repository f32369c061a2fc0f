"""Every agent reaches goals on the open floor; hindsight helps where rewards are far. Minutes each: `nox -s agents`."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eqcrl import registry
from helpers import flags

AGENTS = sorted(entry.name for entry in registry.entries("agent") if entry.distribution == "eqcrl")
SETTINGS = {"arch": "resnet-4", "arch.width": 64, "train.num_envs": 256, "train.batch_size": 256}
STEPS = 840_000

pytestmark = [pytest.mark.slow, pytest.mark.learning]


@functools.cache
def curve(agent: str, env: str, folder: Path, **more: str) -> list[float]:
    """Success at every evaluation."""
    settings = SETTINGS | {"agent": agent, "env": env, "train.total_env_steps": STEPS}
    settings |= {f"agent.{name}": value for name, value in more.items()}
    out = folder / f"{agent}-{env}"
    # A process without what the tests do to compiling and calling: this is a training run.
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "EQCRL_COMPILE_CACHE")}
    command = [sys.executable, "-m", "eqcrl", "train", *flags(settings), "--out", str(out), "--quiet"]
    subprocess.run(command, env=environment, check=True)
    found = [json.loads(line)["eval/success_any"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    print(f"{agent} on {env}:", " ".join(f"{value:.2f}" for value in found))
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learning")


@pytest.mark.parametrize("agent", AGENTS)
def test_it_reaches_goals_on_the_open_floor(agent: str, folder: Path) -> None:
    """Three evaluations in a row."""
    found = curve(agent, "point-open", folder)
    assert found[0] < 0.8, "there was something to learn"
    # Not at the end: with constant step sizes some fall again after a thousand steps at the top.
    assert max(min(three) for three in zip(found, found[1:], found[2:], strict=False)) >= 0.9


@pytest.mark.parametrize("plain", ["sac", "td3"])
def test_hindsight_helps_in_the_maze(plain: str, folder: Path) -> None:
    """Under one reward, that of HER. Goals are anywhere in the maze, so under 0/1 the plain agents do without."""
    agents = plain, f"{plain}-her"
    without, with_it = (curve(agent, "point-u-maze", folder, reward="-1/0") for agent in agents)
    assert sum(with_it[-5:]) > sum(without[-5:])
