"""Evaluation: the score against brute force, and episodes that end before their time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqcrl.actor_goals import Future
from eqcrl.agents.crl import CRL, CRLState
from eqcrl.energies import L2
from eqcrl.envs.base import spec_of
from eqcrl.evaluate import Episodes, run_episodes, score
from eqcrl.losses import InfoNCE
from eqcrl.nn.mlp import MLP

AGENT = CRL(MLP(1, 8), MLP(1, 8), L2(), InfoNCE(), Future(), representation_size=4)
SCORE = jax.jit(score)
RUN = eqx.filter_jit(run_episodes)


def brute_force(episodes: Episodes) -> dict[str, float]:
    """The measures by a loop over episodes and steps."""
    at_goal, alive, distance = (np.asarray(x) for x in (episodes.at_goal, episodes.alive, episodes.distance))
    measures: dict[str, list[float]] = {
        k: [] for k in ("time_at_goal", "success_any", "success_end", "distance_end", "episode_length")
    }
    for i in range(alive.shape[1]):
        taken = [t for t in range(alive.shape[0]) if alive[t, i]]
        last = taken[-1] if taken else 0
        hits = [t for t in taken if at_goal[t, i]]
        measures["time_at_goal"].append(len(hits))
        measures["success_any"].append(bool(hits))
        measures["success_end"].append(last in hits)
        measures["distance_end"].append(distance[last, i])
        measures["episode_length"].append(len(taken))
    return {name: float(np.mean(np.asarray(values, float))) for name, values in measures.items()}


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 0.9]))
def test_score_matches_brute_force(seed: int, share: float) -> None:
    """Episodes of every length, those included that end before their first step."""
    rng = np.random.default_rng(seed)
    time, number = 7, 5
    length = rng.integers(0, time + 1, size=number)
    alive = np.arange(time)[:, None] < length
    at_goal = (rng.random((time, number)) < share) & alive
    distance = rng.random((time, number)).astype(np.float32)
    episodes = Episodes(
        jnp.zeros((time + 1, number, 2)),
        jnp.zeros((number, 2)),
        jnp.asarray(at_goal),
        jnp.asarray(alive),
        jnp.asarray(distance),
    )
    actual = {name: float(value) for name, value in SCORE(episodes).items()}
    assert actual == pytest.approx(brute_force(episodes), rel=1e-5)
    np.testing.assert_array_equal(episodes.success(), at_goal.any(0))


def walker(env: Any, push: float) -> CRLState:
    """A policy whose mean before the tanh is `push` everywhere."""
    state = AGENT.init(spec_of(env), key=jax.random.key(0))
    heads = (jnp.zeros((8, 1)), jnp.full(1, push))
    return eqx.tree_at(lambda s: (s.actor.mean_head.weight, s.actor.mean_head.bias), state, heads)


@pytest.mark.parametrize("push", [20.0, -20.0, 0.2])
def test_episodes_match_a_walk_by_hand_and_freeze_where_they_end(plank: type, push: float) -> None:
    """x goes up by tanh(push) / 4 a step; beyond 1 it has fallen, which the last step still counts."""
    env = plank()
    episodes = RUN(env, AGENT, walker(env, push), 16, key=jax.random.key(1))
    goal = np.asarray(episodes.desired_goal, float)[:, 0]
    x = np.asarray(episodes.achieved_goal[0], float)[:, 0]
    fallen = np.abs(x) >= 1
    for t in range(env.episode_length):
        taken = ~fallen
        x = np.where(taken, x + np.tanh(push) / 4, x)
        np.testing.assert_array_equal(episodes.alive[t], taken)
        np.testing.assert_allclose(episodes.achieved_goal[t + 1, :, 0], x, atol=1e-5)
        np.testing.assert_allclose(episodes.distance[t], np.abs(x - goal), atol=1e-5)
        np.testing.assert_array_equal(episodes.at_goal[t], (np.abs(x - goal) < 0.2) & taken)
        fallen |= np.abs(x) >= 1
    assert np.all(fallen) == (abs(push) > 1)
    assert {k: float(v) for k, v in score(episodes).items()} == pytest.approx(brute_force(episodes), rel=1e-5)


def test_an_episode_that_has_fallen_at_its_goal_no_longer_counts_time_there(plank: type) -> None:
    """Every step within the radius, but only until the fall: the goal is as wide as the plank."""
    env = plank(success_radius=10.0)
    measures = score(RUN(env, AGENT, walker(env, 20.0), 16, key=jax.random.key(1)))
    assert float(measures["time_at_goal"]) == float(measures["episode_length"]) < env.episode_length
    assert float(measures["success_any"]) == float(measures["success_end"]) == 1.0


def test_a_termination_in_the_start_state_takes_no_step(plank: type) -> None:
    env = plank(center=5.0)
    episodes = RUN(env, AGENT, walker(env, 20.0), 3, key=jax.random.key(1))
    measures = score(episodes)
    assert not np.any(episodes.alive)
    assert np.all(episodes.achieved_goal == episodes.achieved_goal[0])
    assert float(measures["episode_length"]) == float(measures["time_at_goal"]) == 0.0


def test_deterministic_walks_repeat_and_sampled_ones_scatter(plank: type) -> None:
    """Same starts and goals either way; the mode moves by the same step always, a sample by its own."""
    env, key = plank(), jax.random.key(2)
    state = walker(env, 0.1)
    mode, again = (RUN(env, AGENT, state, 8, key=key) for _ in range(2))
    sampled = RUN(env, AGENT, state, 8, key=key, deterministic=False)
    assert eqx.tree_equal(mode, again)
    np.testing.assert_array_equal(sampled.achieved_goal[0], mode.achieved_goal[0])
    np.testing.assert_array_equal(sampled.desired_goal, mode.desired_goal)
    mode_steps, sampled_steps = (np.diff(np.asarray(e.achieved_goal)[..., 0], axis=0)[0] for e in (mode, sampled))
    np.testing.assert_allclose(mode_steps, np.tanh(0.1) / 4, atol=1e-6)
    assert len(np.unique(sampled_steps)) == 8


def test_every_step_of_a_random_world_draws_afresh(plank: type) -> None:
    env = plank(wind=0.05, episode_length=6)
    episodes = RUN(env, AGENT, walker(env, 0.0), 4, key=jax.random.key(3))
    steps = np.diff(np.asarray(episodes.achieved_goal)[..., 0], axis=0)[np.asarray(episodes.alive)]
    assert len(np.unique(steps)) == len(steps)
