"""Collector and learner: who acts, who is evaluated, who learns what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transitions import make_batch

from eqcrl.agents.observer import Observer
from eqcrl.assemble import assemble
from eqcrl.envs.base import spec_of
from eqcrl.errors import ConfigError
from helpers import tiny_agent


def test_the_collector_acts_the_learner_is_evaluated_and_both_learn_as_crl_does() -> None:
    system = assemble(tiny_agent("crl-observer", agent__collector_depth=8))
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    assert isinstance(agent, Observer)
    state, batch, key = agent.init(spec, key=jax.random.key(0)), make_batch(8), jax.random.key(1)
    assert agent.collector().actor_arch.depth == 8
    assert agent.learner().actor_arch.depth == 4
    seen = batch.observation, batch.goal
    np.testing.assert_array_equal(
        agent.act(state, *seen, key=key), agent.collector().act(state.collector, *seen, key=key)
    )
    np.testing.assert_array_equal(
        agent.act_deterministic(state, *seen), agent.learner().act_deterministic(state.learner, *seen)
    )
    after, metrics = agent.update(state, batch, key=key)
    collector_key, learner_key = jax.random.split(key)
    alone, of_learner = agent.learner().update(state.learner, batch, key=learner_key)
    jax.tree.map(np.testing.assert_array_equal, after.learner, alone)
    other, of_collector = agent.collector().update(state.collector, batch, key=collector_key)
    jax.tree.map(np.testing.assert_array_equal, after.collector, other)
    assert metrics["critic_loss"] == of_learner["critic_loss"]
    assert metrics["collector_critic_loss"] == of_collector["critic_loss"]
    assert not jnp.array_equal(metrics["critic_loss"], metrics["collector_critic_loss"])


def test_a_collector_of_an_impossible_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth 6"):
        assemble(tiny_agent("crl-observer", agent__collector_depth=6))
