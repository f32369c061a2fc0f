"""The Python API: fit, load, resume, policy, evaluate."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

import eqcrl
from eqcrl import checkpoint, trainer
from eqcrl import run as runs
from eqcrl.assemble import assemble, complete
from eqcrl.config import Part
from eqcrl.envs.point import PointMaze
from eqcrl.errors import CheckpointError, ConfigError, UnknownName, UsageError
from helpers import TINY, assert_same_run, records, snapshot, tiny, tiny_programs

# `Config.load` would refuse it; whoever builds a configuration by hand meets `fit`.
TOO_LARGE = tiny().replace(train=msgspec.structs.replace(tiny().train, batch_size=4000))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> eqcrl.Run:
    """A finished run, as a script makes it."""
    with pytest.MonkeyPatch.context() as patch:
        # The command line's tests compile for every run; here all share what is compiled once.
        patch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
        return eqcrl.fit(eqcrl.Config.load(overrides=TINY), out=tmp_path_factory.mktemp("api") / "run")


def test_fit_leaves_a_run(run: eqcrl.Run) -> None:
    path = run.directory.path
    assert run.metrics == records(path)
    assert len(run.metrics) == 5
    assert run.config == tiny()
    assert run.outcome is not None
    assert run.outcome.stopped_by is None
    assert run.directory.header()["argv"] == []


def test_fit_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        eqcrl.fit(TOO_LARGE, out=tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_policy_of_one_and_of_many(run: eqcrl.Run) -> None:
    rng = np.random.default_rng(0)
    observation, goal = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    many = np.asarray(run.policy(observation, goal))
    assert many.shape == (5, 2)
    assert np.all(np.abs(many) <= 1)
    for i in range(5):
        one = run.policy(observation[i], goal[i])
        assert one.shape == (2,)
        np.testing.assert_allclose(one, many[i], rtol=1e-4, atol=1e-5)
    state = run.agent_state
    expected = run.system.algorithm.agent.act_deterministic(state, jnp.asarray(observation), jnp.asarray(goal))
    np.testing.assert_allclose(many, expected, rtol=1e-4, atol=1e-5)
    # It looks at both of what it is given.
    assert not np.allclose(many, run.policy(observation + 1, goal))
    assert not np.allclose(many, run.policy(observation, goal + 1))


@pytest.mark.parametrize(("observation", "goal"), [((3,), (2,)), ((4,), (3,)), ((6,), (2,)), ((5, 4), (5, 4))])
def test_policy_of_wrong_sizes(run: eqcrl.Run, observation: tuple[int, ...], goal: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="observations of 4 and goals of 2 numbers, not shapes"):
        run.policy(np.zeros(observation, np.float32), np.zeros(goal, np.float32))


def test_a_loaded_run_is_the_run(run: eqcrl.Run) -> None:
    loaded = eqcrl.load(run.directory.path)
    assert loaded.config == run.config
    assert loaded.metrics == run.metrics
    assert loaded.outcome is None
    observation, goal = np.ones(4, np.float32), np.zeros(2, np.float32)
    np.testing.assert_array_equal(loaded.policy(observation, goal), run.policy(observation, goal))


def test_evaluate_is_decided_by_its_seed(run: eqcrl.Run) -> None:
    scores, episodes = run.evaluate(seed=3)
    again, _ = run.evaluate(seed=3)
    other, _ = run.evaluate(seed=4)
    assert scores == again != other
    assert episodes.at_goal.shape == (30, 4)
    # The names of metrics.jsonl, and what they mean there.
    assert scores.keys() == {k for k in run.metrics[-1] if k.startswith("eval/")}
    at_goal, distance = np.asarray(episodes.at_goal), np.asarray(episodes.distance)
    assert scores["eval/success_any"] == at_goal.any(0).mean()
    assert scores["eval/success_end"] == at_goal[-1].mean()
    assert scores["eval/time_at_goal"] == at_goal.sum(0).mean()
    np.testing.assert_allclose(scores["eval/distance_end"], distance[-1].mean(), rtol=1e-6)
    assert scores["eval/episode_length"] == 30
    np.testing.assert_array_equal(at_goal, distance < 0.5)


def test_evaluate_in_other_places_and_ways(run: eqcrl.Run) -> None:
    fixed, _ = run.evaluate(episodes=6)
    sampled, ran = run.evaluate(episodes=6, deterministic=False)
    assert ran.at_goal.shape == (30, 6)
    assert fixed["eval/distance_end"] != sampled["eval/distance_end"]
    _, ran = run.evaluate(env=Part("point-big-maze", {"episode_length": 7}), episodes=2)
    assert ran.at_goal.shape == (7, 2)


def test_where_to_evaluate(run: eqcrl.Run) -> None:
    def env(**arguments: object) -> PointMaze:
        found = run.eval_env(**arguments)  # type: ignore[arg-type]
        assert isinstance(found, PointMaze)
        return found

    assert (env().layout, env().start, env().episode_length) == ("u", "evaluation", 30)
    assert env(training_starts=True).start == "anywhere"
    big = Part("point-big-maze-fixed-start", {"episode_length": 9})
    assert (env(env=big).layout, env(env=big).start, env(env=big).episode_length) == ("big", "evaluation", 9)
    assert env(env=big, training_starts=True).start == "fixed"
    with pytest.raises(UnknownName, match="point-big-maze"):
        run.eval_env(Part("point-bigmaze"))
    with pytest.raises(ConfigError, match=r"env\.layuot"):
        run.eval_env(Part("point-maze", {"layuot": "u"}))


def test_an_environment_of_other_sizes_is_refused(run: eqcrl.Run, plank: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plank has one coordinate where the maze has four."""
    monkeypatch.setattr(runs, "build_env", lambda part: plank())
    with pytest.raises(ConfigError) as caught:
        run.eval_env(Part("plank"))
    message = str(caught.value)
    assert "cannot act in 'plank'" in message
    assert "trained on 'point-u-maze'" in message
    assert "observation_size=4" in message
    assert "observation_size=1" in message
    assert "same sizes" in message


