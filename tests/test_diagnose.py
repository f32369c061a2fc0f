"""The diagnosis: its numbers against the agent's own losses, gradients and update, on the batch that it looked at."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from eqcrl import epoch as ep
from eqcrl.assemble import System
from eqcrl.diagnose import DIAGNOSE_STREAM, Diagnosis, Network, Profile, diagnose, real_batch
from eqcrl.errors import UsageError
from eqcrl.losses import logsumexp_penalty
from eqcrl.nn.base import AbstractArch, AbstractTrunk
from eqcrl.nn.layers import Dense
from eqcrl.nn.resnet import ResNet
from eqcrl.plots.depth import depth_profile
from eqcrl.trainer import INIT_STREAM, stream
from eqcrl.types import Key
from helpers import tiny_system

SEED, ROWS = 3, 12


class Plain(AbstractTrunk):
    """A third party's trunk, with nothing that eqcrl could look along."""

    layer: Dense

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch width"]:
        return jnp.sin(self.layer(x))


class PlainArch(AbstractArch):
    """Builds `Plain`."""

    width: int = eqx.field(default=6, static=True)

    def build(self, input_size: int, *, key: Key) -> Plain:
        return Plain(Dense(input_size, self.width, key=key))

    def saved_floats_per_row(self) -> int:
        return self.width


def system_with(actor: AbstractArch, critic: AbstractArch) -> System:
    system = tiny_system()
    algorithm: Any = system.algorithm
    agent = replace(algorithm.agent, actor_arch=actor, critic_arch=critic)
    return replace(system, algorithm=replace(algorithm, agent=agent))


@pytest.fixture(scope="module")
def system() -> System:
    return system_with(PlainArch(), ResNet(12, 8))


@pytest.fixture(scope="module")
def found(system: System) -> Diagnosis:
    return diagnose(system, seed=SEED, rows=ROWS)


@pytest.fixture(scope="module")
def looked_at(system: System) -> tuple[Any, Any, Any]:
    """Agent, its state and the batch."""
    batched = jax.jit(lambda key: real_batch(system, None, ROWS, key=key))
    return system.algorithm.agent, *batched(stream(SEED, INIT_STREAM))


def test_losses_are_the_agents_own(found: Diagnosis, looked_at: tuple[Any, Any, Any]) -> None:
    agent, state, batch = looked_at
    assert found.rows == ROWS == len(batch.observation)
    critic_loss, logits = agent.critic_loss(state.critic, batch)
    penalty = agent.logsumexp_penalty * float(logsumexp_penalty(logits))
    expected = {"critic_loss": critic_loss, "contrastive_loss": agent.loss(logits), "penalty": penalty, "alpha": 1.0}
    key = stream(SEED, DIAGNOSE_STREAM)
    expected["actor_loss"], log_prob = agent.actor_loss(state.actor, state.critic, state.log_alpha, batch, key=key)
    expected |= {"entropy": -jnp.mean(log_prob), "chance": 1 / ROWS, "logits_pos": jnp.mean(jnp.diagonal(logits))}
    for name, value in expected.items():
        assert found.numbers[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    assert found.numbers["critic_loss"] == pytest.approx(found.numbers["contrastive_loss"] + penalty, rel=1e-5)


def test_outputs_and_what_one_update_moves(found: Diagnosis, looked_at: tuple[Any, Any, Any]) -> None:
    agent, state, batch = looked_at
    after, _ = jax.jit(agent.update)(state, batch, key=stream(SEED, DIAGNOSE_STREAM))
    goal = agent.actor_goals(batch.goal)
    outputs = {
        "actor": lambda s: s.actor(batch.observation, goal)[0],
        "phi": lambda s: s.critic.phi(batch.observation, batch.action),
        "psi": lambda s: s.critic.psi(batch.goal),
    }
    for name, of in outputs.items():
        old, new = np.asarray(of(state), float), np.asarray(of(after), float)
        network = found.networks[name]
        assert network.output == pytest.approx(np.sqrt((old**2).mean()), rel=1e-4)
        assert network.varying == pytest.approx(np.sqrt(((old - old.mean(axis=0)) ** 2).mean()), rel=1e-4)
        assert network.moved == pytest.approx(np.sqrt(((new - old) ** 2).mean()), rel=1e-2)
    mean = np.asarray(outputs["actor"](state), float)
    assert found.numbers["before_tanh"] == pytest.approx(np.abs(mean).mean(), rel=1e-4)


def test_gradients_reach_every_block(found: Diagnosis, looked_at: tuple[Any, Any, Any]) -> None:
    agent, state, batch = looked_at
    gradient = jax.jit(jax.grad(lambda c: agent.critic_loss(c, batch)[0]))(state.critic)
    for name, of in {"phi": gradient.state_action, "psi": gradient.goal}.items():
        profile = found.networks[name].profile
        assert profile is not None
        norms = np.sqrt(sum((np.asarray(g).reshape(3, -1) ** 2).sum(1) for g in jax.tree.leaves(of.trunk.blocks)))
        np.testing.assert_allclose(profile.gradient, norms, rtol=1e-3)
        whole = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(of)))
        assert found.networks[name].gradient == pytest.approx(whole, rel=1e-3)


