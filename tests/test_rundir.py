"""The run directory: what lies where, whole files only, and messages instead of tracebacks."""

import json
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqcrl import rundir
from eqcrl.config import Config, Part
from eqcrl.errors import ConfigError, EqcrlError, RunError, UsageError
from eqcrl.rundir import RunDir, default_path, make_header
from helpers import snapshot

CONFIG = Config.load(overrides={"seed": 7, "arch": "resnet-64"})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "a" / "run", CONFIG, {"seed": 7})


def test_a_new_run(run: RunDir) -> None:
    assert sorted(p.name for p in run.path.iterdir()) == [
        "checkpoints", "config.toml", "figures", "header.json", "videos",
    ]  # fmt: skip
    opened = RunDir.open(run.path)
    assert opened.config() == CONFIG
    assert opened.header() == {"seed": 7}
    assert opened.metrics() == []


def test_a_run_is_never_overwritten(run: RunDir) -> None:
    before = snapshot(run.path)
    with pytest.raises(UsageError) as caught:
        RunDir.create(run.path, Config.load(), {})
    assert str(caught.value).startswith(f"The run directory {run.path} holds a run already.")
    assert f"eqcrl train --resume {run.path}" in str(caught.value)
    assert snapshot(run.path) == before


def test_other_files_are_never_written_between(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UsageError, match=r"exists and is not an empty directory\.\n  Choose another --out"):
            RunDir.create(path, CONFIG, {})
    assert snapshot(tmp_path) == {"thesis.tex": b"years of work"}


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    assert RunDir.create(tmp_path, CONFIG, {}).config() == CONFIG


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError) as caught:
        RunDir.create(tmp_path / "file" / "run", CONFIG, {})
    assert re.match(r"Cannot write .*file.*: Not a directory\.\n  .*choose a place that can", str(caught.value))
    assert snapshot(tmp_path) == {"file": b"kept"}


def test_what_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match=rf"{path} is not a run directory: it has no config.toml"):
            RunDir.open(path)


RECORD = {"env_steps": 1, "eval/success_any": 0.25}


def test_metrics_come_back_as_they_went(run: RunDir) -> None:
    lines = [{"env_steps": i, "eval/success_any": 0.1 * i, "train/critic_loss": 1 / 3} for i in range(4)]
    for line in lines:
        run.append_metrics(line)
    assert run.metrics() == lines
    assert len(run.metrics_file.read_text().splitlines()) == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_becomes_null(run: RunDir, value: float) -> None:
    run.append_metrics({"env_steps": 1, "eval/distance_end": value})
    assert json.loads(run.metrics_file.read_text()) == {"env_steps": 1, "eval/distance_end": None}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 40))
