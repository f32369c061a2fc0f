"""Saving beside training: the mirror is the replay, policies are kept, a run without a replay goes on."""

import dataclasses
import io
import json
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from eqcrl import checkpoint
from eqcrl.assemble import assemble
from eqcrl.config import Config
from eqcrl.errors import CheckpointError
from eqcrl.logbook import Logbook
from eqcrl.plan import make_plan, state_shapes
from eqcrl.rundir import RunDir
from eqcrl.saver import Saver
from helpers import assert_same_run, first_state, records, snapshot, tiny, tiny_programs, tiny_system
from training import TOTAL, Killed, after_unroll, die, not_finite, spoiled, train_tiny


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, never stopped."""
    path = tmp_path_factory.mktemp("reference") / "run"
    train_tiny(path)
    return path


def make_log(path: Path, config: Config | None = None) -> Logbook:
    return Logbook(config or tiny(), RunDir.create(path, config or tiny(), {}))


def held_up(name: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What lets that function of `checkpoint` go on; until then it waits."""
    real, gate = getattr(checkpoint, name), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert gate.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(checkpoint, name, slow)
    return gate


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(*(jax.tree.leaves(checkpoint.plain(tree)) for tree in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at", [(1, 2, 3), (3, 5, 9, 12), (2, 11), (7, 8)])
def test_every_checkpoint_is_the_state_of_its_moment(tmp_path: Path, at: tuple[int, ...]) -> None:
    """Though only new rows are copied, the ring wraps after five unrolls, and epochs use the state up."""
    log, programs, like = make_log(tmp_path / "run"), tiny_programs(), state_shapes(tiny_system())
    saver, state, moments = Saver(programs.rows, True, True, 10), first_state(), {}
    for number in range(1, 13):
        state = programs.collect(state) if number < 3 else programs.epoch(state)[0]
        if number in at:
            moments[number] = jax.tree.map(np.array, checkpoint.plain(state))
            saver.save(state, [(0, log)])
            saver.wait()
            path = log.run.checkpoints / f"{number:09d}"
            assert checkpoint.read_manifest(path)["rows"] == min(10 * number, 50)
            assert_equal(checkpoint.load(path, like), moments[number])
    saver.close()
    assert saver.held_up_seconds > 0


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is held up until two epochs later; what it writes is the state from before them."""
    log, programs, gate = make_log(tmp_path / "run"), tiny_programs(), held_up("save", monkeypatch)
    saver = Saver(programs.rows, True, True, 10)
    state = programs.epoch(programs.collect(programs.collect(first_state())))[0]
    before = jax.tree.map(np.array, checkpoint.plain(state))
    saver.save(state, [(0, log)])
    for _ in range(2):
        state, _ = programs.epoch(state)
    saver.check()
    assert checkpoint.numbers(log.run.checkpoints) == []
    gate.set()
    saver.wait()
    saver.close()
    assert_equal(checkpoint.load(checkpoint.latest(log.run.checkpoints), state_shapes(tiny_system())), before)


def test_the_best_policy_and_a_checkpoint_are_written_from_one_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training waits for neither: the thread is held up before the first of them."""
    log, programs, gate = make_log(tmp_path / "run"), tiny_programs(), held_up("save_policy", monkeypatch)
    saver, like = Saver(programs.rows, True, True, 10), state_shapes(tiny_system())
    state = programs.epoch(programs.collect(programs.collect(first_state())))[0]
    before = jax.tree.map(np.array, checkpoint.plain(state))
    saver.save(state, [(0, log)], best=[(0, log)], at=3)
    state, _ = programs.epoch(state)
    saver.check()
    assert list(log.run.checkpoints.iterdir()) == []
    gate.set()
    saver.wait()
    saver.close()
    assert_equal(checkpoint.load(checkpoint.latest(log.run.checkpoints), like), before)
    best = checkpoint.policy_path(log.run.checkpoints, "best")
    assert best.name == "best-000000003"
    assert_equal(checkpoint.load_agent(best, like), before.agent)


def test_a_disk_that_refuses_is_noticed_at_the_next_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.arrays, "write", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be written: No space left on device"):
        train_tiny(run)
    assert len(records(run)) < 5
    assert [p.name for p in (run / "checkpoints").iterdir()] == []


def test_the_best_policy_is_kept(reference: Path) -> None:
    found = [r["eval/time_at_goal"] for r in records(reference)]
    best = records(reference)[int(np.argmax(found))]
    folder = reference / "checkpoints"
    path = checkpoint.policy_path(folder, "best")
    assert path.name == f"best-{best['env_steps'] // 80:09d}"
    assert sorted(p.name for p in path.iterdir()) == ["agent.eqx", "manifest.json"]
    assert checkpoint.best_score(folder) == max(found)
    assert checkpoint.policies(folder).keys() == {"10", "12", "best"}
    like = state_shapes(tiny_system())
    assert_equal(
        checkpoint.load_agent(checkpoint.policy_path(folder, "last"), like),
        checkpoint.load_agent(folder / "000000012", like),
    )
    with pytest.raises(CheckpointError, match="There is no policy '11'") as caught:
        checkpoint.policy_path(folder, "11")
    assert "There are: last, 10, 12, best." in str(caught.value)


def test_a_resumed_run_does_not_forget_its_best(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train_tiny(run, wrap=after_unroll(9, die))
    folder = run / "checkpoints"
    before = checkpoint.best_score(folder)
    assert before > float("-inf")
    log = Logbook(tiny(), RunDir(run))
    assert not log.is_best({"time_at_goal": before})
    assert log.is_best({"time_at_goal": before + 1})


def test_policies_are_kept_for_good(reference: Path, tmp_path: Path) -> None:
    """Checkpoints come after 6 and 10 unrolls, and at the end."""
    run = tmp_path / "run"
    train_tiny(run, tiny(checkpoint__policies=1, checkpoint__keep=1))
    names = sorted(p.name for p in (run / "checkpoints").iterdir() if not p.name.startswith("best"))
    assert names == ["000000012", "policy-000000006", "policy-000000010"]
    like = state_shapes(tiny_system())
    kept = checkpoint.load_agent(checkpoint.policy_path(run / "checkpoints", "10"), like)
    assert_equal(kept, checkpoint.load_agent(reference / "checkpoints" / "000000010", like))
    assert_same_run(run, reference)


def test_time_asks_for_checkpoints_too(tmp_path: Path, reference: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train_tiny(run, tiny(checkpoint__minutes=1e-9), wrap=after_unroll(9, die))
    assert checkpoint.numbers(run / "checkpoints") == [7, 8]
    train_tiny(run)
    assert_same_run(run, reference)


def test_a_run_without_its_replay_fills_it_anew_and_says_so(tmp_path: Path) -> None:
    run, config = tmp_path / "run", tiny(checkpoint__replay=False)
    with pytest.raises(Killed):
        train_tiny(run, config, wrap=after_unroll(9, die))
    path = checkpoint.latest(run / "checkpoints")
    assert sorted(p.name for p in path.iterdir()) == ["agent.eqx", "manifest.json", "rest.eqx"]
    state = checkpoint.load(path, state_shapes(tiny_system()))
    assert int(state.replay.inserted) == 0
    text = io.StringIO()
    train_tiny(run, config, console=Console(file=text, width=300))
    assert "The checkpoint has no replay: 160 environment steps are taken anew" in text.getvalue()
    assert [r["env_steps"] for r in records(run)] == [80 * u for u in (4, 6, 8, 10, 12)]
    # With the replay again from here on.
    train_tiny(run, tiny(train__total_env_steps=80 * 14))
    assert (checkpoint.latest(run / "checkpoints") / "replay.eqx").is_file()


def test_a_replay_that_is_not_saved_takes_no_memory_to_save_from() -> None:
    with_it, without = tiny(), tiny(checkpoint__replay=False)
    plans = [make_plan(config, assemble(config)) for config in (with_it, without)]
    assert [plan.mirror_bytes for plan in plans] == [plans[0].replay_bytes, 0]


class TestRollback:
    """On divergence: back to the last checkpoint, with other random numbers."""

    CONFIG: Any = staticmethod(lambda **more: tiny(on_divergence="rollback", **more))

    def test_it_goes_on_to_the_end(self, tmp_path: Path, reference: Path) -> None:
        run, hits = tmp_path / "run", []

        def once(programs: Any) -> Any:
            bad = not_finite(programs, 8)

            def epoch(state: Any) -> Any:
                first = int(state.unrolls) == 7 and not hits
                hits.extend([1] if first else [])
                return (bad if first else programs).epoch(state)

            return dataclasses.replace(programs, epoch=epoch)

        text = io.StringIO()
        outcome = train_tiny(run, self.CONFIG(), wrap=once, console=Console(file=text, width=300))
        assert outcome.diverged is None
        assert "Going back to 480 environment steps." in text.getvalue()
        assert [r["env_steps"] for r in records(run)] == [80 * u for u in (4, 6, 8, 10, 12)]
        header = json.loads((run / "header.json").read_text())
        assert [r["to_env_steps"] for r in header["rollbacks"]] == [480]
        assert "diverged" not in header
        # The same until there, and another run from there on.
        ours, theirs = ([r["train/critic_loss"] for r in records(path)] for path in (run, reference))
        assert ours[:2] == theirs[:2]
        assert ours[2] != theirs[2]
        # What is saved is what is trained, though the mirror was further than the checkpoint.
        like = state_shapes(tiny_system())
        saved = checkpoint.load(checkpoint.latest(run / "checkpoints"), like)
        assert int(saved.unrolls) == TOTAL
        assert int(saved.replay.inserted) == 10 * TOTAL

    def test_it_gives_up_after_three_times(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        with pytest.raises(Exception, match="Training diverged"):
            train_tiny(run, self.CONFIG(), wrap=lambda programs: spoiled(programs, 8))
        assert len(json.loads((run / "header.json").read_text())["rollbacks"]) == 3
        before = snapshot(run)
        assert any("000000006" in str(name) for name in before)

    def test_before_the_first_checkpoint_there_is_nothing_to_go_back_to(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="no checkpoint yet"):
            train_tiny(tmp_path / "run", self.CONFIG(), wrap=lambda programs: not_finite(programs, 4))
