"""Several seeds as one program: each is its own run, stops and goes on with the others, and may fail alone."""

import dataclasses
import functools
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import eqcrl
from eqcrl import checkpoint, trainer
from eqcrl import epoch as ep
from eqcrl.errors import CheckpointError, ConfigError, DivergenceError, RunError, UsageError
from eqcrl.health import health
from eqcrl.lock import claimed
from eqcrl.plan import make_plan, state_shapes
from eqcrl.programs import Programs, compile_programs
from eqcrl.seeds import refuse_given_up
from helpers import assert_same_run, copy_run, records, snapshot, timeless, tiny, tiny_programs, tiny_system

SEEDS = 3
FIRST = 4  # not 0, so that places and seeds are told apart
ALL = range(FIRST, FIRST + SEEDS)
CONFIG = tiny(seed=FIRST)
TOTAL = 12

Wrap = Callable[[Programs], Programs]


@functools.cache
def together() -> Programs:
    """The programs of the tiny run for three seeds, compiled once."""
    return compile_programs(tiny_system(), SEEDS)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Wrap], None]:
    """Lets trainers take the programs that are compiled already, changed by `wrap`."""

    def with_programs(wrap: Wrap) -> None:
        def compiled(system: Any, seeds: int | None = None) -> Programs:
            assert seeds in (None, SEEDS)
            return wrap(together()) if seeds else tiny_programs()

        monkeypatch.setattr(trainer, "compile_programs", compiled)

    with_programs(lambda programs: programs)
    return with_programs


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds side by side, never stopped. Copy before writing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "compile_programs", lambda system, seeds: together())
        out = tmp_path_factory.mktemp("seeds") / "group"
        runs = eqcrl.fit_seeds(CONFIG, SEEDS, out)
    assert [run.config.seed for run in runs] == list(ALL)
    assert [run.directory.path for run in runs] == folders(out)
    return out


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Each seed by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
        folder = tmp_path_factory.mktemp("singles")
        return {k: eqcrl.fit(CONFIG.replace(seed=k), folder / str(k)).directory.path for k in ALL}


