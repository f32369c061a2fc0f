"""Contrastive RL: losses against float64 NumPy, one update against the same steps written out by hand."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eqcrl.actor_goals import AbstractActorGoals, Future, Mixed, Random
from eqcrl.agents.crl import CRL, CRLState, alpha_loss, logit_metrics
from eqcrl.energies import L1, L2, AbstractEnergy, Cosine, Dot, L2Squared
from eqcrl.losses import AbstractLoss, BinaryNCE, InfoNCE, InfoNCEBackward, InfoNCESymmetric
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.types import Batch, EnvSpec

SPEC = EnvSpec(5, 2, 3)
PAPER_ARCH = ResNet(4, 8)
METRICS = {
    "critic_loss",
    "actor_loss",
    "entropy",
    "alpha",
    "categorical_accuracy",
    "logits_pos",
    "logits_neg",
}


def make_agent(
    arch: AbstractArch = PAPER_ARCH,
    energy: AbstractEnergy | None = None,
    loss: AbstractLoss | None = None,
    actor_goals: AbstractActorGoals | None = None,
) -> CRL:
    return CRL(
        arch,
        arch,
        energy or L2(),
        loss or InfoNCE(),
        actor_goals or Future(),
        representation_size=6,
        actor_rate=1e-3,
        critic_rate=2e-3,
        alpha_rate=3e-3,
    )


def make_batch(rows: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    observation, action, goal = (rng.normal(size=(rows, n)).astype(np.float32) for n in (5, 2, 3))
    return Batch(jnp.asarray(observation), jnp.tanh(action), jnp.asarray(goal))


@eqx.filter_jit
def update(agent: CRL, state: CRLState, batch: Batch, key: jax.Array) -> tuple[CRLState, dict[str, jax.Array]]:
    return agent.update(state, batch, key=key)


def all_finite(tree: Any) -> bool:
    return all(bool(np.all(np.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


def inner(one: Any, other: Any) -> float:
    return sum(float(np.sum(a * b)) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.fixture
def encode(numpy_resnet: Callable[[Any, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """(float64 encoder, inputs to concatenate) -> representation, in NumPy."""

    def run(encoder: Any, *inputs: np.ndarray) -> np.ndarray:
        joined = np.concatenate([np.asarray(x, np.float64) for x in inputs], axis=-1)
        return numpy_resnet(encoder.trunk, joined) @ encoder.head.weight + encoder.head.bias

    return run


def test_critic_loss_and_its_gradient_match_numpy(
    encode: Callable[..., np.ndarray], float64: Callable[[Any], Any], slope: Callable[..., float]
) -> None:
    """mean_i(-l_ii + logsumexp_j l_ij) + 0.1 mean_i (logsumexp_j(l_ij + 1e-6))^2, l_ij = -|phi_i - psi_j|."""
    agent, batch = make_agent(), make_batch(6)
    critic = agent.init(SPEC, key=jax.random.key(0)).critic

    def reference(net: Any) -> float:
        phi, psi = encode(net.state_action, batch.observation, batch.action), encode(net.goal, batch.goal)
        logits = -np.sqrt(((phi[:, None] - psi[None]) ** 2).sum(-1))
        total = np.log(np.exp(logits).sum(1))
        shifted = np.log(np.exp(logits + 1e-6).sum(1))
        return float(np.mean(total - np.diag(logits)) + 0.1 * np.mean(shifted**2))

    (value, logits), gradient = jax.jit(jax.value_and_grad(agent.critic_loss, has_aux=True))(critic, batch)
    net = float64(critic)
    assert logits.shape == (6, 6)
    assert float(value) == pytest.approx(reference(net), rel=2e-6)
    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), net)
        assert inner(gradient, direction) == pytest.approx(slope(reference, net, direction), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("actor_goals", [Future(), Random()], ids=repr)
def test_actor_loss_and_its_gradient_match_numpy(
    actor_goals: AbstractActorGoals,
    encode: Callable[..., np.ndarray],
    float64: Callable[[Any], Any],
    slope: Callable[..., float],
    numpy_resnet: Callable[[Any, np.ndarray], np.ndarray],
) -> None:
    """mean(alpha log pi(a|s, g) + |phi(s, a) - psi(g)|) with the noise that the key draws."""
    agent, batch, key = make_agent(actor_goals=actor_goals), make_batch(6), jax.random.key(7)
    state = agent.init(SPEC, key=jax.random.key(0))
    log_alpha = jnp.array(-0.7)
    noise = np.asarray(jax.random.normal(key, (6, 2)), float)
    critic = float64(state.critic)
    observation, goal = np.asarray(batch.observation, float), np.asarray(batch.goal, float)
    if isinstance(actor_goals, Random):
        goal = np.concatenate([goal[1:], goal[:1]])

    def log_prob(net: Any) -> tuple[np.ndarray, np.ndarray]:
        features = numpy_resnet(net.trunk, np.concatenate([observation, goal], axis=1))
        x = features @ net.log_std_head.weight + net.log_std_head.bias
        log_std = -5 + 3.5 * (np.tanh(x) + 1)
        before_tanh = features @ net.mean_head.weight + net.mean_head.bias + np.exp(log_std) * noise
        action = np.tanh(before_tanh)
        density = -(noise**2) / 2 - np.log(2 * np.pi) / 2 - log_std + 2 * np.log(np.cosh(before_tanh))
        return action, density.sum(-1)

    def reference(net: Any) -> float:
        action, density = log_prob(net)
        distance = np.linalg.norm(encode(critic.state_action, observation, action) - encode(critic.goal, goal), axis=1)
        return float(np.mean(np.exp(-0.7) * density + distance))

    (value, actual_log_prob), gradient = jax.jit(jax.value_and_grad(agent.actor_loss, has_aux=True))(
        state.actor, state.critic, log_alpha, batch, key=key
    )
    net = float64(state.actor)
    assert float(value) == pytest.approx(reference(net), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(actual_log_prob, log_prob(net)[1], rtol=1e-4, atol=1e-4)
    rng = np.random.default_rng(2)
    for _ in range(4):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), net)
        assert inner(gradient, direction) == pytest.approx(slope(reference, net, direction), rel=1e-3, abs=1e-3)


def test_alpha_loss_matches_numpy_and_pushes_the_entropy_to_its_target() -> None:
    log_prob, target = np.array([0.5, -1.5, 2.0]), -1.0
    value, gradient = jax.value_and_grad(alpha_loss)(jnp.array(0.3), jnp.asarray(log_prob, jnp.float32), target)
    expected = np.exp(0.3) * np.mean(-log_prob - target)
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert float(gradient) == pytest.approx(expected, rel=1e-6)  # d exp(x) c / dx = exp(x) c
    # Entropy 2, target -1: too random, so descent lowers alpha. Entropy -2: too certain, it rises.
    assert float(jax.grad(alpha_loss)(jnp.array(0.0), jnp.full(3, -2.0), target)) > 0
    assert float(jax.grad(alpha_loss)(jnp.array(0.0), jnp.full(3, 2.0), target)) < 0


def by_hand(agent: CRL, state: CRLState, batch: Batch, key: jax.Array) -> tuple[Any, Any, jax.Array]:
    """One step in the order of the paper, with its formulas and plain optax: the old critic teaches the actor."""

    def pi(actor: Any) -> tuple[jax.Array, jax.Array]:
        mean, log_std = actor(batch.observation, batch.goal)
        noise = jax.random.normal(key, mean.shape)
        before_tanh = mean + jnp.exp(log_std) * noise
        density = -(noise**2) / 2 - jnp.log(2 * jnp.pi) / 2 - log_std - jnp.log(1 - jnp.tanh(before_tanh) ** 2)
        return jnp.tanh(before_tanh), jnp.sum(density, axis=-1)

    def actor_loss(actor: Any) -> jax.Array:
        action, log_prob = pi(actor)
        distance = jnp.linalg.norm(state.critic.phi(batch.observation, action) - state.critic.psi(batch.goal), axis=-1)
        return jnp.mean(jnp.exp(state.log_alpha) * log_prob + distance)

    def critic_loss(critic: Any) -> jax.Array:
        phi, psi = critic.phi(batch.observation, batch.action), critic.psi(batch.goal)
        logits = -jnp.linalg.norm(phi[:, None] - psi[None], axis=-1)
        infonce = -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits, axis=1)))
        return infonce + 0.1 * jnp.mean(jax.nn.logsumexp(logits + 1e-6, axis=1) ** 2)

    def adam(rate: float, gradient: Any, optimizer: Any, params: Any) -> Any:
        return optax.apply_updates(params, optax.adam(rate).update(gradient, optimizer)[0])

    entropy_gap = jnp.mean(-pi(state.actor)[1] - (-0.5 * 2))
    return (
        adam(1e-3, jax.grad(actor_loss)(state.actor), state.actor_optimizer, state.actor),
        adam(2e-3, jax.grad(critic_loss)(state.critic), state.critic_optimizer, state.critic),
        adam(3e-3, jnp.exp(state.log_alpha) * entropy_gap, state.alpha_optimizer, state.log_alpha),
    )


def test_update_equals_the_steps_by_hand() -> None:
    agent, batch = make_agent(), make_batch(8)
    state, _ = update(agent, agent.init(SPEC, key=jax.random.key(0)), make_batch(8, seed=9), jax.random.key(9))
    after, _ = update(agent, state, batch, jax.random.key(1))
    expected = jax.jit(lambda s, b, k: by_hand(agent, s, b, k))(state, batch, jax.random.key(1))
    for actual, wanted, before in zip(
        (after.actor, after.critic, after.log_alpha),
        expected,
        (state.actor, state.critic, state.log_alpha),
        strict=True,
    ):
        moved = jax.tree.map(lambda a, b: a - b, wanted, before)
        gap = jax.tree.map(lambda a, b: a - b, actual, wanted)
        assert inner(moved, moved) > 0
        # Of the second Adam step, so that moments count; the first is the sign of the gradient, nearly.
        assert inner(gap, gap) ** 0.5 < 2e-3 * inner(moved, moved) ** 0.5


def test_the_actor_steps_against_the_critic_of_before() -> None:
    """A critic that learns fast or not at all leaves the actor's step the same, to the bit."""
    slow = make_agent()
    fast = eqx.tree_at(lambda a: a.critic_rate, slow, 0.5)
    state, batch = slow.init(SPEC, key=jax.random.key(0)), make_batch(8)
    one, other = (update(agent, state, batch, jax.random.key(1))[0] for agent in (slow, fast))
    for a, b in zip(jax.tree.leaves(one.actor), jax.tree.leaves(other.actor), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(one.critic.state_action.head.weight, other.critic.state_action.head.weight)


def test_metrics_say_what_happened_before_the_step() -> None:
    agent, batch, key = make_agent(), make_batch(8), jax.random.key(1)
    state = agent.init(SPEC, key=jax.random.key(0))
    after, metrics = update(agent, state, batch, key)
    assert set(metrics) == METRICS
    assert all(value.shape == () for value in metrics.values())
    critic_loss, logits = agent.critic_loss(state.critic, batch)
    actor_loss, log_prob = agent.actor_loss(state.actor, state.critic, state.log_alpha, batch, key=key)
    assert float(metrics["critic_loss"]) == pytest.approx(float(critic_loss), rel=1e-5)
    assert float(metrics["actor_loss"]) == pytest.approx(float(actor_loss), rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(-float(log_prob.mean()), rel=1e-4)
    assert float(metrics["alpha"]) == pytest.approx(np.exp(float(after.log_alpha)))
    wanted = np.asarray(logits, float)
    off_diagonal = wanted[~np.eye(8, dtype=bool)]
    assert float(metrics["logits_pos"]) == pytest.approx(np.diag(wanted).mean(), rel=1e-5)
    assert float(metrics["logits_neg"]) == pytest.approx(off_diagonal.mean(), rel=1e-5)
    assert float(metrics["categorical_accuracy"]) == np.mean(wanted.argmax(1) == np.arange(8))


def test_logit_metrics_of_a_single_pair_have_no_negative() -> None:
    metrics = logit_metrics(jnp.array([[-3.0]]))
    assert {k: float(v) for k, v in metrics.items()} == {
        "categorical_accuracy": 1.0,
        "logits_pos": -3.0,
        "logits_neg": 0.0,
    }


def test_alpha_starts_at_one_and_networks_at_keys_of_their_own() -> None:
    agent = make_agent()
    state, again, other = (agent.init(SPEC, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert float(state.log_alpha) == 0.0
    assert eqx.tree_equal(state, again)
    assert not np.any(state.actor.mean_head.weight == other.actor.mean_head.weight)
    assert not np.any(state.actor.mean_head.weight == state.actor.log_std_head.weight)
    counts = agent.parameter_counts(state)
    assert sum(counts.values()) == sum(x.size for x in jax.tree.leaves((state.actor, state.critic)))
    assert agent.parameter_counts(jax.eval_shape(lambda: agent.init(SPEC, key=jax.random.key(0)))) == counts


def test_actions_lie_within_bounds_and_the_deterministic_one_is_the_mode() -> None:
    agent, batch = make_agent(), make_batch(16)
    state = agent.init(SPEC, key=jax.random.key(0))
    one, again, other = (agent.act(state, batch.observation, batch.goal, key=jax.random.key(s)) for s in (0, 0, 1))
    assert one.shape == (16, 2)
    assert float(jnp.abs(one).max()) <= 1.0
    np.testing.assert_array_equal(one, again)
    assert not np.any(one == other)
    mean, _ = state.actor(batch.observation, batch.goal)
    mode = agent.act_deterministic(state, batch.observation, batch.goal)
    np.testing.assert_allclose(mode, np.tanh(np.asarray(mean, float)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("energy", "loss"),
    [
        (L2(), InfoNCE()),
        (L2Squared(), InfoNCEBackward()),
        (L1(), InfoNCESymmetric()),
        (Dot(), BinaryNCE()),
        (Cosine(), InfoNCE()),
    ],
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize("rows", [1, 5])
def test_every_energy_and_loss_trains_also_on_a_batch_of_one(
    energy: AbstractEnergy, loss: AbstractLoss, rows: int
) -> None:
    agent = make_agent(MLP(1, 8), energy, loss, Mixed(0.5))  # small, for ten programs are compiled
    state = agent.init(SPEC, key=jax.random.key(0))
    after, metrics = update(agent, state, make_batch(rows), jax.random.key(1))
    assert all_finite((after, metrics))
    moved = jax.tree.map(lambda a, b: a - b, after.actor, state.actor)
    assert inner(moved, moved) > 0


def with_equal_rows(batch: Batch) -> Batch:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), batch)


@pytest.mark.parametrize("trouble", ["equal-rows", "zero-embeddings", "saturated-up", "saturated-down"])
def test_update_stays_finite_where_formulas_break(trouble: str) -> None:
    agent, batch = make_agent(), make_batch(8)
    state = agent.init(SPEC, key=jax.random.key(0))
    if trouble == "equal-rows":
        batch = with_equal_rows(batch)
    elif trouble == "zero-embeddings":  # phi = psi = 0 for every input: all distances are exactly 0
        silent = jax.tree.map(jnp.zeros_like, (state.critic.state_action.head, state.critic.goal.head))
        state = eqx.tree_at(lambda s: (s.critic.state_action.head, s.critic.goal.head), state, silent)
    else:
        sign = 1.0 if trouble == "saturated-up" else -1.0
        state = eqx.tree_at(lambda s: s.actor.mean_head.bias, state, jnp.full(2, sign * 1e4))
    for seed in range(2):
        state, metrics = update(agent, state, batch, jax.random.key(seed))
        assert all_finite((state, metrics))


def test_update_at_depth_1024_in_fp32_is_finite() -> None:
    agent = make_agent(ResNet(1024, 8))
    state = jax.jit(lambda key: agent.init(SPEC, key=key))(jax.random.key(0))
    for seed in range(3):
        state, metrics = update(agent, state, make_batch(4, seed), jax.random.key(seed))
        assert all_finite((state, metrics))
