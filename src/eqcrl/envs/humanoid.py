"""The humanoid walks to a point: on the open floor, and through mazes."""

from functools import partial
from typing import Annotated, Literal, get_args

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
from eqcrl.robots.humanoid import (
    TORQUE,
    Hinges,
    default_pose,
    humanoid_model,
    link_inertia,
    link_velocity,
    with_target,
)
from eqcrl.robots.world import check_walls
from eqcrl.settings import Meta
from eqcrl.types import Key

GOAL_HEIGHT = 1.25  # m
UPRIGHT = (1.0, 2.0)  # m, heights of the torso between which it stands
LARGEST_GOAL_RADIUS = 50.0  # m, half of the floor

HingesField = Annotated[
    Hinges,
    Meta(description="damped: random actions stay up for 1 s as in the paper; gym: the Gym values, 0.3 s"),
]
Substeps = Annotated[int, Meta(ge=1, description="physics steps of 0.003 s in a control step")]
EpisodeLength = Annotated[int, Meta(ge=1, description="length of an episode", extra={"unit": "steps"})]
SuccessRadius = Annotated[float, Meta(gt=0, description="distance that counts as reached", extra={"unit": "m"})]
GoalInState = Annotated[
    bool, Meta(description="the paper's leak: the goal is a 12th link in the state, 268 numbers instead of 246")
]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} = {value!r} is not a choice.", mend=f"Choose {' or '.join(choices)}.")


def _stands(height: Float[Array, ""]) -> Bool[Array, ""]:
    return (height >= UPRIGHT[0]) & (height <= UPRIGHT[1])


class AbstractHumanoid(AbstractMujocoEnv):
    """What the open floor and the mazes share: body, observation, goal space, end.

    Observation: positions (24; torso x, y, z, quaternion, 17 hinges), velocities (23), inertia of each link about
    the common center of mass (11 x 10), velocity of each link (11 x 6), torques of the motors (23). Goal: torso
    (x, y, z) in m. Action: 17 torques. An episode ends where the torso leaves heights of 1 m to 2 m.
    """

    hinges: eqx.AbstractVar[Hinges]
    substeps: eqx.AbstractVar[int]
    goal_in_state: eqx.AbstractVar[bool]

    def begin(self, position: Float[Array, "2"], desired_goal: Float[Array, "3"]) -> PhysicsState:
        """The default pose at rest, above this point of the floor: all but the position is constant."""
        pose, rest, readouts = default_pose(self.model())
        across = jnp.concatenate([position, jnp.zeros(1)])
        if self.goal_in_state:
            # Of the readouts only the center of mass moves along; the others refer to it.
            readouts = {**readouts, "subtree_com": readouts["subtree_com"] + across}
        task = desired_goal if self.goal_in_state else ()
        return self.engine().start(jnp.asarray(pose).at[:3].add(across), jnp.asarray(rest), readouts, task)

    def control(self, state: PhysicsState, action: Float[Array, "17"]) -> Float[Array, "17"]:
        """[-1, 1] onto [-0.4, 0.4]; the torque is that times the gear."""
        del state
        return TORQUE * action

    def terminated(self, state: PhysicsState) -> Bool[Array, ""]:
        """Fallen, or thrown up: the torso is below 1 m or above 2 m."""
        return ~_stands(state.qpos[2])

    def observation(self, state: PhysicsState) -> Float[Array, "observation"]:
        """What the class says, in that order."""
        position, velocity = state.qpos, state.qvel
        cinert, cvel = state.readouts["cinert"], state.readouts["cvel"]
        torque = state.readouts["qfrc_actuator"]
        if self.goal_in_state:
            target, rest = state.task, jnp.zeros(2)
            cinert, cvel = with_target(cinert, cvel, state.readouts["subtree_com"][1], target)
            position = jnp.concatenate([position, target[:2]])
            velocity, torque = jnp.concatenate([velocity, rest]), jnp.concatenate([torque, rest])
        links = link_inertia(cinert).ravel(), link_velocity(cinert, cvel).ravel()
        return jnp.concatenate([position, velocity, *links, torque])

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "3"]:
        """Where the torso is."""
        return state.qpos[:3]

    def goal_distance(self, achieved_goal: Float[Array, "3"], desired_goal: Float[Array, "3"]) -> Float[Array, ""]:
        """Straight-line distance in m, height included."""
        return jnp.linalg.norm(achieved_goal - desired_goal)

    def markers(self, desired_goal: Float[np.ndarray, "3"]) -> tuple[Marker, ...]:
        """A ball at the goal, as wide as what counts as reached."""
        x, y, z = (float(value) for value in desired_goal)
        radius = float(self.success_radius)
        return (Marker((x, y, z), (radius, radius, radius)),)

    def camera(self) -> Camera:
        """From above the side at which a layout's text ends, so that the maze looks as it is written."""
        return Camera(distance=4.5, elevation=-40.0, azimuth=180.0, body="torso")


