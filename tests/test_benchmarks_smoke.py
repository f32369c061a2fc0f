"""The baselines of the benchmarks compute what eqcrl computes; otherwise their ratios would mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

# benchmarks/ is not installed
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import cases, table
from benchmarks.baselines import rolling, stepwise, windowed
from benchmarks.baselines.unrolled import unroll
from benchmarks.records import Case
from benchmarks.test_gradient_step import assert_same_step

from eqcrl.relabel import Geometric, geometric_offset
from eqcrl.replay import empty, insert, sample
from eqcrl.rollout import rollout
from eqcrl.types import EnvSpec, Transition

ROOT = Path(__file__).parents[1]
SPEC = EnvSpec(3, 2, 2)


@pytest.mark.thorough
def test_unrolled_update_equals_scanned():
    algorithm = cases.algorithm(8, width=16, batch_size=8)
    batch, state = cases.batch(algorithm), cases.agent_state(algorithm)
    unrolled = cases.Updates(cases.plain(algorithm).agent, unroll(state), batch)
    scanned = cases.Updates(algorithm.agent, state, batch)
    scanned()
    unrolled()
    assert_same_step(scanned, unrolled)


def test_unrolled_refuses_other_blocks():
    with pytest.raises(TypeError, match="dense-norm-swish"):
        unroll(cases.agent_state(cases.algorithm(8, arch="mlp", batch_size=8)))


def test_the_check_sees_a_different_network():
    algorithm = cases.algorithm(4, width=16, batch_size=8)
    batch, state = cases.batch(algorithm), cases.agent_state(algorithm)
    other = unroll(state)
    other = eqx.tree_at(lambda s: s.actor.trunk.blocks.blocks[0][3].weight, other, replace_fn=lambda w: w * 1.01)
    unrolled = cases.Updates(algorithm.agent, other, batch)
    scanned = cases.Updates(algorithm.agent, state, batch)
    scanned()
    unrolled()
    with pytest.raises(AssertionError):
        assert_same_step(scanned, unrolled)


def test_window_matrix_is_the_truncated_geometric_law():
    """Row i of the matrix against the share of evenly spaced uniforms that the inverse CDF sends to each offset."""
    episode = jnp.array([0, 0, 0, 0, 1, 1, 1, 2])
    matrix = windowed.probabilities(episode, 0.9)
    uniform = (jnp.arange(100_000) + 0.5) / 100_000
    for row, horizon in enumerate([4, 3, 2, 1, 3, 2, 1, 1]):
        offset = geometric_offset(uniform, jnp.full(uniform.shape, horizon), 0.9)
        share = np.bincount(np.asarray(offset), minlength=horizon + 1)[1:] / len(uniform)
        np.testing.assert_allclose(matrix[row, row : row + horizon], share, atol=2e-5)
        np.testing.assert_allclose(matrix[row].sum(), 1.0, rtol=1e-6)


@pytest.mark.thorough
def test_windowed_sampling_has_the_law_of_ours_where_the_window_is_the_buffer():
    """One environment, one window of its whole history: both draw (t, future) from the same joint law."""
    capacity, gamma, draws = 12, 0.8, 60_000
    time = jnp.arange(capacity)[:, None]
    episodes = jnp.repeat(jnp.array([0, 1, 2]), jnp.array([5, 4, 3]), total_repeat_length=capacity)[:, None]
    marked = time[..., None].astype(float)
    steps = Transition(
        jnp.broadcast_to(marked, (capacity, 1, 3)),
        jnp.zeros((capacity, 1, 2)),
        jnp.broadcast_to(marked, (capacity, 1, 2)),
        episodes,
        jnp.zeros((capacity, 1, 2)),
        jnp.zeros((capacity, 1), bool),
    )
    replay = insert(empty(SPEC, capacity, 1), steps)
    ours = sample(replay, Geometric(gamma), draws, key=jax.random.key(0))
    theirs = windowed.sample(replay, draws // capacity, capacity, gamma, key=jax.random.key(1))
    law = windowed.probabilities(episodes[:, 0], gamma) / capacity
    for batch in (ours, theirs):
        cell = batch.observation[:, 0].astype(int) * capacity + batch.goal[:, 0].astype(int)
        share = np.bincount(np.asarray(cell), minlength=capacity**2).reshape(capacity, capacity) / draws
        assert np.all(share[np.asarray(law) == 0] == 0)
        np.testing.assert_array_less(np.abs(share - law), 5 * np.sqrt(law / draws) + 1e-9)


def test_rolling_buffer_holds_what_the_ring_holds():
    ring = empty(SPEC, 10, 3)
    rolled = ring.data
    for number in range(7):
        new = cases.steps(SPEC, 4, 3, episode_length=6, start=4 * number)
        ring, rolled = insert(ring, new), rolling.insert(rolled, new)
    in_order = jax.tree.map(lambda leaf: jnp.roll(leaf, -ring.inserted, axis=0), ring.data)
    assert eqx.tree_equal(in_order, rolled)


def test_stepwise_rollout_equals_scanned():
    algorithm = cases.algorithm(4, width=8, batch_size=8, train__num_envs=4)
    agent = cases.RandomPolicy(2)
    state = algorithm.env.reset(jax.random.key(0))
    key = jax.random.key(1)
    after, steps = jax.jit(lambda s, k: rollout(algorithm.env, agent, (), s, 12, key=k))(state, key)
    step = stepwise.compiled_step(algorithm.env, agent)
    after_too, steps_too = stepwise.rollout(step, (), state, 12, key=key)
    for ours, theirs in zip(jax.tree.leaves((after, steps)), jax.tree.leaves((after_too, steps_too)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_table_shows_ratio_and_says_what_is_extrapolated():
    case = Case(
        ours=0.5,
        baseline=2.0,
        ratio=4.0,
        cpu_ratio=3.5,
        baseline_name="unrolled",
        unit="steps/s",
        baseline_kind="extrapolated from 64, 256",
        least_ratio=1.25,
    )
    assert table.ratio_rows({"step": case, "memory of something": Case()}) == [
        ("step", "2 steps/s", "0.5 steps/s", "4.00", "3.50", "1.25", "unrolled (extrapolated from 64, 256)")
    ]
    unknown = Case(ours=0.0005, baseline_name="unrolled", baseline_kind="not measured", unit="steps/s")
    assert table.ratio_rows({"step": unknown}) == [
        ("step", "2,000 steps/s", "-", "-", "-", "-", "unrolled (not measured)")
    ]


def test_table_shows_rates_of_the_median_and_of_the_best_round_beside_the_bar():
    info = {
        "ours": 0.5,
        "best": 0.25,
        "baseline": 4.0,
        "baseline_best": 2.0,
        "ours_cpu": 0.8,
        "ratio": 8.0,
        "cpu_ratio": 7.5,
        "baseline_name": "MJX, all pairs",
        "amount": 2560,
        "unit": "env steps/s",
        "baseline_kind": "measured",
    }
    cases = {"ant-big-maze, mjx": Case(**info, bar=9000), "maze / floor": Case(**info, ratio_bar=0.5), "other": Case()}
    assert table.physics_rows(cases) == [
        ("ant-big-maze, mjx", "5,120 (10,240)", "9,000", "3,200", "640 (1,280)", "8.00", "7.50", "MJX, all pairs"),
        ("maze / floor", "5,120 (10,240)", "ratio 0.50", "3,200", "640 (1,280)", "8.00", "7.50", "MJX, all pairs"),
    ]
    assert table.ratio_rows(cases) == []


def test_device_driver_records_a_failing_part_and_goes_on(tmp_path):
    """A budget that lets no part start: every part is recorded with its error, and the exit status says so."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--budget", "0", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--part", "device", "--part", "environment"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "failed: device, environment" in done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert [result["part"] for result in results] == ["device", "environment"]
    assert all(result["error"]["output"] == "no time was left" for result in results)
