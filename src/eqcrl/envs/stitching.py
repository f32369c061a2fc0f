"""The ant learns short ways and is asked for long ones: can routes be composed that were never seen whole?"""

from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqcrl.envs.ant import AbstractWalkingAnt, CellSize, EpisodeLength, SuccessRadius
from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import Maze, find_maze, self_contained
from eqcrl.envs.mujoco import Physics, chosen_physics, merges_walls
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.ant import MOTORS, ant_model, ant_start
from eqcrl.robots.world import check_walls
from eqcrl.settings import Meta
from eqcrl.types import Key

CorridorLayout = Annotated[str, Meta(description="name of a built-in corridor (u, u2, ..., u5) or path of a text grid")]
CorridorStart = Annotated[
    Literal["corridor", "fixed"], Meta(description="corridor: in any of its cells; fixed: at R (evaluation)")
]
MinDistance = Annotated[int, Meta(ge=1, description="least way to the goal", extra={"unit": "cells"})]
MaxDistance = Annotated[int, Meta(ge=1, description="greatest way to the goal", extra={"unit": "cells"})]
EvalDistance = Annotated[
    int, Meta(ge=0, description="way from R to the goal in evaluation; 0: to the far end", extra={"unit": "cells"})
]


def check_distances(maze: Maze, **distances: int) -> None:
    """Refuse ways that the corridor does not have. Raises: ConfigError."""
    furthest = len(maze.corridor()) - 1
    for name, distance in distances.items():
        if distance > furthest:
            raise ConfigError(
                f"{name} = {distance} is longer than the corridor of the layout {maze.name}.",
                mend=f"Use at most {furthest}.",
            )
    if distances["min_distance"] > distances["max_distance"]:
        raise ConfigError(
            f"min_distance = {distances['min_distance']} is greater than max_distance = {distances['max_distance']}.",
            mend="Give a range from small to large.",
        )


class AntStitch(AbstractWalkingAnt):
    """An ant in a corridor that goes from R to its other end; goals lie a number of cells ahead of the start.

    With the cells numbered along the corridor: k uniform over min_distance..max_distance, then p uniform over all
    cells that have a k-th one ahead; start: exactly the center of cell p; goal: that of cell p + k. With
    start = "fixed", p is R, with noise, as in the other mazes. Evaluation: from R, exactly `eval_distance` cells.

    Raises: ConfigError for a layout that is no corridor, or a distance that is not in it.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    layout: CorridorLayout = eqx.field(default="u", static=True, converter=self_contained)
    start: CorridorStart = eqx.field(default="corridor", static=True)
    min_distance: MinDistance = eqx.field(default=1, static=True)
    max_distance: MaxDistance = eqx.field(default=3, static=True)
    eval_distance: EvalDistance = eqx.field(default=0, static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    cell_size: CellSize = eqx.field(default=4.0, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    action_size: int = eqx.field(default=MOTORS, static=True, init=False)

    def __check_init__(self) -> None:
        if self.start not in ("corridor", "fixed"):
            raise ConfigError(f"start = {self.start!r} is not a start law.", mend="corridor or fixed.")
        check_walls(self.maze(), merged=merges_walls(self.physics))
        check_distances(
            self.maze(),
            min_distance=self.min_distance,
            max_distance=self.max_distance,
            eval_distance=self.eval_distance,
        )

    def maze(self) -> Maze:
        """The validated layout."""
        return find_maze(self.layout)

    def corridor(self) -> Int[np.ndarray, "cells 2"]:
        """Row and column of its cells from R on. Raises: ConfigError for a layout that branches."""
        return self.maze().corridor()

    def model(self) -> Model:
        """The ant between the walls."""
        return ant_model(self.maze(), self.cell_size, merged=merges_walls(self.physics))

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "2"]]:
        """A distance, then a pair of cells at that distance, forward."""
        noise_key, start_key, goal_key = jax.random.split(key, 3)
        corridor = jnp.asarray(self.corridor())
        ahead = jax.random.randint(goal_key, (), self.min_distance, self.max_distance + 1)
        first = jax.random.randint(start_key, (), 0, len(corridor) - ahead) if self.start == "corridor" else 0
        center = corridor[first] * self.cell_size
        qpos, qvel = ant_start(center, noise_key)
        if self.start == "corridor":
            qpos = qpos.at[:2].set(center)
        return self.engine().start(qpos, qvel, {}), corridor[first + ahead] * self.cell_size

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether ant and goal both stand in the corridor."""
        return self.maze().connects(self.cell_size, self.achieved_goal(state), desired_goal)

    def evaluation(self) -> "AntStitch":
        """From R to the one goal that is `eval_distance` cells ahead."""
        distance = self.eval_distance or len(self.corridor()) - 1
        return AntStitch(
            physics=self.physics,
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


u_maze = partial(AntStitch, layout="u")
u2_maze = partial(AntStitch, layout="u2")
u3_maze = partial(AntStitch, layout="u3")
u4_maze = partial(AntStitch, layout="u4")
u5_maze = partial(AntStitch, layout="u5")
