"""Stitching: pairs of cells at most k apart in training, exactly m apart in evaluation."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import spec_of
from eqcrl.envs.stitching import AntStitch
from eqcrl.errors import ConfigError

# Cells of the paper's corridors.
LENGTHS = {"u": 7, "u2": 9, "u3": 11, "u4": 11, "u5": 17}


@functools.partial(jax.jit, static_argnums=0)
def starts(env: AntStitch, keys: jax.Array) -> Any:
    """Positions and goals, one for each key."""
    state, goal = jax.vmap(env.reset)(keys)
    return state.qpos, goal


def pairs(env: AntStitch, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of start and goal in the corridor, and how far starts are from the center of their cell."""
    qpos, goal = (np.asarray(x, float) for x in starts(env, jax.random.split(jax.random.key(1), count)))
    places = {tuple(cell): i for i, cell in enumerate((env.corridor() * env.cell_size).tolist())}
    centers = env.cell_size * np.round(qpos[:, :2] / env.cell_size)
    found = [(places[tuple(s)], places[tuple(g)]) for s, g in zip(centers.tolist(), goal.tolist(), strict=True)]
    return np.array(found), np.abs(qpos[:, :2] - centers).max(axis=1)


@pytest.mark.parametrize("layout", LENGTHS)
def test_the_corridor_leads_from_r_to_the_cell_furthest_from_it(layout: str) -> None:
    env = build_env(Part(f"ant-{layout}-maze-stitch"))
    cells = env.corridor()
    assert len(cells) == LENGTHS[layout]
    np.testing.assert_array_equal(cells[0], env.maze().cells("R")[0])
    np.testing.assert_array_equal(np.abs(np.diff(cells, axis=0)).sum(axis=1), 1)
    sizes = spec_of(env)
    assert (sizes.observation_size, sizes.action_size, sizes.goal_size, env.episode_length) == (29, 8, 2, 1000)


def test_training_pairs_lie_forward_with_every_distance_equally_likely() -> None:
    env = AntStitch(layout="u", max_distance=3)
    found, off_center = pairs(env, 12_000)
    np.testing.assert_array_equal(off_center, 0.0)
    ahead = found[:, 1] - found[:, 0]
    distances, counts = np.unique(ahead, return_counts=True)
    np.testing.assert_array_equal(distances, [1, 2, 3])
    assert chisquare(counts).pvalue > 1e-4
    for k in distances:
        first, counts = np.unique(found[ahead == k, 0], return_counts=True)
        np.testing.assert_array_equal(first, np.arange(7 - k))
        assert chisquare(counts).pvalue > 1e-4


def test_evaluation_is_from_r_to_the_far_end_or_exactly_as_far_as_asked() -> None:
    found, off_center = pairs(AntStitch(layout="u5", max_distance=4).evaluation(), 200)
    assert np.all(found == [0, 16])
    assert 0.0 < off_center.max() <= 0.1 + 1e-5, "with the noise of the other mazes"
    env = AntStitch(layout="u5", eval_distance=6, episode_length=50, success_radius=0.3)
    assert np.all(pairs(env.evaluation(), 200)[0] == [0, 6])
    assert (env.evaluation().episode_length, env.evaluation().success_radius) == (50, 0.3)
    assert env.evaluation().evaluation() == env.evaluation()


def test_a_range_of_distances_from_r_can_be_evaluated() -> None:
    """As the paper does in the u maze, at five and six cells."""
    found, _ = pairs(AntStitch(layout="u", start="fixed", min_distance=5, max_distance=6), 200)
    assert set(map(tuple, found.tolist())) == {(0, 5), (0, 6)}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"layout": "big"}, "layout big is not one corridor that begins at R"),
        ({"layout": "#####/#.RG#/#####"}, "not one corridor that begins at R"),
        ({"layout": "####/#RG#/#..#/####"}, "not one corridor"),
        ({"max_distance": 7}, "max_distance = 7 is longer than the corridor of the layout u.*\n.*at most 6"),
        ({"eval_distance": 7}, "eval_distance = 7 is longer"),
        ({"min_distance": 3, "max_distance": 2}, "min_distance = 3 is greater than max_distance = 2"),
        ({"max_distance": 0}, "max_distance"),
        ({"start": "anywhere"}, "start"),
    ],
)
def test_what_is_no_corridor_or_no_distance_is_said(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build_env(Part("ant-stitch", settings))
