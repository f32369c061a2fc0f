"""Looks into trained networks: against the networks called by hand, at a run that was really trained."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from eqcrl.analysis import (
    Embeddings,
    ValueMap,
    block_updates,
    principal_components,
    trajectory_embeddings,
    updates,
    value_map,
)
from eqcrl.envs.base import AbstractEnv, spec_of
from eqcrl.envs.mazes import find_maze
from eqcrl.envs.point import PointMaze
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.errors import UsageError
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.run import Run, fit
from helpers import keeping_compiled, tiny

BLOCKS = 3


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same looks are taken again and again: their programs are compiled once."""
    with keeping_compiled(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three blocks in every network."""
    return fit(tiny(arch="resnet-12"), tmp_path_factory.mktemp("analysis") / "run")


@pytest.fixture(scope="module")
def agent(run: Run) -> Any:
    return run.system.algorithm.agent


def with_parts(run: Run, env: AbstractEnv, **parts: Any) -> Run:
    """A run that never was: in another environment, with the networks of the real one, or other parts and so fresh
    networks."""
    algorithm: Any = run.system.algorithm
    agent = replace(algorithm.agent, **parts)
    other = replace(algorithm, env=BatchedEnv(env, 8, True), agent=agent)
    made = Run(run.directory, run.config, replace(run.system, algorithm=other, eval_env=env))
    made.__dict__["agent_state"] = (
        jax.jit(lambda key: agent.init(spec_of(env), key=key))(jax.random.key(1)) if parts else run.agent_state
    )
    return made


# --- the critic over the plane


@pytest.fixture(scope="module")
def found_map(run: Run) -> ValueMap:
    return value_map(run, resolution=21)


def test_values_are_those_of_the_critic(run: Run, agent: Any, found_map: ValueMap) -> None:
    state = run.agent_state
    physics, goal = run.system.eval_env.reset(jax.random.key(0))
    np.testing.assert_allclose(found_map.goal, goal)
    np.testing.assert_allclose(found_map.start, physics.position)
    velocity = np.asarray(run.system.eval_env.observation(physics))[2:]
    free = np.argwhere(np.isfinite(found_map.values))
    positions = np.stack([found_map.first[free[:, 0]], found_map.second[free[:, 1]]], axis=-1)
    observation = jnp.asarray(np.concatenate([positions, np.tile(velocity, (len(free), 1))], axis=-1), jnp.float32)

    @jax.jit
    def critic(state: Any) -> Array:
        goals = jnp.tile(goal, (len(observation), 1))
        action = agent.act_deterministic(state, observation, goals)
        return agent.energy(state.critic.phi(observation, action), state.critic.psi(goals))

    np.testing.assert_allclose(found_map.values[tuple(free.T)], critic(state), rtol=1e-4, atol=1e-5)
    assert np.nanstd(found_map.values) > 1e-3


def test_there_are_values_where_the_layout_is_free(found_map: ValueMap) -> None:
    """The u maze, 5 x 5 cells of 2 m from -1 m on; 21 positions a side, none on the edge of a cell."""
    walls = find_maze("u").walls()
    assert found_map.values.shape == (21, 21)
    np.testing.assert_allclose(found_map.first, -1 + (np.arange(21) + 0.5) * 10 / 21)
    for (i, j), value in np.ndenumerate(found_map.values):
        cell = round(found_map.first[i] / 2), round(found_map.second[j] / 2)
        assert np.isnan(value) == walls[cell], (i, j)


def test_another_goal_and_another_seed(run: Run, agent: Any, found_map: ValueMap) -> None:
    goal = np.array([2.0, 6.0], np.float32)
    other = value_map(run, goal=goal, resolution=21, seed=1)
    np.testing.assert_array_equal(other.goal, goal)
    assert np.nanmax(np.abs(other.values - found_map.values)) > 1e-3
    assert not np.array_equal(other.start, found_map.start)
    with pytest.raises(UsageError, match="goal has 3 numbers, and those of this task 2"):
        value_map(run, goal=np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="1 positions"):
        value_map(run, resolution=1)


def test_a_wide_plane_has_square_cells(run: Run) -> None:
    found = value_map(with_parts(run, PointMaze(layout="#######/#R...G#/#######")), resolution=14)
    assert found.values.shape == (6, 14)


class Blind(AbstractEnv):
    """A position that is not observed."""

    inner: AbstractEnv
    action_size: int = eqx.field(default=2, static=True)
    episode_length: int = eqx.field(default=5, static=True)
    success_radius: float = eqx.field(default=0.5, static=True)

    def reset(self, key: Array) -> Any:
        return self.inner.reset(key)

    def step(self, state: Any, action: Array, key: Array) -> Any:
        return self.inner.step(state, action, key)

    def terminated(self, state: Any) -> Any:
        return self.inner.terminated(state)

    def observation(self, state: Any) -> Any:
        return jnp.concatenate([state.velocity, jnp.ones(3)])

    def achieved_goal(self, state: Any) -> Any:
        return self.inner.achieved_goal(state)

    def goal_distance(self, achieved_goal: Any, desired_goal: Any) -> Any:
        return self.inner.goal_distance(achieved_goal, desired_goal)

    def goal_reachable(self, state: Any, desired_goal: Any) -> Any:
        return self.inner.goal_reachable(state, desired_goal)

    def evaluation(self) -> Any:
        return self

    def top_view(self) -> Any:
        return self.inner.top_view()


def test_tasks_without_such_a_plane_are_refused(run: Run, plank: Any) -> None:
    with pytest.raises(UsageError, match="no top view"):
        value_map(with_parts(run, plank()))
    with pytest.raises(UsageError, match="does not hold coordinate 0 of the goal"):
        value_map(with_parts(run, Blind(run.system.eval_env)))


# --- phi along trajectories


@pytest.fixture(scope="module")
def found_points(run: Run) -> Embeddings:
    return trajectory_embeddings(run, episodes=4, seed=3)


def test_points_are_projections_of_phi(run: Run, agent: Any, found_points: Embeddings) -> None:
    env = run.system.eval_env
    scores, ran = run.evaluate(episodes=4, seed=3, record=env.observation)
    assert ran.record is not None
    observation = jnp.asarray(ran.record)
    goal = jnp.broadcast_to(ran.desired_goal, (len(observation), *ran.desired_goal.shape))
    flat = observation.reshape(-1, 4), goal.reshape(-1, 2)
    phi = np.asarray(run.agent_state.critic.phi(flat[0], agent.act_deterministic(run.agent_state, *flat)), float)
    assert found_points.points.shape == (31, 4, 2)
    points = found_points.points.reshape(-1, 2)
    # Two directions of phi explain the points exactly, and no two others have more variance.
    centered = phi - phi.mean(axis=0)
    residual = points - centered @ np.linalg.lstsq(centered, points, rcond=None)[0]
    assert np.abs(residual).max() < 1e-4
    variances = np.sort(np.linalg.eigvalsh(np.cov(centered.T)))[::-1]
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:2], rtol=1e-4)
    np.testing.assert_allclose(found_points.explained, variances[:2] / variances.sum(), rtol=1e-4)
    assert found_points.success.mean() == pytest.approx(scores["eval/success_any"])
    # psi lies in the same plane: the energy l2 compares it with phi.
    center, components, _ = principal_components(phi)
    psi = np.asarray(run.agent_state.critic.psi(ran.desired_goal), float)
    np.testing.assert_allclose(found_points.goals, (psi - center) @ components.T, atol=1e-4)


def test_principal_components_by_hand() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)) * [3.0, 1.0] @ np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0]]) + [1.0, 2.0, 3.0]
    center, components, shares = principal_components(rows)
    np.testing.assert_allclose(center, rows.mean(axis=0))
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-12)
    assert abs(components[0] @ [0.6, -0.8, 0.0]) > 0.99
    assert components[0].max() == np.abs(components[0]).max()  # its sign is a rule, not chance
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > 0.8
    # One dimension has one direction, and equal rows have none.
    _, components, shares = principal_components(rows[:, :1])
    np.testing.assert_allclose(components, [[1.0], [0.0]])
    np.testing.assert_allclose(shares, [1.0, 0.0])
    assert not principal_components(np.ones((4, 3)))[2].any()


# --- what blocks add


@jax.jit
def by_hand(trunk: Any, x: Array) -> Array:
    """Block by block through a resnet."""
    before, norms = trunk.first(x), []
    for i in range(trunk.blocks.count):
        after = jax.tree.map(lambda leaf, i=i: leaf[i], trunk.blocks.blocks)(before)
        norms.append(jnp.mean(jnp.linalg.norm(after - before, axis=-1)))
        before = after
    return jnp.stack(norms)


def test_block_updates_are_those_of_the_networks(run: Run, agent: Any) -> None:
    found = block_updates(run, rows=10_000, episodes=4, seed=3)
    assert found.rows == 4 * 31  # all there are
    _, ran = run.evaluate(episodes=4, seed=3, record=run.system.eval_env.observation)
    assert ran.record is not None
    observation = jnp.asarray(ran.record).reshape(-1, 4)
    goal = jnp.tile(ran.desired_goal, (31, 1))
    state = run.agent_state
    action = agent.act_deterministic(state, observation, goal)
    expected = {
        "actor": by_hand(state.actor.trunk, jnp.concatenate([observation, goal], axis=-1)),
        "phi": by_hand(state.critic.state_action.trunk, jnp.concatenate([observation, action], axis=-1)),
        "psi": by_hand(state.critic.goal.trunk, goal),
    }
    assert found.networks.keys() == expected.keys()
    for name, norms in expected.items():
        assert len(norms) == BLOCKS
        np.testing.assert_allclose(found.networks[name], norms, rtol=1e-4)


def test_fewer_rows_are_spread_over_the_episodes(run: Run) -> None:
    found = block_updates(run, rows=7, episodes=4)
    assert found.rows == 7
    for look, wrong in ((block_updates, {"rows": 0}), (trajectory_embeddings, {"episodes": 0})):
        with pytest.raises(UsageError, match="at least one"):
            look(run, **wrong)


def test_episodes_that_end_and_networks_without_blocks(run: Run, plank: Any) -> None:
    """A walker that falls, with an actor of one layer."""
    fallen = with_parts(run, plank(center=0.9, episode_length=10), actor_arch=MLP(1, 8))
    _, ran = fallen.evaluate(episodes=12, record=fallen.system.eval_env.observation)
    lengths = np.asarray(ran.alive).sum(axis=0)
    assert len(set(lengths.tolist())) > 1
    # Nothing is drawn after the end of an episode, and no block is measured there.
    found = trajectory_embeddings(fallen, episodes=12)
    np.testing.assert_array_equal(np.isfinite(found.points).all(axis=-1).sum(axis=0), lengths + 1)
    blocks = block_updates(fallen, rows=1000, episodes=12)
    assert blocks.rows == lengths.sum() + 12
    assert list(blocks.networks) == ["phi", "psi"]


def test_updates_through_several_stacks_and_calls() -> None:
    """Of two stacks in one network, the first called twice: averages over its calls."""
    first, second = (ResNet(8, 6).build(6, key=jax.random.key(i)) for i in range(2))
    x, y = jax.random.normal(jax.random.key(2), (2, 5, 6))
    called = jax.jit(lambda nets: updates(nets, lambda nets: nets[1](nets[0](x)) + nets[0](y)))((first, second))
    twice, once = (np.asarray(table) for table in called)
    np.testing.assert_array_equal(twice[:, 1], [2, 2])
    np.testing.assert_array_equal(once[:, 1], [1, 1])
    np.testing.assert_allclose(twice[:, 0], np.add(by_hand(first, x), by_hand(first, y)), rtol=1e-4)
    np.testing.assert_allclose(once[:, 0], by_hand(second, first(x)), rtol=1e-4)


def test_a_deep_network_needs_the_memory_of_one_forward_pass() -> None:
    """Beside the stream that leaves each block, and a copy of it, nothing is kept: no backward pass is left. With one,
    depth 128 would keep the outputs of four matrix products for each block as well."""

    def temporaries(depth: int) -> int:
        shapes = jax.eval_shape(lambda: ResNet(depth, 16).build(5, key=jax.random.key(0)))
        x = jnp.zeros((128, 5))
        program = jax.jit(lambda net: updates(net, lambda net: net(x))).lower(shapes).compile()
        analysis: Any = program.memory_analysis()
        return analysis.temp_size_in_bytes

    stream = 128 * 16 * 4
    assert (temporaries(128) - temporaries(64)) / (16 * stream) < 2.5


def test_learned_skips_are_measured_by_their_streams() -> None:
    trunk = ResNet(12, 6, block="learned-skip").build(5, key=jax.random.key(0))
    mixing = eqx.tree_at(lambda t: t.blocks.blocks.share, trunk, jnp.full(3, 0.5))
    x = jax.random.normal(jax.random.key(1), (4, 5))
    (found,) = jax.jit(lambda net: updates(net, lambda net: net(x)))(mixing)
    streams = np.asarray(mixing.blocks.streams(mixing.first(x)), float)
    expected = np.linalg.norm(np.diff(streams, axis=0), axis=-1).mean(axis=-1)
    np.testing.assert_allclose(np.asarray(found)[:, 0], expected, rtol=1e-4)


# --- other agents


class Other(AbstractArch):
    """Stands where an agent should."""

    width: int = eqx.field(default=6, static=True)

    def build(self, input_size: int, *, key: Array) -> Any:
        raise NotImplementedError

    def saved_floats_per_row(self) -> int:
        return 0


@pytest.mark.parametrize("look", [value_map, trajectory_embeddings, block_updates])
def test_an_agent_of_another_class_is_refused(run: Run, look: Any, tmp_path: Path) -> None:
    system: Any = eqx.tree_at(lambda s: s.algorithm.agent, run.system, Other())
    with pytest.raises(UsageError, match=r"class Other.*\n.*--agent crl"):
        look(Run(run.directory, run.config, system))
