"""The ant walks to a place: on an open floor, or through a maze."""

from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import Maze, find_maze, self_contained
from eqcrl.envs.mujoco import AbstractMujocoEnv, Camera, Marker, Physics, chosen_physics, merges_walls
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.ant import MOTORS, ant_fell, ant_model, ant_reading, ant_start
from eqcrl.robots.world import check_walls
from eqcrl.settings import Meta
from eqcrl.types import Key

EpisodeLength = Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})]
SuccessRadius = Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})]
CellSize = Annotated[float, Meta(ge=2.5, description="edge of a cell", extra={"unit": "m"})]


def goal_ball(desired_goal: Float[np.ndarray, "2"], radius: float) -> Marker:
    """A ball on the floor at the goal, as wide as what counts as reached."""
    x, y = (float(v) for v in desired_goal)
    return Marker((x, y, radius), (radius, radius, radius))


# From above the side at which a layout's text ends, so that the maze looks as it is written.
ANT_CAMERA = Camera(distance=12.0, elevation=-50.0, azimuth=180.0, body="torso")


class AbstractAnt(AbstractMujocoEnv):
    """What every task of the ant shares. A control step is 0.05 s (5 substeps of 0.01 s).

    Action: 8 joint torques, 150 N m at 1, legs 4, 1, 2, 3, hip before ankle. Terminated: torso's center below 0.2 m or
    above 1 m. Floor and feet meet, walls stop torso, aux capsules and feet; legs pass through walls and each other.
    """

    def control(self, state: PhysicsState, action: Float[Array, "8"]) -> Float[Array, "8"]:
        """The action; the model's gears make it a torque."""
        del state
        return action

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Whether the ant fell, turned over or jumped."""
        return ant_fell(state)

    def goal_distance(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Straight-line distance in the plane (m)."""
        return jnp.linalg.norm(achieved_goal - desired_goal)


class AbstractWalkingAnt(AbstractAnt):
    """An ant that is to be somewhere itself.

    Observation (29): positions 15, velocities 14 (see `eqcrl.robots.ant`). Goal: x, y of the torso (m).
    """

    def observation(self, state: PhysicsState) -> Float[Array, "29"]:
        """Positions and velocities."""
        return ant_reading(state)

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "2"]:
        """Where the torso is (m)."""
        return state.qpos[:2]

    def markers(self, desired_goal: Float[np.ndarray, "2"]) -> tuple[Marker, ...]:
        """A ball at the goal."""
        return (goal_ball(desired_goal, self.success_radius),)

    def camera(self) -> Camera:
        """Behind and above the torso."""
        return ANT_CAMERA


class Ant(AbstractWalkingAnt):
    """An ant on an open floor; the goal is at a fixed distance in any direction.

    Start: at the origin with noise. Goal: `distance` (cos t, sin t), t uniform.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    distance: Annotated[float, Meta(gt=0, description="from the origin to the goal", extra={"unit": "m"})] = eqx.field(
        default=10.0, static=True
    )
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    action_size: int = eqx.field(default=MOTORS, static=True, init=False)

    def model(self) -> Model:
        """The ant and a floor."""
        return ant_model()

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "2"]]:
        """Standing at the origin; the goal on a circle around it."""
        start_key, goal_key = jax.random.split(key)
        angle = jax.random.uniform(goal_key, maxval=2 * jnp.pi)
        goal = self.distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return self.engine().start(*ant_start(jnp.zeros(2), start_key), {}), goal

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Always: nothing stands in the way."""
        return jnp.array(True)

    def evaluation(self) -> "Ant":
        """The same task."""
        return self

    def top_view(self) -> TopView:
        """No walls; a square around the goals."""
        half = self.distance + 2.0
        return TopView(np.zeros((0, 4)), (-half, -half), (half, half))


