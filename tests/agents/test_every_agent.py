"""What every built-in agent keeps: shapes, finite numbers, nothing shared between buffers, any architecture."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl import epoch as ep
from eqcrl import registry
from eqcrl.agents.base import chunk_of
from eqcrl.assemble import System, assemble
from eqcrl.envs.base import spec_of
from helpers import tiny_agent

AGENTS = sorted(entry.name for entry in registry.entries("agent") if entry.distribution == "eqcrl")
ROWS = 8


@functools.cache
def trained(name: str) -> tuple[System, ep.TrainState, ep.TrainState, dict[str, Any]]:
    """The state before and after a short epoch, with depth 8."""
    system = assemble(tiny_agent(name, arch="resnet-8"))
    algorithm = system.algorithm

    def run(key: jax.Array) -> Any:
        first = ep.collect(algorithm, ep.collect(algorithm, ep.init(algorithm, key=key)))
        return first, *ep.epoch(algorithm, first)

    return system, *jax.jit(run)(jax.random.key(0))


def test_the_agents_of_the_paper_are_there() -> None:
    assert set(AGENTS) >= {"crl", "sac", "td3", "sac-her", "td3-her", "gcsl", "gcbc", "crl-chunk", "crl-observer"}


@pytest.mark.parametrize("name", AGENTS)
def test_an_epoch_changes_the_networks_and_stays_finite(name: str) -> None:
    _, before, after, metrics = trained(name)
    for state in (before, after):
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.agent))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.agent, after.agent)
    assert np.mean(jax.tree.leaves(moved)) > 0.7
    assert int(after.unrolls) == 3


@pytest.mark.parametrize("name", AGENTS)
def test_actions_lie_in_their_range_and_the_mode_needs_no_key(name: str) -> None:
    system, _, after, _ = trained(name)
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    observation, goal = jnp.ones((ROWS, spec.observation_size)), jnp.zeros((ROWS, spec.goal_size))
    sampled = agent.act(after.agent, observation, goal, key=jax.random.key(3))
    assert sampled.shape == (ROWS, spec.action_size * chunk_of(agent))
    assert float(jnp.abs(sampled).max()) <= 1.0
    assert not jnp.array_equal(sampled[0], sampled[1]), "every row explores by itself"
    mode = agent.act_deterministic(after.agent, observation, goal)
    np.testing.assert_array_equal(mode[0], mode[1])


@pytest.mark.parametrize("name", AGENTS)
def test_no_buffer_stands_in_the_state_twice(name: str) -> None:
    """A state is donated to the next epoch; a buffer that stood in it twice would be given away twice."""
    system = trained(name)[0]
    spec = spec_of(system.algorithm.env.env)
    state = system.algorithm.agent.init(spec, key=jax.random.key(0))
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if eqx.is_array(leaf) and leaf.size > 1]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("name", AGENTS)
def test_sizes_for_the_plan_come_from_shapes_alone(name: str) -> None:
    system, _, after, _ = trained(name)
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    shapes = jax.eval_shape(lambda: agent.init(spec, key=jax.random.key(0)))
    counts = agent.parameter_counts(shapes)
    assert counts == agent.parameter_counts(after.agent)
    assert all(count > 0 for count in counts.values())
    assert agent.working_floats(spec, 2 * ROWS) > agent.working_floats(spec, ROWS) > sum(counts.values()) // 2
