"""Stitching with the point mass: pairs of cells at most k apart in training, exactly m apart in evaluation."""

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.point import RADIUS
from eqcrl.envs.point_stitching import PointStitch
from eqcrl.errors import ConfigError


def places(env: PointStitch, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of start and goal along the corridor, and the greatest distance of a start from the center of its cell."""
    state, goal = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(1), count))
    number = {tuple(cell): i for i, cell in enumerate(np.asarray(env.corridor()).tolist())}
    cells = [np.round(np.asarray(x, float) / env.cell_size).astype(int) for x in (state.position, goal)]
    found = np.array([[number[tuple(cell)] for cell in one.tolist()] for one in cells]).T
    np.testing.assert_array_equal(state.velocity, 0.0)
    assert bool(jax.vmap(env.goal_reachable)(state, goal).all())
    return found, np.abs(np.asarray(state.position) - cells[0] * env.cell_size).max(axis=1)


def test_training_pairs_lie_forward_with_every_distance_equally_likely() -> None:
    found, off_center = places(PointStitch(layout="u", max_distance=3), 12_000)
    ahead = found[:, 1] - found[:, 0]
    distances, counts = np.unique(ahead, return_counts=True)
    np.testing.assert_array_equal(distances, [1, 2, 3])
    assert chisquare(counts).pvalue > 1e-4
    for k in distances:
        first, counts = np.unique(found[ahead == k, 0], return_counts=True)
        np.testing.assert_array_equal(first, np.arange(7 - k))
        assert chisquare(counts).pvalue > 1e-4
    assert 0.75 < off_center.max() <= 1.0 - RADIUS + 1e-5


@pytest.mark.parametrize(("distance", "cells"), [(0, 6), (4, 4), (6, 6)])
def test_evaluation_goes_from_the_start_exactly_so_far(distance: int, cells: int) -> None:
    env = PointStitch(layout="u", eval_distance=distance, episode_length=77, cell_size=1.5).evaluation()
    assert (env.episode_length, env.cell_size) == (77, 1.5)
    found, off_center = places(env, 500)
    np.testing.assert_array_equal(found, [[0, cells]] * 500)
    assert off_center.max() <= 0.1 + 1e-5
    assert env.evaluation() == env


def test_it_moves_as_in_the_maze_of_the_same_layout() -> None:
    stitch, maze = PointStitch(layout="u"), build_env(Part("point-u-maze"))
    state, _ = stitch.reset(jax.random.key(3))
    action, key = np.array([0.7, -1.0], np.float32), jax.random.key(0)
    one, other = state, state
    for _ in range(5):
        one, other = jax.jit(stitch.step)(one, action, key), jax.jit(maze.step)(other, action, key)
    np.testing.assert_array_equal(stitch.observation(one), maze.observation(other))
    assert not bool(stitch.terminated(one))


@pytest.mark.parametrize("maze", ["", "u-maze-", "u4-maze-", "u5-maze-"])
def test_registered_names_are_corridors(maze: str) -> None:
    env = build_env(Part(f"point-{maze}stitch"))
    assert isinstance(env, PointStitch)
    assert env.max_distance == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layout": "big"}, "not one corridor"),
        ({"layout": "u", "max_distance": 7}, "longer than the corridor"),
        ({"layout": "u", "min_distance": 3, "max_distance": 2}, "greater than"),
    ],
)
def test_impossible_distances_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_env(Part("point-stitch", settings))
