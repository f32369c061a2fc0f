"""Groups of runs: what belongs together, what is told apart, and what is never mixed."""

from typing import Any

import pytest

from eqcrl.config import Config
from eqcrl.errors import UsageError
from eqcrl.plots import along, group_runs, panels


def config_of(seed: int, **settings: Any) -> Config:
    return Config.load(overrides={"seed": seed} | {k.replace("__", "."): v for k, v in settings.items()})


# --- groups


def test_runs_that_differ_by_seed_only_are_one_group() -> None:
    runs = [(config_of(seed, arch__depth=depth), seed + depth) for seed in (2, 0, 1) for depth in (64, 8, 256)]
    groups = group_runs(runs)
    assert list(groups) == ["arch.depth=8", "arch.depth=64", "arch.depth=256"]  # as numbers, not as text
    assert groups["arch.depth=64"] == [seed + 64 for seed in (2, 0, 1)]


def test_a_label_has_every_setting_that_differs() -> None:
    groups = group_runs([
        (config_of(0, arch__depth=8, train__batch_size=256), 0),
        (config_of(0, arch__depth=64, train__batch_size=512), 0),
    ])  # fmt: skip
    assert list(groups) == ["arch.depth=8, train.batch_size=256", "arch.depth=64, train.batch_size=512"]


def test_a_label_leaves_out_what_the_name_of_a_part_implies() -> None:
    u, big = ({"env": f"point-{name}-maze", "env.layout": name} for name in ("u", "big"))
    groups = group_runs([(Config.load(overrides=o), 0) for o in (u, big)])
    assert list(groups) == ["env=point-big-maze", "env=point-u-maze"]
    longer = Config.load(overrides=u | {"env.episode_length": 200})
    plain = Config.load(overrides=u | {"env.episode_length": 120})
    assert list(group_runs([(longer, 0), (plain, 0)])) == ["env.episode_length=120", "env.episode_length=200"]


def test_one_group_alone_is_named_by_agent_and_environment() -> None:
    assert list(group_runs([(config_of(0), 0), (config_of(1), 0)])) == ["crl on point-u-maze"]


@pytest.mark.parametrize("grouped", [group_runs, panels, lambda runs: along(runs, ["arch.depth"])])
def test_a_seed_does_not_count_twice_and_nothing_is_no_group(grouped: Any) -> None:
    with pytest.raises(UsageError, match="same configuration and the same seed 3"):
        grouped([(config_of(3), 0), (config_of(3), 1)])
    with pytest.raises(UsageError, match="no runs to compare"):
        grouped([])


# --- panels


def test_environments_are_never_in_one_group() -> None:
    runs = [
        (config_of(seed, env=env, arch__depth=depth), f"{env}, {depth}, {seed}")
        for env in ("point-u-maze", "point-big-maze") for depth in (8, 64) for seed in (0, 1)
    ]  # fmt: skip
    found = panels(runs)
    assert list(found) == ["point-big-maze", "point-u-maze"]
    for env, groups in found.items():
        assert list(groups) == ["arch.depth=8", "arch.depth=64"]
        for depth, members in zip((8, 64), groups.values(), strict=True):
            assert members == [f"{env}, {depth}, {seed}" for seed in (0, 1)]


def test_what_follows_from_the_environment_is_in_no_label() -> None:
    """The paper trains longer in some mazes: that tells environments apart, not the groups in one."""
    runs = [
        (config_of(0, env=env, train__total_env_steps=steps, arch__depth=depth), 0)
        for env, steps in (("point-u-maze", 400_000), ("point-big-maze", 800_000)) for depth in (8, 64)
    ]  # fmt: skip
    assert [list(groups) for groups in panels(runs).values()] == [["arch.depth=8", "arch.depth=64"]] * 2
    one_each = panels(runs[::2])
    assert [list(groups) for groups in one_each.values()] == [["crl"], ["crl"]]


def test_where_a_run_was_evaluated_counts() -> None:
    others = {"b": "point-big-maze", "c": "point-u-maze"}
    found = panels([(config_of(0), "a")] + [(config_of(0, eval_env=env), run) for run, env in others.items()])
    assert found["point-u-maze, evaluated in point-big-maze"] == {"eval_env=point-big-maze": ["b"]}
    assert found["point-u-maze"] == {"crl": ["a"], "eval_env=point-u-maze": ["c"]}


# --- along settings


def test_runs_along_a_setting_keep_their_other_differences() -> None:
    runs = [
        (config_of(seed, arch__depth=depth, train__batch_size=batch), (depth, batch, seed))
        for depth in (64, 8) for batch in (128, 256) for seed in (0, 1)
    ]  # fmt: skip
    found = along(runs, ["arch.depth"])
    assert list(found) == ["point-u-maze"]
    lines = found["point-u-maze"]
    assert list(lines) == ["train.batch_size=128", "train.batch_size=256"]
    assert list(lines["train.batch_size=128"]) == [(8,), (64,)]
    assert lines["train.batch_size=256"][64,] == [(64, 256, 0), (64, 256, 1)]


def test_networks_without_an_architecture_of_their_own_have_that_of_both() -> None:
    runs = [
        (config_of(0, arch__depth=8), "8, 8"),
        (config_of(1, arch__depth=64, critic_arch__depth=16), "64, 16"),
        (config_of(0, arch__depth=64, actor_arch__depth=8, critic_arch__depth=8), "8, 8, the other way"),
    ]
    # The last is the first, written otherwise, with the same seed.
    with pytest.raises(UsageError, match="the same seed 0"):
        along(runs, ["actor_arch.depth", "critic_arch.depth"])
    (groups,) = along(runs[:2], ["actor_arch.depth", "critic_arch.depth"]).values()
    assert groups == {"crl": {(8, 8): ["8, 8"], (64, 16): ["64, 16"]}}


def test_what_is_no_number_is_no_axis() -> None:
    for key in ("arch.dept", "train.fresh_resets", "agent"):
        with pytest.raises(UsageError, match=f"'point-u-maze, resnet-8, seed 0' has no number '{key}'"):
            along([(config_of(0, arch__depth=8), 0)], [key])
    with pytest.raises(UsageError, match=r"Did you mean 'arch.depth'"):
        along([(config_of(0, arch__depth=8), 0)], ["arch.dept"])