def test_fit_refuses_before_it_writes(run: eqcrl.Run, tmp_path: Path) -> None:
    before = snapshot(run.directory.path)
    with pytest.raises(UsageError, match="holds a run already"):
        eqcrl.fit(tiny(), out=run.directory.path)
    assert snapshot(run.directory.path) == before
    for config in (TOO_LARGE, eqcrl.Config.load(overrides=TINY | {"arch.depth": 10})):
        with pytest.raises(ConfigError):
            eqcrl.fit(config, out=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_resume_refuses_another_configuration(run: eqcrl.Run) -> None:
    before = snapshot(run.directory.path)
    with pytest.raises(ConfigError) as caught:
        eqcrl.resume(run.directory.path, tiny(seed=1, train__batch_size=4))
    message = str(caught.value)
    assert "train.batch_size is 8 there, 4 was asked for" in message
    assert "seed is 0 there, 1 was asked for" in message
    assert "Only train.total_env_steps, eval.every, checkpoint.every," in message
    assert snapshot(run.directory.path) == before


def test_a_run_from_before_a_parameter_existed_is_resumed(
    run: eqcrl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its config.toml nor its checkpoint names the parameter; both mean the default."""
    monkeypatch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
    copy = Path(shutil.copytree(run.directory.path, tmp_path / "run"))
    manifest = checkpoint.latest(copy / "checkpoints") / "manifest.json"

    def older(text: str) -> str:
        kept = [line for line in text.splitlines() if not line.startswith("precision =")]
        assert len(kept) == len(text.splitlines()) - 1
        return "\n".join(kept) + "\n"

    (copy / "config.toml").write_text(older((copy / "config.toml").read_text()))
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | {"config": older(facts["config"])}))
    resumed = eqcrl.resume(copy, tiny(train__total_env_steps=8 * 10 * 14))
    assert resumed.config.agent.params["precision"] == "fp32"
    assert len(resumed.metrics) > len(run.metrics)


def test_resume_of_a_damaged_checkpoint(run: eqcrl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(run.directory.path, tmp_path / "run"))
    file = checkpoint.latest(copy / "checkpoints") / "rest.eqx"
    file.write_bytes(file.read_bytes()[:-1])
    metrics = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"is damaged: rest\.eqx has"):
        eqcrl.resume(copy, tiny(train__total_env_steps=80 * 20))
    assert (copy / "metrics.jsonl").read_bytes() == metrics
    # The policy does not need that file.
    assert eqcrl.load(copy).policy(np.ones(4, np.float32), np.ones(2, np.float32)).shape == (2,)
    # The mend of the message works.
    shutil.rmtree(file.parent)
    monkeypatch.setattr(trainer, "compile_programs", lambda system: tiny_programs())
    eqcrl.resume(copy)
    assert_same_run(copy, run.directory.path)


def test_what_has_no_checkpoint_has_no_policy(run: eqcrl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.directory.path, tmp_path / "run"))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(CheckpointError, match="There is no complete checkpoint"):
        eqcrl.load(copy).policy(np.ones(4, np.float32), np.ones(2, np.float32))


def test_load_of_a_run_whose_parts_are_gone(run: eqcrl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.directory.path, tmp_path / "run"))
    config = copy / "config.toml"
    config.write_text(config.read_text().replace('"l2"', '"l3"'))
    with pytest.raises(UnknownName, match=r"There is no energy called 'l3'"):
        eqcrl.load(copy)


def test_a_layout_file_is_not_needed_after_the_start(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("#####\n#R.G#\n#####\n")
    config = eqcrl.Config.load(overrides=TINY | {"env": "point-maze", "env.layout": str(file)})
    recorded = eqcrl.Config.from_toml(complete(config).to_toml(), "config.toml")
    file.unlink()
    env = assemble(recorded).eval_env
    assert isinstance(env, PointMaze)
    assert env.maze().rows == ("#####", "#R.G#", "#####")


def test_the_package_offers_what_it_says() -> None:
    for name in eqcrl.__all__:
        assert getattr(eqcrl, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        eqcrl.fitt  # noqa: B018
