"""The point mass learns short ways and is asked for long ones: stitching on a laptop."""

from functools import partial
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.envs.mazes import Maze, find_maze, self_contained
from eqcrl.envs.point import RADIUS, PointMaze, PointState
from eqcrl.envs.stitching import (
    CorridorLayout,
    CorridorStart,
    EvalDistance,
    MaxDistance,
    MinDistance,
    check_distances,
)
from eqcrl.errors import ConfigError
from eqcrl.settings import Meta
from eqcrl.types import Key


class PointStitch(AbstractEnv):
    """A point mass in a corridor that goes from R to its other end; goals lie a number of cells ahead of the start.

    Body and walls as in PointMaze. With the cells numbered along the corridor: k uniform over
    min_distance..max_distance, then p uniform over all cells that have a k-th one ahead; start and goal uniform over
    the free area of the cells p and p + k, at rest. With start = "fixed", p is R and the start its center +- 0.1 m.
    Evaluation: from R, exactly `eval_distance` cells. Source: Wang et al. 2025 (arXiv 2503.14858), figure 11 (an ant).

    Raises: ConfigError for a layout that is no corridor, or a distance that is not in it.
    """

    layout: CorridorLayout = eqx.field(default="u", static=True, converter=self_contained)
    start: CorridorStart = eqx.field(default="corridor", static=True)
    min_distance: MinDistance = eqx.field(default=1, static=True)
    max_distance: MaxDistance = eqx.field(default=3, static=True)
    eval_distance: EvalDistance = eqx.field(default=0, static=True)
    episode_length: Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})] = eqx.field(
        default=120, static=True
    )
    cell_size: Annotated[float, Meta(ge=0.5, description="edge of a cell", extra={"unit": "m"})] = eqx.field(
        default=2.0, static=True
    )
    success_radius: Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})] = (
        eqx.field(default=0.5, static=True)
    )
    action_size: int = eqx.field(default=2, static=True, init=False)

    def __check_init__(self) -> None:
        if self.start not in ("corridor", "fixed"):
            raise ConfigError(f"start = {self.start!r} is not a start law.", mend="corridor or fixed.")
        check_distances(
            self.maze(),
            min_distance=self.min_distance,
            max_distance=self.max_distance,
            eval_distance=self.eval_distance,
        )

    def maze(self) -> Maze:
        """The validated layout."""
        return find_maze(self.layout)

    def corridor(self) -> Int[Array, "cells 2"]:
        """Row and column of its cells from R on."""
        return jnp.asarray(self.maze().corridor())

    def body(self) -> PointMaze:
        """The same body in the same maze, with other starts and goals."""
        return PointMaze(
            layout=self.layout,
            episode_length=self.episode_length,
            cell_size=self.cell_size,
            success_radius=self.success_radius,
        )

    def reset(self, key: Key) -> tuple[PointState, Float[Array, "2"]]:
        """A distance, then a pair of cells at that distance, forward."""
        ahead_key, first_key, start_key, goal_key = jax.random.split(key, 4)
        corridor = self.corridor()
        ahead = jax.random.randint(ahead_key, (), self.min_distance, self.max_distance + 1)
        free = self.cell_size / 2 - RADIUS
        if self.start == "corridor":
            first, spread = jax.random.randint(first_key, (), 0, len(corridor) - ahead), free
        else:
            first, spread = 0, min(0.1, free)
        start, goal = (
            corridor[cell] * self.cell_size + jax.random.uniform(key, (2,), minval=-width, maxval=width)
            for cell, width, key in ((first, spread, start_key), (first + ahead, free, goal_key))
        )
        return PointState(start, jnp.zeros(2)), goal

    def step(self, state: PointState, action: Float[Array, "2"], key: Key) -> PointState:
        """That of the point maze."""
        return self.body().step(state, action, key)

    def terminated(self, state: PointState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PointState) -> Float[Array, "4"]:
        """Position (m) and velocity (m/s)."""
        return self.body().observation(state)

    def achieved_goal(self, state: PointState) -> Float[Array, "2"]:
        """The position."""
        return state.position

    def goal_distance(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return self.body().goal_distance(achieved_goal, desired_goal)

    def goal_reachable(self, state: PointState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether both lie in the corridor."""
        return self.body().goal_reachable(state, desired_goal)

    def evaluation(self) -> "PointStitch":
        """From R to the one cell that is `eval_distance` ahead."""
        distance = self.eval_distance or len(self.corridor()) - 1
        return PointStitch(
            layout=self.layout,
            start="fixed",
            min_distance=distance,
            max_distance=distance,
            eval_distance=distance,
            episode_length=self.episode_length,
            cell_size=self.cell_size,
            success_radius=self.success_radius,
        )

    def top_view(self) -> TopView:
        """The walls."""
        return self.maze().top_view(self.cell_size)


u_maze = partial(PointStitch, layout="u")
u4_maze = partial(PointStitch, layout="u4", episode_length=160)
u5_maze = partial(PointStitch, layout="u5", episode_length=240)
