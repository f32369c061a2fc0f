"""`eqcrl export` on a real run."""

from pathlib import Path

import jax
import numpy as np
import pytest

from eqcrl import run as runs
from eqcrl.export import onnx_file, weights, write
from helpers import assert_message, copy_run

OBSERVATION = np.array([[0.1, -0.2, 0.0, 0.3], [0.0, 0.0, 1.0, -1.0]], np.float32)
GOAL = np.array([[1.0, 2.0], [0.5, -0.5]], np.float32)


@pytest.mark.parametrize("format", ["stablehlo", "onnx", "safetensors"])
def test_the_file_has_the_policy_of_the_run(format: str, eqcrl, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / f"policy.{format}"
    done = eqcrl("export", finished, "--out", out)
    assert done.code == 0, done.err
    assert f"{out}: {format}" in done.out
    assert "observation (4) and desired_goal (2) -> action (2)" in done.out
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    run = runs.load(finished)
    wanted = np.asarray(run.policy(OBSERVATION, GOAL))
    if format == "onnx":
        np.testing.assert_allclose(onnx_file.read(out, OBSERVATION, GOAL), wanted, rtol=0, atol=1e-5)
    elif format == "stablehlo":
        program = jax.export.deserialize(bytearray(out.read_bytes()))
        np.testing.assert_allclose(program.call(OBSERVATION, GOAL), wanted, rtol=0, atol=1e-5)
    else:
        arrays, facts = weights.read(out)
        np.testing.assert_array_equal(arrays["mean_head.bias"], run.agent_state.actor.mean_head.bias)
        assert facts["config"] == run.config.to_toml()


def test_without_out_the_file_is_in_the_run_directory_and_is_not_overwritten(eqcrl, finished, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    assert eqcrl("export", run, "--format", "safetensors").code == 0
    first = (run / "policy.safetensors").read_bytes()
    again = eqcrl("export", run, "--format", "safetensors")
    assert again.code == 2
    assert_message(again.err, "policy.safetensors exists", "--force")
    assert eqcrl("export", run, "--format", "safetensors", "--force").code == 0
    assert (run / "policy.safetensors").read_bytes() == first


def test_what_to_write_must_be_clear(eqcrl, finished: Path, tmp_path: Path) -> None:
    done = eqcrl("export", finished)
    assert done.code == 2
    assert_message(done.err, "--format stablehlo or onnx or safetensors")
    done = eqcrl("export", finished, "--out", tmp_path / "policy.bin")
    assert done.code == 2
    assert_message(done.err, "policy.bin", "suffix .stablehlo or .onnx or .safetensors")
    done = eqcrl("export", tmp_path, "--format", "onnx")
    assert done.code == 2
    assert_message(done.err, "is not a run directory")


def test_a_program_that_acts_otherwise_is_not_kept(eqcrl, finished: Path, tmp_path: Path, monkeypatch) -> None:
    wrong = write.Format(".onnx", onnx_file.write, lambda path, observation, goal: np.full((len(goal), 2), np.nan))
    monkeypatch.setitem(write.FORMATS, "onnx", wrong)
    done = eqcrl("export", finished, "--out", tmp_path / "policy.onnx")
    assert done.code == 1
    assert_message(done.err, "acts differently from the run")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_no_program_file_can_hold_are_refused(eqcrl, finished: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(write, "PROGRAM_LIMIT", 1000)
    done = eqcrl("export", finished, "--out", tmp_path / "policy.stablehlo")
    assert done.code == 2
    assert_message(done.err, "--format safetensors has no limit")
    assert eqcrl("export", finished, "--out", tmp_path / "policy.safetensors").code == 0