class Humanoid(AbstractHumanoid):
    """The humanoid on the open floor: goals at radius U(1, 5) m and any angle around its start, 1.25 m high."""

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    hinges: HingesField = eqx.field(default="damped", static=True)
    goal_radius_low: Annotated[float, Meta(ge=0, description="nearest goals", extra={"unit": "m"})] = eqx.field(
        default=1.0, static=True
    )
    goal_radius_high: Annotated[
        float, Meta(gt=0, le=LARGEST_GOAL_RADIUS, description="farthest goals", extra={"unit": "m"})
    ] = eqx.field(default=5.0, static=True)
    substeps: Substeps = eqx.field(default=10, static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    goal_in_state: GoalInState = eqx.field(default=False, static=True)
    action_size: int = eqx.field(default=17, static=True, init=False)

    def __check_init__(self) -> None:
        _check_choice("hinges", self.hinges, get_args(Hinges))
        if self.goal_radius_low > self.goal_radius_high:
            raise ConfigError(
                f"goal_radius_low = {self.goal_radius_low:g} is above goal_radius_high = {self.goal_radius_high:g}.",
                mend="Give the nearest goals the smaller radius.",
            )

    def model(self) -> Model:
        """The robot and the floor."""
        return humanoid_model(self.hinges, self.substeps, center=self.goal_in_state)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """Always the same start; the radius of the goal is uniform, so goals are denser near the start."""
        radius_key, angle_key = jax.random.split(key)
        radius = jax.random.uniform(radius_key, minval=self.goal_radius_low, maxval=self.goal_radius_high)
        angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
        goal = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle), jnp.float32(GOAL_HEIGHT)])
        return self.begin(jnp.zeros(2), goal), goal

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether a standing torso can be as high as the goal."""
        del state
        return _stands(desired_goal[2])

    def evaluation(self) -> "Humanoid":
        """The same task."""
        return self

    def top_view(self) -> TopView:
        """The disc of goals."""
        edge = self.goal_radius_high + 1.0
        return TopView(np.zeros((0, 4)), (-edge, -edge), (edge, edge))


class HumanoidMaze(AbstractHumanoid):
    """The humanoid in a maze of square cells with walls 1 m high; row i, column j is centered on cell_size * (i, j).

    Start: exactly the center of R, or of any free cell. Goal: the center of a free cell other than the start's, or of
    a G cell, 1.25 m high.

    Raises: ConfigError for a layout that does not exist, cannot be solved or is too large.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    # A file is read once, here: the environment, and the configuration of its run, then hold the grid itself.
    layout: Annotated[str, Meta(description="name of a built-in layout or path of a text grid")] = eqx.field(
        default="u", static=True, converter=self_contained
    )
    start: Annotated[
        Literal["fixed", "anywhere"],
        Meta(description="fixed: start at R, as in the paper; anywhere: in any free cell but the goal's"),
    ] = eqx.field(default="fixed", static=True)
    goals: Annotated[
        Literal["free", "marked"], Meta(description="free: a goal in any free cell; marked: in a G cell (evaluation)")
    ] = eqx.field(default="free", static=True)
    hinges: HingesField = eqx.field(default="damped", static=True)
    cell_size: Annotated[float, Meta(ge=1.0, description="edge of a cell", extra={"unit": "m"})] = eqx.field(
        default=2.0, static=True
    )
    substeps: Substeps = eqx.field(default=5, static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    goal_in_state: GoalInState = eqx.field(default=False, static=True)
    action_size: int = eqx.field(default=17, static=True, init=False)

    def __check_init__(self) -> None:
        _check_choice("hinges", self.hinges, get_args(Hinges))
        _check_choice("start", self.start, ("fixed", "anywhere"))
        _check_choice("goals", self.goals, ("free", "marked"))
        check_walls(self.maze(), merged=merges_walls(self.physics))

    def maze(self) -> Maze:
        """The validated layout."""
        return find_maze(self.layout)

    def model(self) -> Model:
        """The robot, the floor and the walls."""
        return humanoid_model(
            self.hinges,
            self.substeps,
            self.maze(),
            self.cell_size,
            merged=merges_walls(self.physics),
            center=self.goal_in_state,
        )

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "3"]]:
        """Goal uniform over its cells; start at R, or uniform over the other free cells."""
        start_key, goal_key = jax.random.split(key)
        maze = self.maze()
        free = maze.reachable_cells()
        goals = maze.cells("G")
        if self.goals == "free":
            goals = free[(free != maze.cells("R")[0]).any(axis=1)] if self.start == "fixed" else free
        which = jax.random.randint(goal_key, (), 0, len(goals))
        if self.start == "fixed":
            start = jnp.asarray(maze.cells("R")[0])
        else:
            # The place of each goal in the list of free cells, to be stepped over.
            places = np.array([np.flatnonzero((free == cell).all(axis=1))[0] for cell in goals])
            draw = jax.random.randint(start_key, (), 0, len(free) - 1)
            start = jnp.asarray(free)[draw + (draw >= jnp.asarray(places)[which])]
        goal = jnp.append(jnp.asarray(goals)[which] * self.cell_size, GOAL_HEIGHT)
        return self.begin(start * self.cell_size, goal), goal

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "3"]) -> Bool[Array, ""]:
        """Whether robot and goal stand in cells connected to R, and a standing torso can be as high."""
        connected = self.maze().connects(self.cell_size, state.qpos[:2], desired_goal[:2])
        return connected & _stands(desired_goal[2])

    def evaluation(self) -> "HumanoidMaze":
        """The same maze from R to the G cells."""
        return HumanoidMaze(
            physics=self.physics,
            layout=self.layout,
            goals="marked",
            hinges=self.hinges,
            cell_size=self.cell_size,
            substeps=self.substeps,
            episode_length=self.episode_length,
            success_radius=self.success_radius,
            goal_in_state=self.goal_in_state,
        )

    def top_view(self) -> TopView:
        """The walls."""
        return self.maze().top_view(self.cell_size)


u_maze = partial(HumanoidMaze, layout="u")
big_maze = partial(HumanoidMaze, layout="humanoid-big")
hardest_maze = partial(HumanoidMaze, layout="hardest")
