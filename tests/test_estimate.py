"""The time a run will take, from a few steps of it."""

import pytest

from eqcrl import estimate as est
from eqcrl.assemble import System, assemble, complete
from eqcrl.config import Config
from eqcrl.plan import make_plan
from helpers import tiny, tiny_system

SMALL = {"arch.width": 16, "train.batch_size": 8, "train.num_envs": 8, "train.total_env_steps": 10_000}


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(est, "SECONDS", 0.05)


def test_shallow_networks_are_timed_as_they_are() -> None:
    found = est.estimate(tiny(), tiny_system())
    assert found.depths == ()
    assert 1e-6 < found.update < 5
    assert 1e-6 < found.env_step < 5


def test_deep_networks_are_timed_at_two_depths_and_the_rest_follows_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a machine on which a layer takes 1 ms of an update and 2 ms of a step, and everything else 10 ms."""

    def measure(system: System, config: Config, seeds: int) -> tuple[float, float]:
        depth = system.algorithm.agent.actor_arch.depth  # type: ignore[attr-defined]
        return 0.01 + 0.001 * depth, 0.01 + 0.002 * depth

    monkeypatch.setattr(est, "_measure", measure)
    config = complete(Config.load(overrides=SMALL | {"arch": "resnet-1024"}))
    deep = est.estimate(config, assemble(config))
    assert deep.depths == (32, 128)
    assert deep.update == pytest.approx(0.01 + 1.024)
    assert deep.env_step == pytest.approx(0.01 + 2.048)


def test_every_network_shrinks_by_the_same_share() -> None:
    config = complete(Config.load(overrides=SMALL | {"arch": "resnet-1024", "actor_arch": "resnet-512"}))
    shrunk = est._at_share(config, 24 / 1024)
    assert shrunk.actor_arch is not None
    assert (shrunk.arch.params["depth"], shrunk.actor_arch.params["depth"]) == (24, 12)
    assert est._at_share(config, 0.001).arch.params["depth"] == 4
    assert config.arch.params["depth"] == 1024


def test_the_line_goes_through_both_points_and_never_falls() -> None:
    assert est._line([0.25, 0.5], [2.0, 3.0]) == pytest.approx(5.0)
    assert est._line([0.25, 0.5], [3.0, 2.0]) == 2.0


def test_the_total_counts_updates_steps_and_evaluations() -> None:
    config = complete(
        Config.load(
            overrides=SMALL
            | {"train.unroll_length": 10, "train.updates_per_epoch": 3, "replay.min_filled": 10, "eval.every": 25}
            | {"eval.num_envs": 16}
        )
    )
    plan = make_plan(config, assemble(config))
    assert (plan.env_steps, plan.grad_steps, plan.epochs) == (10_000, 372, 124)
    found = est.Estimate(update=2.0, env_step=0.5)
    # 1,250 steps of 8 environments, and 5 evaluations of 100 steps of 16.
    assert found.total(config, plan, 100) == pytest.approx(372 * 2.0 + (1250 + 5 * 100 * 2) * 0.5)
    text = est.estimate_text(config, plan, found, 100)
    assert "31 min 09 s" in text
    assert "0.5 gradient steps/s" in text
    assert "16 environment steps/s" in text
    quick = est.estimate_text(config, plan, est.Estimate(update=1 / 1012, env_step=0.5), 100)
    assert "(1,012 gradient steps/s;" in quick