def folders(out: Path) -> list[Path]:
    return [out / f"seed{k}" for k in ALL]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the locks."""
    return {name: text for name, text in snapshot(folder).items() if not name.endswith(".lock")}


def unrolls(state: Any) -> int:
    (number,) = set(np.asarray(state.unrolls).tolist())
    return number


def after_unroll(number: int, act: Callable[[Any], Any]) -> Wrap:
    """Programs that call `act` on the state once so many unrolls are collected; its result, if any, replaces it."""

    def wrap(programs: Programs) -> Programs:
        def collect(state: Any) -> Any:
            state = programs.collect(state)
            return (act(state) or state) if unrolls(state) == number else state

        def epoch(state: Any) -> Any:
            state, metrics = programs.epoch(state)
            return ((act(state) or state) if unrolls(state) == number else state), metrics

        return dataclasses.replace(programs, collect=collect, epoch=epoch)

    return wrap


class Killed(BaseException):
    """Nothing of eqcrl runs after this: stands for SIGKILL."""


def die(_: Any) -> None:
    raise Killed


def spoiled(place: int, at: int) -> Wrap:
    """The last gradient step of the epoch that ends after so many unrolls spoils the networks of one seed."""

    def wrap(programs: Programs) -> Programs:
        def epoch(state: Any) -> Any:
            state, metrics = programs.epoch(state)
            if unrolls(state) != at:
                return state, metrics
            where = lambda s: s.agent.critic.state_action.head.weight  # noqa: E731
            state = eqx.tree_at(where, state, replace_fn=lambda w: w.at[place].set(jnp.nan))
            return state, metrics | jax.vmap(health)(jnp.ones((SEEDS, 3), bool), state.agent)

        return dataclasses.replace(programs, epoch=epoch)

    return wrap


def loaded(run: Path) -> list[np.ndarray]:
    state = checkpoint.load(checkpoint.latest(run / "checkpoints"), state_shapes(tiny_system()))
    return jax.tree.leaves(checkpoint.plain(state))


def test_every_seed_begins_as_it_would_by_itself() -> None:
    """Bit for bit: networks, environments, keys."""
    keys = jnp.stack([trainer.stream(k, trainer.INIT_STREAM) for k in ALL])
    begun = together().init(keys)
    for place, seed in enumerate(ALL):
        alone = tiny_programs().init(trainer.stream(seed, trainer.INIT_STREAM))
        for a, b in zip(*(jax.tree.leaves(checkpoint.plain(s)) for s in (begun, alone)), strict=True):
            np.testing.assert_array_equal(a[place], b)


def test_every_seed_is_the_run_by_itself_but_for_rounding(reference: Path, singles: dict[int, Path]) -> None:
    """After 30 gradient steps: counters, episodes and keys are equal, recorded numbers within 1e-3, the final state
    (networks, Adam, replay, environments) within 1e-3 of one another or 1e-4."""
    for k, run in zip(ALL, folders(reference), strict=True):
        ours, theirs = timeless(run), timeless(singles[k])
        assert [r.keys() for r in ours] == [r.keys() for r in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert (a["env_steps"], a["grad_steps"]) == (b["env_steps"], b["grad_steps"])
            for name in a:
                assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-3), name
        for a, b in zip(loaded(run), loaded(singles[k]), strict=True):
            if np.issubdtype(a.dtype, np.floating):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
            else:
                np.testing.assert_array_equal(a, b)
    one, other = (loaded(run) for run in folders(reference)[:2])
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True) if a.ndim > 1 and a.dtype == float)


def test_every_run_is_an_ordinary_one(reference: Path) -> None:
    assert sorted(p.name for p in reference.iterdir()) == [f"seed{k}" for k in ALL]
    for k, path in zip(ALL, folders(reference), strict=True):
        run = eqcrl.load(path)
        assert run.config == CONFIG.replace(seed=k)
        assert run.directory.header()["seed"] == k
        assert run.directory.header()["seeds_together"] == list(ALL)
        assert len(run.metrics) == 5
        assert checkpoint.numbers(run.directory.checkpoints) == [10, 12]
        assert run.policy(np.ones(4, np.float32), np.ones(2, np.float32)).shape == (2,)
    agents = [eqcrl.load(path).agent_state.actor.trunk.stem.weight for path in folders(reference)]
    assert not np.allclose(agents[0], agents[1])


def test_outcomes_hold_the_last_evaluation_of_each(use: Any, tmp_path: Path) -> None:
    for run in eqcrl.fit_seeds(CONFIG, SEEDS, tmp_path / "group"):
        assert run.outcome is not None
        assert run.outcome.episodes is not None
        at_goal = np.asarray(run.outcome.episodes.at_goal)
        assert at_goal.shape == (30, 4)
        distance = np.asarray(run.outcome.episodes.distance)[-1].mean()
        assert distance == pytest.approx(run.metrics[-1]["eval/distance_end"], rel=1e-6)
        assert run.outcome.stopped_by is None
        assert run.outcome.diverged is None


def test_one_goes_on_alone(use: Any, reference: Path, tmp_path: Path) -> None:
    copy = copy_run(reference, tmp_path / "group")
    run = eqcrl.resume(copy / f"seed{FIRST}", CONFIG.replace(train=tiny(train__total_env_steps=80 * 14).train))
    assert [r["env_steps"] for r in run.metrics][-2:] == [960, 1120]
    assert run.metrics[:5] == records(folders(reference)[0])


def test_the_state_is_written_over_itself() -> None:
    """With a leading axis over seeds too: neither replay nor networks are copied by an epoch."""
    for program in (together().collect, together().epoch):
        memory = program.memory_analysis()  # type: ignore[attr-defined]
        assert memory.alias_size_in_bytes == memory.argument_size_in_bytes
    one = tiny_programs().epoch.memory_analysis()  # type: ignore[attr-defined]
    assert together().epoch.memory_analysis().argument_size_in_bytes == SEEDS * one.argument_size_in_bytes  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [1, 7])
def test_stopped_and_resumed_equals_never_stopped(use: Any, reference: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "group"
    use(after_unroll(number, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    for run in eqcrl.fit_seeds(CONFIG, SEEDS, out):
        assert run.outcome is not None
        assert run.outcome.stopped_by == signal.SIGTERM
        assert checkpoint.latest(run.directory.checkpoints).name == f"{number:09d}"
    use(lambda programs: programs)
    eqcrl.resume_seeds(out)
    for one, other in zip(folders(out), folders(reference), strict=True):
        assert_same_run(one, other)
        assert len(json.loads((one / "header.json").read_text())["resumed"]) == 1


@pytest.mark.parametrize("number", [9])
def test_killed_and_resumed_equals_never_stopped(use: Any, reference: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "group"
    use(after_unroll(number, die))
    with pytest.raises(Killed):
        eqcrl.fit_seeds(CONFIG, SEEDS, out)
    use(lambda programs: programs)
    eqcrl.resume_seeds(out)
    for one, other in zip(folders(out), folders(reference), strict=True):
        assert_same_run(one, other)


@pytest.mark.parametrize("nth", [2, 5])
def test_killed_between_the_checkpoints_of_two_seeds(
    use: Any, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Also where one checkpoint is kept: they go back to the last one that all have, and to none before the first."""
    out, calls, save = tmp_path / "group", iter(range(1, 100)), checkpoint.save

    def killed(*args: Any, **kwargs: Any) -> Path:
        if next(calls) == nth:
            raise Killed
        return save(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save", killed)
    config = CONFIG.replace(checkpoint=tiny(checkpoint__keep=1).checkpoint)
    with pytest.raises(Killed):
        eqcrl.fit_seeds(config, SEEDS, out)
    monkeypatch.setattr(checkpoint, "save", save)
    have = [checkpoint.numbers(run / "checkpoints") for run in folders(out)]
    before, now = {2: ([], 6), 5: ([6], 10)}[nth]
    assert have == [[*before, now], before, before]

    stop_at = {2: 3, 5: 7}[nth]
    use(after_unroll(stop_at, lambda _: os.kill(os.getpid(), signal.SIGINT)))
    eqcrl.resume_seeds(out)
    # Nothing is left of the checkpoint that one of them had and that is yet to come.
    assert {tuple(checkpoint.numbers(run / "checkpoints")) for run in folders(out)} == {(stop_at,)}
    use(lambda programs: programs)
    eqcrl.resume_seeds(out)
    for one, other in zip(folders(out), folders(reference), strict=True):
        assert timeless(one) == timeless(other)
        for a, b in zip(loaded(one), loaded(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_extending_all_of_them(use: Any, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "group"
    shorter = CONFIG.replace(train=tiny(train__total_env_steps=80 * 6).train)
    eqcrl.fit_seeds(shorter, SEEDS, out)
    runs = eqcrl.resume_seeds(out, CONFIG)
    assert [run.config for run in runs] == [CONFIG.replace(seed=k) for k in ALL]
    for one, other in zip(folders(out), folders(reference), strict=True):
        assert_same_run(one, other)
        assert (one / "config.toml").read_text() == (other / "config.toml").read_text()


@pytest.mark.parametrize("at", [5, 6])
def test_a_seed_that_diverges_is_given_up_and_the_others_go_on(
    use: Any, reference: Path, tmp_path: Path, at: int
) -> None:
    """In the midst, and right before evaluations and checkpoints."""
    out, place = tmp_path / "group", 1
    use(spoiled(place, at))
    runs = eqcrl.fit_seeds(CONFIG, SEEDS, out)
    lost = runs[place]
    for k in (0, 2):
        assert_same_run(folders(out)[k], folders(reference)[k])
        assert "diverged" not in runs[k].directory.header()
    assert lost.outcome is not None
    error = lost.outcome.diverged
    assert isinstance(error, DivergenceError)
    assert "not finite after the epoch that ended at" in str(error)
    assert lost.directory.header()["diverged"]["message"] == str(error)
    saved = [u for u in (6, 10) if u < at]
    assert checkpoint.numbers(lost.directory.checkpoints) == saved
    assert timeless(lost.directory.path) == [r for r in timeless(folders(reference)[place]) if r["env_steps"] < 80 * at]
    with pytest.raises(DivergenceError, match=rf"^1 of 3 seeds diverged \({ALL[place]}\); the others are done"):
        refuse_given_up(runs)

    # It stays so when the others go on, and nothing of it is touched.
    before = snapshot(lost.directory.path)
    use(lambda programs: programs)
    longer = CONFIG.replace(train=tiny(train__total_env_steps=80 * 14).train)
    text = io.StringIO()
    again = eqcrl.resume_seeds(out, longer, console=Console(file=text, width=200))
    assert f"Seed {ALL[1]} stays given up: `eqcrl train --resume {out}/seed{ALL[1]}` tries it again." in text.getvalue()
    assert [run.outcome.diverged is None for run in again if run.outcome] == [True, False, True]
    assert all(len(run.metrics) == 6 for run in (again[0], again[2]))
    now = snapshot(lost.directory.path)
    assert {k: v for k, v in now.items() if k != "config.toml"} == {
        k: v for k, v in before.items() if k != "config.toml"
    }
    # By itself it may be tried again.
    if saved:
        alone = eqcrl.resume(lost.directory.path)
        assert "diverged" not in alone.directory.header()
        assert len(alone.metrics) == 6


def test_a_seed_that_was_lost_does_not_change_how_the_others_go_on(use: Any, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "group"

    def wrap(programs: Programs) -> Programs:
        stopping = after_unroll(9, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        return stopping(spoiled(0, 5)(programs))

    use(wrap)
    eqcrl.fit_seeds(CONFIG, SEEDS, out)
    use(lambda programs: programs)
    eqcrl.resume_seeds(out)
    for k in (1, 2):
        assert_same_run(folders(out)[k], folders(reference)[k])


def test_all_seeds_may_diverge(use: Any, tmp_path: Path) -> None:
    out = tmp_path / "group"
    seen: list[int] = []

    def wrap(programs: Programs) -> Programs:
        for place in range(SEEDS):
            programs = spoiled(place, 5 + place)(programs)
        inner = programs.epoch

        def epoch(state: Any) -> Any:
            state, metrics = inner(state)
            seen.append(unrolls(state))
            return state, metrics

        return dataclasses.replace(programs, epoch=epoch)

    use(wrap)
    runs = eqcrl.fit_seeds(CONFIG, SEEDS, out)
    assert all(run.outcome and run.outcome.diverged for run in runs)
    assert max(seen) == 8  # nobody trains for nothing
    with pytest.raises(DivergenceError, match="3 of 3 seeds diverged"):
        refuse_given_up(runs)
    with pytest.raises(DivergenceError, match=r"All seeds in .* diverged"):
        eqcrl.resume_seeds(out)


def test_runs_out_of_step_do_not_go_on_together(use: Any, reference: Path, tmp_path: Path) -> None:
    out = copy_run(reference, tmp_path / "group")
    for number in (10, 12):
        shutil.rmtree(out / f"seed{FIRST}" / "checkpoints" / f"{number:09d}")
    before = content(out)
    with pytest.raises(CheckpointError) as caught:
        eqcrl.resume_seeds(out)
    assert f"{out}/seed{FIRST + 1} is at 960 environment steps, they have no checkpoint in common" in str(caught.value)
    assert f"eqcrl train --resume {out}/seed{FIRST + 1}" in str(caught.value)
    assert content(out) == before


def test_a_damaged_checkpoint_of_one_leaves_all_alone(use: Any, reference: Path, tmp_path: Path) -> None:
    out = copy_run(reference, tmp_path / "group")
    file = checkpoint.latest(folders(out)[2] / "checkpoints") / "rest.eqx"
    file.write_bytes(file.read_bytes()[:-1])
    before = content(out)
    with pytest.raises(CheckpointError, match=r"seed6.*is damaged: rest\.eqx has"):
        eqcrl.resume_seeds(out)
    assert content(out) == before


def test_every_run_is_locked(use: Any, reference: Path, tmp_path: Path) -> None:
    out = copy_run(reference, tmp_path / "group")
    with claimed(folders(out)[1]), pytest.raises(RunError, match=f"seed{ALL[1]} is being written by another process"):
        eqcrl.resume_seeds(out)
    with claimed(folders(out)[0]):  # ... and let go of again
        pass


def test_other_configurations_are_refused(use: Any, reference: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size is 8 there, 4 was asked for"):
        eqcrl.resume_seeds(reference, tiny(seed=FIRST, train__batch_size=4))
    with pytest.raises(ConfigError, match=r"seed is 4 there, 5 was asked for"):
        eqcrl.resume_seeds(reference, tiny(seed=FIRST + 1))
    with pytest.raises(ConfigError, match=r"end at 4294967296, beyond 2\^32 - 1"):
        eqcrl.fit_seeds(tiny(seed=2**32 - 1), 2, tmp_path / "never")
    with pytest.raises(UsageError, match="holds a run already"):
        eqcrl.fit_seeds(CONFIG, 2, reference)
    with pytest.raises(UsageError, match="holds a run already"):
        eqcrl.fit_seeds(CONFIG, 2, folders(reference)[0])
    assert list(tmp_path.iterdir()) == []


def test_one_seed_is_the_ordinary_run(use: Any, singles: dict[int, Path], tmp_path: Path) -> None:
    (run,) = eqcrl.fit_seeds(CONFIG, 1, tmp_path / "run")
    assert run.directory.path == tmp_path / "run"
    assert "seeds_together" not in run.directory.header()
    assert_same_run(run.directory.path, singles[FIRST])


def test_the_plan_is_of_all_seeds() -> None:
    one, many = make_plan(CONFIG, tiny_system()), make_plan(CONFIG, tiny_system(), SEEDS)
    for name in ("agent_bytes", "replay_bytes", "mirror_bytes", "working_bytes"):
        assert getattr(many, name) == SEEDS * getattr(one, name)
    assert many.total_bytes() == SEEDS * one.total_bytes()
    assert (many.grad_steps, many.env_steps) == (one.grad_steps, one.env_steps)


@pytest.mark.thorough
def test_seeds_on_c_mujoco(tmp_path: Path) -> None:
    """One call of the engine steps the simulations of all seeds; each collects what it does by itself."""
    settings = {"env": "reacher", "env__episode_length": 10, "train__total_env_steps": 80 * 4, "eval__every": 1}
    runs = eqcrl.fit_seeds(tiny(**settings), 2, tmp_path / "both")
    assert [[r["eval/episode_length"] for r in run.metrics] for run in runs] == [[10.0, 10.0]] * 2
    like, algorithm = state_shapes(runs[0].system), runs[0].system.algorithm
    found = [checkpoint.load(checkpoint.latest(run.directory.checkpoints), like).replay.data for run in runs]
    collect = jax.jit(functools.partial(ep.collect, algorithm))
    for run, data in zip(runs, found, strict=True):
        assert run.config.env.params["physics"] == "mujoco"
        alone = collect(collect(ep.init(algorithm, key=trainer.stream(run.config.seed, trainer.INIT_STREAM))))
        # The two unrolls before learning begins.
        for a, b in zip(jax.tree.leaves(data), jax.tree.leaves(alone.replay.data), strict=True):
            np.testing.assert_allclose(a[:20], b[:20], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0].observation, found[1].observation, atol=1e-2)