def test_a_last_line_cut_short_is_left_out(run: RunDir, cut: int) -> None:
    run.metrics_file.unlink(missing_ok=True)
    run.append_metrics(RECORD)
    run.append_metrics(RECORD)
    whole = run.metrics_file.read_bytes()
    run.metrics_file.write_bytes(whole[:-cut])
    assert run.metrics() == [RECORD] * (1 if cut <= len(whole) // 2 else 0)


def test_a_damaged_line_is_named(run: RunDir) -> None:
    run.metrics_file.write_text(json.dumps(RECORD) + "\n{oops}\n" + json.dumps(RECORD) + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 is not valid JSON.*\n  Restore or remove that line"):
        run.metrics()
    run.metrics_file.write_text("3\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl:1 holds no JSON object"):
        run.metrics()


def test_forgetting_what_comes_after_a_checkpoint(run: RunDir) -> None:
    run.forget_metrics_after(5)
    assert not run.metrics_file.exists()
    for steps in (1, 2, 3, 4):
        run.append_metrics({"env_steps": steps, "x": 1 / steps})
    first = run.metrics_file.read_text().splitlines(keepends=True)[:2]
    with run.metrics_file.open("a") as file:
        file.write('{"env_st')
    run.forget_metrics_after(2)
    assert run.metrics_file.read_text() == "".join(first)
    run.append_metrics({"env_steps": 3})
    assert [r["env_steps"] for r in run.metrics()] == [1, 2, 3]


@pytest.mark.parametrize("name", ["config.toml", "header.json", "metrics.jsonl"])
def test_a_file_that_is_no_text(run: RunDir, name: str) -> None:
    (run.path / name).write_bytes(b"\xff\xfe\n")
    read = {"config.toml": run.config, "header.json": run.header, "metrics.jsonl": run.metrics}[name]
    with pytest.raises(EqcrlError, match=rf"{name} cannot be read"):
        read()


def test_a_header_that_is_missing_or_no_json(run: RunDir) -> None:
    run.header_file.write_text("{")
    with pytest.raises(RunError, match=r"header\.json is not valid JSON"):
        run.header()
    run.header_file.unlink()
    with pytest.raises(RunError, match=r"header\.json cannot be read: No such file"):
        run.header()


def test_a_config_edited_into_nonsense_is_named_with_its_line(run: RunDir) -> None:
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("batch_size", "batch_sise"))
    line = 1 + text[: text.index("batch_size")].count("\n")
    with pytest.raises(EqcrlError, match=rf"config\.toml:{line}: there is no setting `train\.batch_sise`"):
        run.config()


def test_resuming_is_noted(run: RunDir) -> None:
    run.note_resume(["eqcrl", "train"])
    run.note_resume(["again"])
    header = run.header()
    assert [r["argv"] for r in header["resumed"]] == [["eqcrl", "train"], ["again"]]
    assert header["seed"] == 7


def test_a_configuration_is_exchanged_whole_or_not_at_all(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(run.path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"eqcrl.files.os.{step}", refuse)
            with pytest.raises(RunError, match=r"Cannot write .*: No space left on device\.\n  Free space"):
                run.write_config(Config.load())
        assert snapshot(run.path) == before
    run.write_config(Config.load())
    assert run.config() == Config.load()


OLD = {"depth": 32, "width": 16, "block": "dense-norm-swish", "remat": "auto"}


@pytest.mark.parametrize("more", [{}, {"recipe": "paper"}, {"recipe": "calm", "depth_solver": "scan"}])
def test_a_run_from_before_there_were_recipes_had_the_papers(run: RunDir, more: dict[str, str]) -> None:
    """Its record names every parameter of its day, and `recipe` was none."""
    run.write_config(CONFIG.replace(arch=Part("resnet", OLD | more), critic_arch=Part("mlp", {"depth": 2})))
    assert run.config().arch.params == {"recipe": "paper"} | OLD | more
    assert run.config().critic_arch == Part("mlp", {"depth": 2})


def test_a_run_from_when_calm_was_another_law_is_refused(run: RunDir) -> None:
    run.write_config(CONFIG.replace(arch=Part("resnet", OLD | {"recipe": "calm"})))
    with pytest.raises(ConfigError, match=r"config\.toml: `arch\.recipe = 'calm'` was recorded when"):
        run.config()


def test_the_header_says_what_made_the_run() -> None:
    header = make_header(CONFIG, ["eqcrl", "train"], ["cpu:0"])
    assert header.keys() == {
        "started", "argv", "seed", "versions", "git_revision", "devices", "platform",
    }  # fmt: skip
    assert header["versions"].keys() == {"python", "eqcrl", "jax", "jaxlib", "equinox", "optax", "numpy"}
    assert header["seed"] == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", header["started"])
    assert header["git_revision"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", header["git_revision"])
    assert json.loads(json.dumps(header)) == header


def test_no_git_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert rundir.git_revision() is None


def test_the_default_path_tells_runs_apart() -> None:
    path = default_path(CONFIG)
    assert path.parent == Path("runs")
    assert re.fullmatch(r"\d{8}-\d{6}_point-u-maze_resnet-64_seed7", path.name)
    qualified = Config.load(overrides={"env": "eqcrl/point-u-maze"})
    assert default_path(qualified).parent == Path("runs")
