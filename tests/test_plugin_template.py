"""The plugin template as its reader meets it: a fresh virtual environment, pip, and the command line."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "plugins" / "eqcrl-template"

pytestmark = pytest.mark.slow


class Installed:
    """A virtual environment that holds eqcrl and the template, neither of them editable."""

    def __init__(self, folder: Path):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = self.run(*pip, str(ROOT), str(TEMPLATE), timeout=900)
        assert done.returncode == 0, done.stderr

    def run(self, *command: str, timeout: int = 900) -> subprocess.CompletedProcess[str]:
        # Outside of the checkout and without PYTHONPATH, so that only what pip installed can be imported.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EQCRL", "VIRTUAL_ENV"))}
        return subprocess.run(
            command, cwd=self.folder, env=env | {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"},
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def eqcrl(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.bin / "eqcrl"), *args)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("fresh") / "venv")


def test_both_packages_come_from_the_fresh_environment(installed):
    code = "import eqcrl, eqcrl_template; print(eqcrl.__file__); print(eqcrl_template.__file__)"
    done = installed.run(str(installed.bin / "python"), "-c", code)
    assert done.returncode == 0, done.stderr
    for file in done.stdout.split():
        assert Path(file).is_relative_to(installed.folder.resolve())


def test_list_shows_the_environment_with_its_distribution(installed):
    done = installed.eqcrl("list", "env")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "template-arm" in line]
    assert len(lines) == 1
    assert "eqcrl-template" in lines[0]


def test_list_shows_the_energy(installed):
    done = installed.eqcrl("list", "energy")
    assert done.returncode == 0, done.stderr
    assert any("template-smooth-l2" in line and "eqcrl-template" in line for line in done.stdout.splitlines())


def test_check_passes(installed):
    done = installed.eqcrl("check", "env", "template-arm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goal-hidden" in done.stdout
    assert "fail" not in done.stdout


def test_check_refuses_a_parameter_that_does_not_exist(installed):
    done = installed.eqcrl("check", "env", "template-arm", "--env.episode-lenght", "20")
    assert done.returncode == 2
    assert "'--env.episode-lenght'" in done.stderr
    assert "'--env.episode-length'" in done.stderr


def test_train_for_a_few_hundred_steps(installed, tmp_path):
    out = tmp_path / "run"
    done = installed.eqcrl(
        "train", "--env", "template-arm", "--energy", "template-smooth-l2", "--env.episode-length", "20",
        "--arch", "resnet-4", "--arch.width", "16",
        # 240 steps of each of 8 environments: two unrolls to fill the replay, then ten epochs.
        "--train.total-env-steps", "1920", "--train.num-envs", "8", "--train.unroll-length", "20",
        "--train.updates-per-epoch", "4", "--train.batch-size", "32", "--replay.min-filled", "40",
        "--eval.num-envs", "4", "--eval.every", "5", "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if row["grad_steps"] > 0]
    assert trained
    assert trained[-1]["env_steps"] >= 1920
    assert trained[-1]["grad_steps"] == 40
    for row in trained:
        for name in ("train/critic_loss", "train/actor_loss", "eval/success_any", "eval/distance_end"):
            assert math.isfinite(row[name]), name