class AntMaze(AbstractWalkingAnt):
    """An ant in a maze of square cells with walls 2 m high; row i, column j is centered on cell_size * (i, j).

    Start: R, or any cell, with noise. Goal: exactly the center of a cell other than the start's, uniform over the
    free cells or the G cells, both limited to those that `min_steps` to `max_steps` cells of path part from R.

    Raises: ConfigError for a layout that does not exist, cannot be solved, is too large, or has no goal in range.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    layout: Annotated[str, Meta(description="name of a built-in layout (u, u4, big, ...) or path of a text grid")] = (
        eqx.field(default="u", static=True, converter=self_contained)
    )
    start: Annotated[
        Literal["fixed", "anywhere"],
        Meta(description="fixed: start at R, as in the paper; anywhere: in any free cell but the goal's"),
    ] = eqx.field(default="fixed", static=True)
    goals: Annotated[
        Literal["free", "marked"], Meta(description="free: a goal in any free cell; marked: in a G cell (evaluation)")
    ] = eqx.field(default="free", static=True)
    min_steps: Annotated[int, Meta(ge=0, description="least path from R to the goal", extra={"unit": "cells"})] = (
        eqx.field(default=0, static=True)
    )
    max_steps: Annotated[
        int, Meta(ge=0, description="greatest path from R to the goal; 0: no limit", extra={"unit": "cells"})
    ] = eqx.field(default=0, static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    cell_size: CellSize = eqx.field(default=4.0, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    action_size: int = eqx.field(default=MOTORS, static=True, init=False)

    def __check_init__(self) -> None:
        if self.start not in ("fixed", "anywhere"):
            raise ConfigError(f"start = {self.start!r} is not a start law.", mend="fixed or anywhere.")
        if self.goals not in ("free", "marked"):
            raise ConfigError(f"goals = {self.goals!r} is not a law of goals.", mend="free or marked.")
        check_walls(self.maze(), merged=merges_walls(self.physics))
        if len(self.goal_cells()) == 0:
            furthest = int(self.maze().steps_from_start().max())
            raise ConfigError(
                f"No {self.goals} cell of the layout {self.maze().name} is {self.min_steps} to {self.max_steps} "
                "steps from its start.",
                mend=f"The furthest cell is {furthest} steps away.",
            )

    def maze(self) -> Maze:
        """The validated layout."""
        return find_maze(self.layout)

    def model(self) -> Model:
        """The ant between the walls."""
        return ant_model(self.maze(), self.cell_size, merged=merges_walls(self.physics))

    def goal_cells(self) -> np.ndarray:
        """Row and column of every cell that may be the goal; R only where the start may be another cell."""
        maze = self.maze()
        cells = maze.cells("G") if self.goals == "marked" else maze.reachable_cells()
        steps = maze.steps_from_start()[cells[:, 0], cells[:, 1]]
        least = max(self.min_steps, 1) if self.start == "fixed" else self.min_steps
        return cells[(steps >= least) & ((steps <= self.max_steps) | (self.max_steps == 0))]

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "2"]]:
        """Goal uniform over its cells; start at R, or uniform over the other free cells."""
        noise_key, start_key, goal_key = jax.random.split(key, 3)
        maze, goals = self.maze(), self.goal_cells()
        which = jax.random.randint(goal_key, (), 0, len(goals))
        goal = jnp.asarray(goals)[which]
        if self.start == "fixed":
            start = jnp.asarray(maze.cells("R")[0])
        else:
            free = maze.reachable_cells()
            # The place of each goal in the list of free cells, to be stepped over.
            places = np.array([np.flatnonzero((free == cell).all(axis=1))[0] for cell in goals])
            draw = jax.random.randint(start_key, (), 0, len(free) - 1)
            start = jnp.asarray(free)[draw + (draw >= jnp.asarray(places)[which])]
        qpos, qvel = ant_start(start * self.cell_size, noise_key)
        return self.engine().start(qpos, qvel, {}), goal * self.cell_size

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether ant and goal both stand in cells connected to R."""
        return self.maze().connects(self.cell_size, self.achieved_goal(state), desired_goal)

    def evaluation(self) -> "AntMaze":
        """The same maze from R to the G cells."""
        return AntMaze(
            physics=self.physics,
            layout=self.layout,
            goals="marked",
            episode_length=self.episode_length,
            cell_size=self.cell_size,
            success_radius=self.success_radius,
        )

    def top_view(self) -> TopView:
        """The walls."""
        return self.maze().top_view(self.cell_size)


u_maze = partial(AntMaze, layout="u")
u2_maze = partial(AntMaze, layout="u2")
u3_maze = partial(AntMaze, layout="u3")
u4_maze = partial(AntMaze, layout="u4")
u5_maze = partial(AntMaze, layout="u5")
u6_maze = partial(AntMaze, layout="u6")
u7_maze = partial(AntMaze, layout="u7")
big_maze = partial(AntMaze, layout="big")
hardest_maze = partial(AntMaze, layout="hardest")