def test_the_last_stream_is_what_the_trunk_returns(found: Diagnosis, looked_at: tuple[Any, Any, Any]) -> None:
    _, state, batch = looked_at
    features = np.asarray(state.critic.goal.trunk(batch.goal), float)
    profile = found.networks["psi"].profile
    assert profile is not None
    assert profile.stream[-1] == pytest.approx(np.sqrt((features**2).mean()), rel=1e-4)
    spread = features - features.mean(axis=0)
    assert profile.varying[-1] == pytest.approx(np.sqrt((spread**2).mean()), rel=1e-4)


def test_without_stacks_there_are_numbers_of_the_whole_network(found: Diagnosis) -> None:
    actor = found.networks["actor"]
    assert actor.profile is None
    assert actor.parameters == sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(_actor(), eqx.is_array)))
    assert actor.gradient > 0
    assert actor.moved > 0


def _actor() -> Any:
    shapes = jax.eval_shape(lambda: PlainArch().build(6, key=jax.random.key(0)))
    heads = [jax.eval_shape(lambda: Dense(6, 2, key=jax.random.key(0)))] * 2
    return jax.tree.map(lambda s: np.zeros(s.shape), (shapes, heads))


@pytest.mark.thorough
def test_fresh_networks_are_those_that_training_begins_with(system: System, found: Diagnosis) -> None:
    """Given the agent that training with this seed begins with, and another alpha, all else is what it was."""
    first = jax.jit(lambda key: ep.init(system.algorithm, key=key))(stream(SEED, INIT_STREAM)).agent
    given = diagnose(system, seed=SEED, rows=ROWS, agent_state=eqx.tree_at(lambda s: s.log_alpha, first, jnp.ones(())))
    assert given.numbers["alpha"] == pytest.approx(np.e)
    same = found.numbers.keys() - {"alpha", "actor_loss"}
    assert {k: given.numbers[k] for k in same} == pytest.approx({k: found.numbers[k] for k in same}, rel=1e-5)
    assert given.networks["psi"].moved == pytest.approx(found.networks["psi"].moved, rel=1e-4)
    # The actor loss is alpha log pi - value.
    rise = (np.e - 1.0) * -found.numbers["entropy"]
    assert given.numbers["actor_loss"] - found.numbers["actor_loss"] == pytest.approx(rise, rel=1e-3)


def test_an_agent_of_another_class_is_refused() -> None:
    system = tiny_system()
    other: Any = eqx.tree_at(lambda s: s.algorithm.agent, system, PlainArch())
    with pytest.raises(UsageError, match=r"PlainArch.*\n.*--agent crl"):
        diagnose(other)


def healthy(**changes: float) -> Diagnosis:
    """A diagnosis with nothing to remark, but for the changes."""
    numbers = {"saturated": 0.0, "penalty": 0.1, "contrastive_loss": 4.0} | changes
    blocks = np.ones(4)
    profile = Profile(blocks, blocks * changes.get("varying", 0.5), blocks, blocks)
    network = Network(10, 1.0, 0.5, changes.get("moved", 0.1), 1.0, profile)
    return Diagnosis(64, numbers, {"actor": network})


def test_remarks_name_what_stands_in_the_way() -> None:
    assert healthy().remarks() == []
    (saturated,) = healthy(saturated=0.96).remarks()
    assert saturated.startswith("96% of the actions are saturated")
    (moved,) = healthy(moved=59.0).remarks()
    assert "moves the policy's mean by 59" in moved
    (penalty,) = healthy(penalty=9994.0).remarks()
    assert "penalty" in penalty
    (constant,) = healthy(varying=0.034).remarks()
    assert constant == "Of the features of actor, 3.4% depend on the input."


def test_the_figure_shows_every_block_of_every_network(tmp_path: Any) -> None:
    ramp = np.linspace(1.0, 5.0, 7)
    profiles = {"actor": Profile(ramp, 2 * ramp, 3 * ramp, 4 * ramp), "psi": Profile(*np.ones((4, 2)))}
    figure = depth_profile(profiles, tmp_path / "depth.png", title="a title")
    assert isinstance(figure, Figure)
    assert (tmp_path / "depth.png").stat().st_size > 10_000
    for factor, axes in enumerate(figure.axes, start=1):
        assert axes.get_yscale() == "log"
        actor, psi = axes.get_lines()
        np.testing.assert_array_equal(actor.get_xdata(), np.arange(1, 8))
        np.testing.assert_array_equal(actor.get_ydata(), factor * ramp)
        assert len(psi.get_xdata()) == 2
    with pytest.raises(UsageError, match="nothing to draw along the depth"):
        depth_profile({}, tmp_path / "none.png")
