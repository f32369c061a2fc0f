"""The loop: what it records and saves, how it stops, and that stopping anywhere changes nothing."""

import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from eqcrl import checkpoint, trainer
from eqcrl.errors import CheckpointError, DivergenceError, RunError
from eqcrl.logbook import Logbook
from eqcrl.plan import state_shapes
from eqcrl.programs import Programs
from eqcrl.rundir import RunDir
from eqcrl.trainer import Trainer, stream
from helpers import (
    METRICS,
    assert_same_run,
    numbers_of,
    records,
    snapshot,
    timeless,
    tiny,
    tiny_programs,
    tiny_system,
)
from training import PREFILL, TOTAL, Killed, after_unroll, die, not_finite, send, spoiled, train_tiny


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, never stopped."""
    path = tmp_path_factory.mktemp("reference") / "run"
    train_tiny(path)
    return path


def test_what_a_run_records(reference: Path) -> None:
    found = records(reference)
    assert [r["env_steps"] for r in found] == [80 * u for u in (4, 6, 8, 10, 12)]
    assert [r["grad_steps"] for r in found] == [6, 12, 18, 24, 30]
    for record in found:
        # The agent may log more than the common measures; CRL logs its entropy coefficient.
        assert record.keys() == METRICS | {"train/alpha"}
        assert all(isinstance(v, int | float) and np.isfinite(v) for v in record.values())
    wall = [r["wall_seconds"] for r in found]
    assert 0 < wall[0] < wall[-1]
    assert checkpoint.numbers(reference / "checkpoints") == [10, 12]


def test_an_evaluation_is_decided_by_seed_and_progress_alone(reference: Path) -> None:
    like = state_shapes(tiny_system())
    for number, record in ((10, records(reference)[3]), (12, records(reference)[4])):
        agent = checkpoint.load_agent(reference / "checkpoints" / f"{number:09d}", like)
        scores, _ = tiny_programs().evaluate(agent, stream(0, trainer.EVAL_STREAM, number))
        assert {f"eval/{k}": float(v) for k, v in scores.items()} == {
            k: v for k, v in record.items() if k.startswith("eval/")
        }


@pytest.mark.parametrize("number", range(1, TOTAL))
def test_stopped_after_any_unroll_and_resumed_equals_never_stopped(
    reference: Path, tmp_path: Path, number: int
) -> None:
    run = tmp_path / "run"
    outcome = train_tiny(run, wrap=after_unroll(number, send(signal.SIGTERM)))
    assert outcome.stopped_by == signal.SIGTERM
    assert checkpoint.latest(run / "checkpoints").name == f"{number:09d}"
    assert timeless(run) == [r for r in timeless(reference) if r["env_steps"] <= 80 * number] if number >= 4 else True
    assert train_tiny(run).stopped_by is None
    assert_same_run(run, reference)


@pytest.mark.parametrize("number", range(1, TOTAL + 1))
def test_killed_after_any_unroll_and_resumed_equals_never_stopped(reference: Path, tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train_tiny(run, wrap=after_unroll(number, die))
    train_tiny(run)
    assert_same_run(run, reference)


def test_stopped_again_and_again(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for number in (1, 3, 4, 7, 11):
        assert train_tiny(run, wrap=after_unroll(number, send(signal.SIGINT))).stopped_by == signal.SIGINT
    train_tiny(run)
    assert_same_run(run, reference)


def test_a_signal_in_the_last_epoch_does_not_count_as_stopping(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train_tiny(run, wrap=after_unroll(TOTAL, send(signal.SIGINT))).stopped_by is None
    assert_same_run(run, reference)


def test_a_second_signal_stops_at_once_and_loses_no_checkpoint(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def twice(state: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_tiny(run, wrap=after_unroll(8, twice))
    assert checkpoint.numbers(run / "checkpoints") == [6]
    train_tiny(run)
    assert_same_run(run, reference)


def test_extending_a_finished_run(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_tiny(run, tiny(train__total_env_steps=80 * 6))
    assert records(run)[-1]["env_steps"] == 80 * 6
    train_tiny(run)
    assert_same_run(run, reference)


def test_stopped_while_compiling(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def interrupted(programs: Programs) -> Programs:
        os.kill(os.getpid(), signal.SIGTERM)
        return programs

    assert train_tiny(run, wrap=interrupted).stopped_by == signal.SIGTERM
    assert checkpoint.numbers(run / "checkpoints") == [0]
    train_tiny(run)
    assert_same_run(run, reference)


@pytest.mark.parametrize("at", range(PREFILL + 1, TOTAL + 1))
def test_a_loss_that_is_not_finite_stops_the_run(reference: Path, tmp_path: Path, at: int) -> None:
    run = tmp_path / "run"
    with pytest.raises(DivergenceError) as caught:
        train_tiny(run, wrap=lambda p: not_finite(p, at))
    message = str(caught.value)
    assert f"not finite after the epoch that ended at {80 * at:,} environment steps" in message
    assert f"{3 * (at - PREFILL)} gradient steps: train/critic_loss." in message
    assert "--agent.critic-rate" in message
    # Everything until then is as it should be, and nothing of what came after.
    before = [r for r in timeless(reference) if r["env_steps"] < 80 * at]
    assert (timeless(run) if before else []) == before
    saved = [u for u in (6, 10) if u < at]
    assert checkpoint.numbers(run / "checkpoints") == saved
    if saved:
        assert f"the checkpoint at {80 * saved[-1]:,} environment steps" in message
        checkpoint.load(checkpoint.latest(run / "checkpoints"), state_shapes(tiny_system()))
        train_tiny(run)
        assert_same_run(run, reference)
    else:
        assert "no checkpoint" in message


@pytest.mark.parametrize("at", [5, 6, 10, TOTAL])
def test_no_checkpoint_is_kept_of_networks_that_are_not_finite(tmp_path: Path, at: int) -> None:
    """The losses of an epoch are taken before its last step: that step can spoil what the losses do not show."""
    run = tmp_path / "run"
    with pytest.raises(DivergenceError, match=r"of the networks first critic\.state_action\.head\.weight"):
        train_tiny(run, wrap=lambda programs: spoiled(programs, at))
    like = state_shapes(tiny_system())
    for number in checkpoint.numbers(run / "checkpoints"):
        agent = checkpoint.load_agent(run / "checkpoints" / f"{number:09d}", like)
        assert all(np.isfinite(x).all() for x in numbers_of(agent)), number


def test_a_config_edited_by_hand_is_refused(reference: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    before = snapshot(run)
    with pytest.raises(CheckpointError) as caught:
        train_tiny(run, tiny(train__batch_size=4, agent__critic_rate=0.1))
    message = str(caught.value)
    assert "was made under another configuration" in message
    assert "train.batch_size was 8, is 4" in message
    assert "agent.critic_rate was 0.0003, is 0.1" in message
    assert "Restore these values in config.toml" in message
    assert snapshot(run) == before


def edit_manifest(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = checkpoint.latest(run / "checkpoints") / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("config"),
        lambda m: m.update(config=3),
        lambda m: m.update(config="= no toml"),
        lambda m: m.update(config="sed = 3"),
        lambda m: m.update(config="[env]\nname = 'no-such-env'"),
        lambda m: m.pop("wall_seconds"),
        lambda m: m.update(wall_seconds="long"),
        lambda m: m.update(wall_seconds=[]),
    ],
)
def test_a_manifest_edited_where_the_trainer_reads_it(
    reference: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    edit_manifest(run, change)
    before = snapshot(run)
    with pytest.raises(CheckpointError) as caught:
        train_tiny(run)
    assert str(checkpoint.latest(run / "checkpoints")) in str(caught.value)
    assert caught.value.mend
    assert snapshot(run) == before


def test_a_disk_that_refuses_the_metrics(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    real = os.fsync

    def refuse(handle: int) -> None:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and os.path.samestat(os.fstat(handle), metrics.stat()) and len(records(run)) == 4:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(RunError, match=r"Cannot write .*metrics.jsonl: No space left on device"):
        train_tiny(run)
    monkeypatch.undo()
    assert checkpoint.numbers(run / "checkpoints") == [6]
    monkeypatch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
    loop = Trainer([Logbook(tiny(), RunDir(run))], tiny_system(), Console(quiet=True))
    loop.train(loop.restore())
    assert_same_run(run, reference)


def test_what_it_says(tmp_path: Path) -> None:
    text = io.StringIO()
    train_tiny(tmp_path / "run", console=Console(file=text, width=200))
    said = text.getvalue()
    assert re.search(r"Compiled in [\d.]+ (s|min \d+ s) \(training epoch [\d.]+ s\)", said)
    assert re.search(r"First epoch took [\d.]+ s; 9 to go: about [\d.]+ s .*done \w{3} \d\d:\d\d\.", said)
    assert len(re.findall("env steps", said)) == 5

    text = io.StringIO()
    run = tmp_path / "stopped"
    train_tiny(run, wrap=after_unroll(7, send(signal.SIGTERM)))
    train_tiny(run, console=Console(file=text, width=200))
    assert "Continuing at 560 environment steps." in text.getvalue()
    assert re.search(r"First epoch took [\d.]+ s; 4 to go", text.getvalue())


def test_the_outcome_holds_the_last_evaluation(tmp_path: Path) -> None:
    outcome = train_tiny(tmp_path / "run")
    assert outcome.episodes is not None
    assert outcome.episodes.at_goal.shape == (30, 4)
    last = records(tmp_path / "run")[-1]
    assert float(outcome.episodes.at_goal.sum(0).mean()) == last["eval/time_at_goal"]
    assert outcome.compile_seconds == tiny_programs().compile_seconds
    assert train_tiny(tmp_path / "run").episodes is None


def test_streams_of_randomness_are_apart() -> None:
    keys = [stream(s, w, n) for s in (0, 1) for w in (trainer.INIT_STREAM, trainer.EVAL_STREAM) for n in (0, 1)]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 8
