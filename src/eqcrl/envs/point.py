"""A point mass with inertia in a maze, in pure JAX: millions of steps a second on a laptop."""

from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.envs.mazes import Maze, find_maze, self_contained
from eqcrl.errors import ConfigError
from eqcrl.settings import Meta
from eqcrl.types import Key

CONTROL_STEP = 0.1  # s
SUBSTEPS = 5
RADIUS = 0.2  # m, of the body
ACCELERATION = 4.0  # m/s^2 at full action
DRAG = 1.5  # 1/s; together a top speed of 2.7 m/s, reached with a time constant of 0.67 s


class PointState(eqx.Module):
    """Position (m) and velocity (m/s) in the plane."""

    position: Float[Array, "*batch 2"]
    velocity: Float[Array, "*batch 2"]


class PointMaze(AbstractEnv):
    """A point mass in a small disc, pushed through a maze of square cells.

    dv/dt = 4 a - 1.5 v with a in [-1, 1]^2, five semi-implicit Euler substeps of 0.02 s; a wall takes the velocity
    into it and leaves the rest, so the disc (radius 0.2 m) slides along walls and around corners. Observation:
    position (m), velocity (m/s). Goal: position (m). Nothing terminates. Row i, column j of the layout is centered
    on cell_size * (i, j).

    Raises: ConfigError for a layout that does not exist or cannot be solved.
    """

    # A file is read once, here: the environment, and the configuration of its run, then hold the grid itself.
    layout: Annotated[str, Meta(description="name of a built-in layout (open, u, big, ...) or path of a text grid")] = (
        eqx.field(default="u", static=True, converter=self_contained)
    )
    start: Annotated[
        Literal["anywhere", "fixed", "evaluation"],
        Meta(
            description="anywhere: start and goal in any cell; fixed: start at R, goal in any cell; "
            "evaluation: start at R, goal in a G cell"
        ),
    ] = eqx.field(default="anywhere", static=True)
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
        if self.start not in ("anywhere", "fixed", "evaluation"):
            raise ConfigError(f"start = {self.start!r} is not a start law.", mend="anywhere, fixed or evaluation.")

    def maze(self) -> Maze:
        """The validated layout."""
        return find_maze(self.layout)

    def reset(self, key: Key) -> tuple[PointState, Float[Array, "2"]]:
        """Start and goal uniform over the free area of their cells (at R: the center +- 0.1 m), at rest."""
        start_key, goal_key = jax.random.split(key)
        maze = self.maze()
        free = maze.reachable_cells()
        if self.start == "anywhere":
            position = self._uniform_in(free, self.cell_size / 2 - RADIUS, start_key)
        else:
            position = self._uniform_in(maze.cells("R"), min(0.1, self.cell_size / 2 - RADIUS), start_key)
        goals = maze.cells("G") if self.start == "evaluation" else free
        goal = self._uniform_in(goals, self.cell_size / 2 - RADIUS, goal_key)
        return PointState(position, jnp.zeros(2)), goal

    def _uniform_in(self, cells: np.ndarray, half_width: float, key: Key) -> Float[Array, "2"]:
        cell_key, offset_key = jax.random.split(key)
        cell = jnp.asarray(cells)[jax.random.randint(cell_key, (), 0, len(cells))]
        offset = jax.random.uniform(offset_key, (2,), minval=-half_width, maxval=half_width)
        return cell * self.cell_size + offset

    def step(self, state: PointState, action: Float[Array, "2"], key: Key) -> PointState:
        """Five substeps: push and drag, move, then out of the walls."""
        del key  # deterministic
        walls = jnp.asarray(self.maze().walls())
        dt = CONTROL_STEP / SUBSTEPS
        push = ACCELERATION * jnp.clip(action, -1.0, 1.0)
        position, velocity = state.position, state.velocity
        for _ in range(SUBSTEPS):
            velocity = velocity + dt * (push - DRAG * velocity)
            position, velocity = self._leave_walls(walls, position + dt * velocity, velocity)
        return PointState(position, velocity)

    def _leave_walls(
        self, walls: Bool[Array, "rows columns"], position: Float[Array, "2"], velocity: Float[Array, "2"]
    ) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """Move the disc out of the cells that it overlaps, and take away the velocity into them.

        A substep is at most 0.08 m, less than the radius, so the center never enters a wall, and only the three
        cells on its side of the cell it stands in can be touched: the two beside first, then the one across the
        corner. An edge is met along its normal, a corner along the line to the center: the body rolls around it.
        """
        cell = jnp.round(position / self.cell_size).astype(int)
        side = jnp.where(position >= cell * self.cell_size, 1, -1)
        for offset in ((1, 0), (0, 1), (1, 1)):
            other = cell + side * jnp.array(offset)
            half = self.cell_size / 2
            nearest = jnp.clip(position, other * self.cell_size - half, other * self.cell_size + half)
            apart = position - nearest
            distance = jnp.sqrt(jnp.maximum(jnp.sum(apart**2), 1e-12))
            hit = walls[other[0], other[1]] & (distance < RADIUS)
            normal = apart / distance
            position = jnp.where(hit, nearest + RADIUS * normal, position)
            velocity = jnp.where(hit, velocity - jnp.minimum(velocity @ normal, 0.0) * normal, velocity)
        return position, velocity

    def terminated(self, state: PointState) -> Bool[Array, ""]:
        """Never."""
        return jnp.array(False)

    def observation(self, state: PointState) -> Float[Array, "4"]:
        """Position and velocity."""
        return jnp.concatenate([state.position, state.velocity])

    def achieved_goal(self, state: PointState) -> Float[Array, "2"]:
        """The position."""
        return state.position

    def goal_distance(self, achieved_goal: Float[Array, "2"], desired_goal: Float[Array, "2"]) -> Float[Array, ""]:
        """Straight-line distance in m."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def goal_reachable(self, state: PointState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether state and goal both lie in cells connected to the start."""
        return self.maze().connects(self.cell_size, state.position, desired_goal)

    def evaluation(self) -> "PointMaze":
        """The same maze from R to the G cells."""
        return PointMaze(
            layout=self.layout,
            start="evaluation",
            episode_length=self.episode_length,
            cell_size=self.cell_size,
            success_radius=self.success_radius,
        )

    def top_view(self) -> TopView:
        """The walls."""
        return self.maze().top_view(self.cell_size)


open_floor = partial(PointMaze, layout="open")
maze_fixed_start = partial(PointMaze, start="fixed")
u_maze = partial(PointMaze, layout="u")
u_maze_fixed_start = partial(PointMaze, layout="u", start="fixed")
big_maze = partial(PointMaze, layout="big", episode_length=200)
big_maze_fixed_start = partial(PointMaze, layout="big", start="fixed", episode_length=200)
hardest_maze = partial(PointMaze, layout="hardest", episode_length=300)
hardest_maze_fixed_start = partial(PointMaze, layout="hardest", start="fixed", episode_length=300)
