"""Environment steps per second, summed over all copies."""

import equinox as eqx
import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines import stepwise
from benchmarks.paired import compare
from eqcrl.agents.base import AbstractAgent
from eqcrl.epoch import Algorithm
from eqcrl.rollout import rollout

LENGTH = 100


def policy(kind: str, algorithm: Algorithm) -> tuple[AbstractAgent, object]:
    """An agent and its state: the depth-4 network, or random actions."""
    if kind == "depth-4 policy":
        return algorithm.agent, cases.agent_state(algorithm)
    return cases.RandomPolicy(algorithm.env.env.action_size), ()


@pytest.mark.parametrize("kind", ["depth-4 policy", "no policy"])
@pytest.mark.parametrize("env", ["point-u-maze", "point-big-maze", "point-hardest-maze"])
def test_rollout(benchmark: BenchmarkFixture, env: str, kind: str) -> None:
    """256 copies for 100 steps in one scan against a Python loop around one compiled step."""
    benchmark.group = "environment"
    algorithm = cases.algorithm(4, env=env)
    agent, agent_state = policy(kind, algorithm)
    state = jax.jit(algorithm.env.reset)(jax.random.key(0))
    key = jax.random.key(1)
    scanned = eqx.filter_jit(
        lambda agent_state, state, key: rollout(algorithm.env, agent, agent_state, state, LENGTH, key=key)
    )
    step = stepwise.compiled_step(algorithm.env, agent)

    def ours():
        return jax.block_until_ready(scanned(agent_state, state, key))

    def baseline():
        return jax.block_until_ready(stepwise.rollout(step, agent_state, state, LENGTH, key=key))

    # Walls make the dynamics discontinuous, so only the first steps are compared number by number.
    for a, b in zip(jax.tree.leaves(ours()[1]), jax.tree.leaves(baseline()[1]), strict=True):
        np.testing.assert_allclose(a[:10], b[:10], rtol=1e-4, atol=1e-4)
    compare(
        benchmark,
        f"{env}, {kind}",
        ours,
        baseline,
        baseline_name="one call per step",
        rounds=15,
        amount=LENGTH * algorithm.env.num_envs,
        unit="env steps/s",
    )
