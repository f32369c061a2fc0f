"""The epoch: what it advances, that it repeats to the bit, works in place, and does not grow with depth."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.actor_goals import Mixed
from eqcrl.agents.base import AbstractAgent, AgentState
from eqcrl.agents.crl import CRL
from eqcrl.energies import L2
from eqcrl.envs.point import PointMaze
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.epoch import Algorithm, TrainState, collect, epoch, init
from eqcrl.health import leaf_names
from eqcrl.losses import InfoNCE
from eqcrl.nn.resnet import ResNet
from eqcrl.relabel import Geometric
from eqcrl.replay import sample
from eqcrl.types import Batch, EnvSpec, Key, Metrics

ENVS, UNROLL, CAPACITY = 4, 5, 12


def make(depth: int = 4, remat: str = "auto") -> Algorithm:
    arch = ResNet(depth, 8, remat=remat)
    agent = CRL(arch, arch, L2(), InfoNCE(), Mixed(0.5), representation_size=4)
    return Algorithm(
        env=BatchedEnv(PointMaze(episode_length=8), ENVS),
        agent=agent,
        relabeller=Geometric(0.9),
        capacity=CAPACITY,
        unroll_length=UNROLL,
        updates=3,
        batch_size=6,
    )


ALGORITHM = make()
INIT = jax.jit(lambda key: init(ALGORITHM, key=key))
COLLECT = jax.jit(lambda state: collect(ALGORITHM, state))
EPOCH = jax.jit(lambda state: epoch(ALGORITHM, state))


def bits(tree: Any) -> list[np.ndarray]:
    """Every leaf as numbers, keys included."""
    return [
        np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


def same_bits(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(bits(one), bits(other), strict=True))


def test_init_is_empty_and_at_step_zero() -> None:
    state = INIT(jax.random.key(0))
    assert int(state.unrolls) == 0
    assert int(state.replay.inserted) == 0
    assert state.replay.last.shape == (CAPACITY, ENVS)
    assert state.replay.data.observation.shape == (CAPACITY, ENVS, 4)
    assert not np.any(state.env.elapsed)


def test_collect_fills_the_replay_and_learns_nothing() -> None:
    state = INIT(jax.random.key(0))
    after = COLLECT(state)
    assert int(after.unrolls) == 1
    assert int(after.replay.inserted) == UNROLL
    assert same_bits(after.agent, state.agent)
    np.testing.assert_array_equal(after.env.elapsed, np.full(ENVS, UNROLL))
    assert not same_bits(after.key, state.key)


def test_each_epoch_counts_an_unroll_and_grows_the_replay_to_its_capacity() -> None:
    state = INIT(jax.random.key(0))
    for number in range(1, 5):
        before = state
        state, metrics = EPOCH(state)
        assert int(state.unrolls) == number
        assert int(state.replay.inserted) == number * UNROLL
        assert int(state.replay.size()) == min(number * UNROLL, CAPACITY)
        assert not same_bits(state.agent.actor, before.agent.actor)
        assert not same_bits(state.agent.critic, before.agent.critic)
        assert all(np.all(np.isfinite(leaf)) for leaf in bits((state, metrics)))
        assert all(value.shape == () for value in metrics.values())
    # Adam has counted every one of the updates.
    assert int(state.agent.critic_optimizer[0].count) == 4 * 3


def test_an_epoch_is_collect_and_then_updates_whose_metrics_are_averaged() -> None:
    """The same, by a Python loop: every update draws a batch of its own from the replay after the unroll."""

    @jax.jit
    def one_update(agent: Any, replay: Any, key: jax.Array) -> Any:
        sample_key, update_key = jax.random.split(key)
        batch = sample(replay, ALGORITHM.relabeller, ALGORITHM.batch_size, key=sample_key)
        return ALGORITHM.agent.update(agent, batch, key=update_key)

    state = INIT(jax.random.key(0))
    after, metrics = EPOCH(state)
    collected = COLLECT(state)
    agent, steps = collected.agent, []
    for key in jax.random.split(jax.random.split(collected.key)[1], ALGORITHM.updates):
        agent, step = one_update(agent, collected.replay, key)
        steps.append(step)
    for name in ("physics_resets", "first_bad_update", "first_bad_leaf"):
        assert float(metrics.pop(name)) == 0
    for name, value in metrics.items():
        assert float(value) == pytest.approx(np.mean([float(step[name]) for step in steps]), rel=1e-3, abs=1e-4)
    for actual, expected in zip(jax.tree.leaves(after.agent), jax.tree.leaves(agent), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-3)
    np.testing.assert_array_equal(after.replay.data.episode, collected.replay.data.episode)
    np.testing.assert_allclose(after.replay.data.observation, collected.replay.data.observation, atol=1e-5)


def test_the_same_key_gives_the_same_bits_and_another_one_does_not() -> None:
    def two_epochs(seed: int) -> tuple[TrainState, Any]:
        state, _ = EPOCH(INIT(jax.random.key(seed)))
        return EPOCH(state)

    first, again, other = two_epochs(0), two_epochs(0), two_epochs(1)
    assert same_bits(first, again)
    assert not same_bits(first[1], other[1])


def test_epochs_do_not_repeat_their_random_numbers() -> None:
    state, _ = EPOCH(INIT(jax.random.key(0)))
    after, _ = EPOCH(state)
    assert not same_bits(state.key, after.key)
    assert not np.any(after.replay.data.action[:UNROLL] == after.replay.data.action[UNROLL : 2 * UNROLL])


def test_a_donated_state_is_used_up_and_changes_no_bit() -> None:
    donating = jax.jit(lambda state: epoch(ALGORITHM, state), donate_argnums=0)
    kept, _ = EPOCH(INIT(jax.random.key(0)))
    state = INIT(jax.random.key(0))
    used_up, _ = donating(state)
    assert same_bits(used_up, kept)
    arrays = {"replay": state.replay, "agent": state.agent.critic, "optimizer": state.agent.critic_optimizer[0].mu}
    for name, part in arrays.items():
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(part)), name


def program(depth: int, remat: str) -> tuple[int, int]:
    """Equations of the epoch's program at this depth, inner ones included, and the length of its StableHLO text."""
    algorithm = make(depth, remat)
    state = jax.eval_shape(lambda key: init(algorithm, key=key), jax.random.key(0))
    traced = jax.jit(lambda state: epoch(algorithm, state)).trace(state)
    return str(traced.jaxpr).count(" = "), len(traced.lower().as_text())


