"""Imitation in hindsight: the likelihood by hand, the laws of the goals, exploring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from transitions import SPEC, make_batch

from eqcrl.agents.gcbc import GCBC
from eqcrl.agents.gcsl import GCSL
from eqcrl.assemble import assemble
from eqcrl.nn.resnet import ResNet
from eqcrl.relabel import Geometric, Uniform
from helpers import tiny_agent


def test_the_loss_is_the_negative_likelihood_of_the_actions() -> None:
    """log pi(a) = sum_i log N(artanh a_i; mean_i, std_i) - log(1 - a_i^2)."""
    agent, batch = GCSL(ResNet(4, 8)), make_batch(12)
    actor = agent.init(SPEC, key=jax.random.key(0)).actor
    mean, log_std = (np.asarray(x, float) for x in actor(batch.observation, batch.goal))
    action = np.asarray(batch.action, float)
    density = norm.logpdf(np.arctanh(action), mean, np.exp(log_std)) - np.log(1 - action**2)
    loss, _ = agent.loss(actor, batch)
    assert float(loss) == pytest.approx(-density.sum(axis=1).mean(), rel=1e-4)


def test_saturated_actions_leave_everything_finite() -> None:
    agent = GCBC(ResNet(4, 8))
    state = agent.init(SPEC, key=jax.random.key(0))
    batch = make_batch(12)
    batch = type(batch)(batch.observation, jnp.sign(batch.action), batch.goal)
    after, metrics = jax.jit(lambda state, batch: agent.update(state, batch, key=jax.random.key(0)))(state, batch)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((after, metrics)))


@pytest.mark.parametrize(("agent", "law"), [("gcsl", Uniform()), ("gcbc", Geometric(0.9))])
def test_whose_goals_they_imitate(agent: str, law: object) -> None:
    """GCSL prescribes its law; GCBC takes the configured one."""
    system = assemble(tiny_agent(agent, relabeller__gamma=0.9))
    assert system.algorithm.relabeller == law
