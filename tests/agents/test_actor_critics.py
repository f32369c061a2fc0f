"""SAC and TD3: one update against the same steps written out one after another."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transitions import ENV, SPEC, make_batch

from eqcrl.agents.crl import alpha_loss
from eqcrl.agents.sac import SAC
from eqcrl.agents.sparse import outcome_of
from eqcrl.agents.td3 import TD3
from eqcrl.nn.actor import sample
from eqcrl.nn.resnet import ResNet

ARCH = ResNet(4, 8)
GAMMA, TAU = 0.9, 0.1


def q(critics: Any, k: int, *inputs: jax.Array) -> jax.Array:
    """Value k alone, from its own slice of the parameters."""
    network = jax.tree.map(lambda leaf: leaf[k], critics.networks)
    return network(jnp.concatenate(inputs, axis=-1))[:, 0]


def smaller(critics: Any, *inputs: jax.Array) -> jax.Array:
    return jnp.minimum(q(critics, 0, *inputs), q(critics, 1, *inputs))


def adam(rate: float, grad: Any, params: Any) -> Any:
    """The first step of Adam."""
    updates, _ = optax.adam(rate).update(grad, optax.adam(rate).init(params))
    return optax.apply_updates(params, updates)


def mixed(values: jax.Array, targets: jax.Array) -> jax.Array:
    return (1 - TAU) * targets + TAU * values


def assert_close(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), ours, theirs)


def reward_of(outcome: Any, goal: jax.Array) -> jax.Array:
    distance = jnp.linalg.norm(outcome.next_achieved_goal - goal, axis=-1)
    return jnp.where(distance < ENV.success_radius, 0.0, -1.0)


def critic_step(critics: Any, batch: Any, goal: jax.Array, target: jax.Array, rate: float) -> Any:
    known = np.flatnonzero(np.asarray(outcome_of(batch).known))

    def loss(critics: Any) -> jax.Array:
        errors = [q(critics, k, batch.observation, batch.action, goal) - target for k in (0, 1)]
        return sum(jnp.mean(error[known] ** 2) for error in errors)

    return adam(rate, jax.jit(jax.grad(loss))(critics), critics)


@pytest.mark.parametrize("relabelled", [pytest.param(0.0, marks=pytest.mark.thorough), 0.8])
def test_a_step_of_sac_written_out(relabelled: float) -> None:
    rates = {"actor_rate": 1e-3, "critic_rate": 2e-3, "alpha_rate": 3e-3}
    agent = SAC(ENV, ARCH, ARCH, relabelled=relabelled, reward="-1/0", gamma=GAMMA, tau=TAU, **rates)
    state, batch, key = agent.init(SPEC, key=jax.random.key(0)), make_batch(20), jax.random.key(5)
    other = agent.init(SPEC, key=jax.random.key(9))
    state = eqx.tree_at(lambda s: (s.targets, s.log_alpha), state, (other.critics, jnp.array(-0.5)))
    after, metrics = jax.jit(lambda state, batch: agent.update(state, batch, key=key))(state, batch)

    outcome, alpha = outcome_of(batch), jnp.exp(-0.5)
    goal = jnp.concatenate([batch.goal[: int(20 * relabelled)], outcome.desired_goal[int(20 * relabelled) :]])
    next_key, actor_key = jax.random.split(key)
    action, log_prob = sample(*state.actor(outcome.next_observation, goal), key=next_key)
    soft = smaller(state.targets, outcome.next_observation, action, goal) - alpha * log_prob
    target = reward_of(outcome, goal) + GAMMA * jnp.where(outcome.terminated, -1 / (1 - GAMMA), soft)
    critics = critic_step(state.critics, batch, goal, target, 2e-3)
    assert_close(after.critics, critics)

    def actor_loss(actor: Any) -> jax.Array:
        action, log_prob = sample(*actor(batch.observation, goal), key=actor_key)
        return jnp.mean(alpha * log_prob - smaller(critics, batch.observation, action, goal))

    assert_close(after.actor, adam(1e-3, jax.jit(jax.grad(actor_loss))(state.actor), state.actor))
    _, log_prob = sample(*state.actor(batch.observation, goal), key=actor_key)
    assert_close(after.log_alpha, adam(3e-3, jax.grad(alpha_loss)(state.log_alpha, log_prob, -1.0), state.log_alpha))
    assert_close(after.targets, jax.tree.map(mixed, critics, state.targets))
    assert float(metrics["reached"]) == pytest.approx(float(jnp.mean(reward_of(outcome, goal) == 0.0)))


def test_two_steps_of_td3_written_out() -> None:
    """The first moves the critics alone, the second everything."""
    rates = {"actor_rate": 1e-3, "critic_rate": 2e-3}
    agent = TD3(ENV, ARCH, ARCH, relabelled=0.8, reward="-1/0", gamma=GAMMA, tau=TAU, saturation_penalty=0.3, **rates)
    state, batch, key = agent.init(SPEC, key=jax.random.key(0)), make_batch(20), jax.random.key(5)
    other = agent.init(SPEC, key=jax.random.key(9)).policy
    state = eqx.tree_at(
        lambda s: (s.policy.target_actor, s.policy.target_critics), state, (other.actor, other.target_critics)
    )
    update = jax.jit(lambda state, batch: agent.update(state, batch, key=key))
    first, _ = update(state, batch)
    outcome = outcome_of(batch)
    goal = jnp.concatenate([batch.goal[:16], outcome.desired_goal[16:]])
    noise = jnp.clip(0.2 * jax.random.normal(key, (20, 2)), -0.5, 0.5)
    action = jnp.clip(other.actor(outcome.next_observation, goal) + noise, -1, 1)
    value = smaller(other.target_critics, outcome.next_observation, action, goal)
    target = reward_of(outcome, goal) + GAMMA * jnp.where(outcome.terminated, -1 / (1 - GAMMA), value)
    target = jnp.clip(target, -1 / (1 - GAMMA), 0.0)
    assert_close(first.critics, critic_step(state.critics, batch, goal, target, 2e-3))
    jax.tree.map(np.testing.assert_array_equal, first.policy, state.policy)

    second, metrics = update(first, batch)

    def actor_loss(actor: Any) -> jax.Array:
        action = actor(batch.observation, goal)
        saturation = jnp.mean(jnp.arctanh(action) ** 2)
        return 0.3 * saturation - jnp.mean(q(second.critics, 0, batch.observation, action, goal))

    assert_close(second.policy.actor, adam(1e-3, jax.jit(jax.grad(actor_loss))(state.policy.actor), state.policy.actor))
    assert_close(second.policy.target_actor, jax.tree.map(mixed, second.policy.actor, other.actor))
    assert_close(second.policy.target_critics, jax.tree.map(mixed, second.critics, other.target_critics))
    assert float(metrics["actor_loss"]) == pytest.approx(float(actor_loss(state.policy.actor)), rel=1e-4)
    assert int(second.steps) == 2


def test_noise_explores_and_is_not_evaluated() -> None:
    agent = TD3(ENV, ARCH, ARCH, exploration_noise=0.3, random_actions=0.0)
    state = agent.init(SPEC, key=jax.random.key(0))
    observation, goal = jnp.ones((4000, 4)), jnp.ones((4000, 2))
    plain = agent.act_deterministic(state, observation, goal)
    noisy = agent.act(state, observation, goal, key=jax.random.key(1))
    assert float(jnp.std(noisy - plain)) == pytest.approx(0.3, rel=0.1)
    assert float(jnp.abs(noisy).max()) <= 1.0