@pytest.mark.parametrize("remat", ["dots", "block"])
def test_the_program_of_the_epoch_does_not_grow_with_depth(remat: str) -> None:
    equations, length = program(8, remat)
    deep_equations, deep_length = program(1024, remat)
    assert equations > 300
    assert deep_equations == equations
    assert deep_length < 1.02 * length


class Counting(AbstractAgent):
    """Adds 1 to both of its numbers in every step; in the step `at`, from 1 on, one of them, or the loss, goes bad."""

    at: int
    spoils: str

    def init(self, spec: EnvSpec, *, key: Key) -> AgentState:
        return {"first": jnp.zeros(3), "second": jnp.zeros(2), "steps": jnp.zeros((), jnp.int32)}

    def act(self, state: AgentState, observation: Any, goal: Any, *, key: Key) -> Any:
        return self.act_deterministic(state, observation, goal)

    def act_deterministic(self, state: AgentState, observation: Any, goal: Any) -> Any:
        return jnp.zeros((observation.shape[0], 2))

    def update(self, state: AgentState, batch: Batch, *, key: Key) -> tuple[AgentState, Metrics]:
        steps = state["steps"] + 1
        bad = jnp.where(steps == self.at, jnp.nan, 0.0)
        after = {name: state[name] + 1 + (bad if name == self.spoils else 0.0) for name in ("first", "second")}
        # Like a real optimizer it does not count a step that was left out, so the same one would come again.
        loss = steps + (bad if self.spoils == "loss" else 0.0)
        return after | {"steps": steps}, {"loss": loss + jnp.sum(state["second"]) * 0}

    def parameter_counts(self, state: AgentState) -> dict[str, int]:
        return {"numbers": 5}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        return 5


def counted(spoils: str, at: int = 2, skip: bool = False) -> tuple[Any, dict[str, float]]:
    """What three gradient steps of that agent leave, and say."""
    algorithm = dataclasses.replace(ALGORITHM, agent=Counting(at, spoils), skip_bad_updates=skip)
    state, metrics = jax.jit(lambda key: epoch(algorithm, init(algorithm, key=key)))(jax.random.key(0))
    return state.agent, {k: float(v) for k, v in metrics.items()}


def test_a_good_epoch_says_nothing() -> None:
    agent, metrics = counted("nothing")
    assert (metrics["first_bad_update"], metrics["first_bad_leaf"]) == (0, 0)
    assert metrics["loss"] == 2.0
    np.testing.assert_array_equal(agent["first"], 3)


def test_a_bad_loss_is_dated() -> None:
    for at in (1, 2, 3):
        _, metrics = counted("loss", at)
        assert (metrics["first_bad_update"], metrics["first_bad_leaf"]) == (at, 0)
        assert np.isnan(metrics["loss"])


def test_a_bad_network_is_named() -> None:
    agent, metrics = counted("second", 3)
    assert metrics["first_bad_update"] == 0  # the last step: no loss has seen it
    assert leaf_names(agent)[int(metrics["first_bad_leaf"]) - 1] == "['second']"
    _, metrics = counted("second", 1)
    assert metrics["first_bad_update"] == 2
    _, metrics = counted("first", 2)
    assert leaf_names(agent)[int(metrics["first_bad_leaf"]) - 1] == "['first']"


@pytest.mark.parametrize("spoils", ["loss", "first", "second"])
def test_bad_steps_are_left_out_where_asked_for(spoils: str) -> None:
    agent, metrics = counted(spoils, 3, skip=True)
    assert metrics["skipped_updates"] == 1
    assert (metrics["first_bad_update"], metrics["first_bad_leaf"]) == (0, 0)
    assert metrics["loss"] == 1.5  # the mean of those that were taken
    for name, taken in (("first", 2), ("second", 2), ("steps", 2)):
        np.testing.assert_array_equal(agent[name], taken)


def test_an_epoch_of_bad_steps_alone_is_not_passed_over() -> None:
    _, metrics = counted("first", 1, skip=True)
    assert metrics["skipped_updates"] == 3
    assert np.isnan(metrics["loss"])
    assert metrics["first_bad_update"] == 1


def test_leaving_out_changes_nothing_where_nothing_is_bad() -> None:
    skipping = dataclasses.replace(ALGORITHM, skip_bad_updates=True)
    state = INIT(jax.random.key(0))
    plain, careful = EPOCH(state)[0], jax.jit(lambda state: epoch(skipping, state))(state)[0]
    for a, b in zip(bits(plain), bits(careful), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
