"""The ant moves something: a ball to a place, or a block out of its way."""

from functools import lru_cache
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float

from eqcrl.envs.ant import ANT_CAMERA, AbstractAnt, EpisodeLength, SuccessRadius, goal_ball
from eqcrl.envs.base import TopView
from eqcrl.envs.mazes import Maze, parse_maze
from eqcrl.envs.mujoco import Camera, Marker, Physics, chosen_physics, merges_walls
from eqcrl.errors import ConfigError
from eqcrl.physics.base import PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.ant import MOTORS, POSITIONS, SUBSTEPS, ant_reading, ant_spec, ant_start
from eqcrl.robots.world import FLOOR_BIT, WALL_BIT, add_floor, add_maze
from eqcrl.settings import Meta
from eqcrl.types import Key

BALL_RADIUS, BALL_MASS = 0.5, 0.576
BALL_RANGE = 10.3  # m from the origin, along x and along y
TARGET_DISTANCE = 5.0

# Row i, column j is centered on 8 (i - 1, j - 1); the block stands in the middle, at (8, 8).
PUSH_ROOM = "#####/#R.##/#..G#/##G##/#####"
PUSH_CELL, PUSH_ORIGIN = 8.0, (-8.0, -8.0)
PUSH_DENSITY, PUSH_HEIGHT = 40.0, 0.75
BLOCK_SIZE = (3.6, 3.6, 1.8)


class AntBall(AbstractAnt):
    """An ant that is to push a ball to a target 5 m away in any direction.

    The ball (radius 0.5 m, 0.576 kg, armature 1) slides along x and y at rolling height, without friction, and is hit
    by torso, aux capsules and feet. Observation (31): the ant's 29, x, y of the ball. Goal: x, y of the ball (m).
    Start: the ant at the origin with noise; target 5 (cos a, sin a), ball at rest at (cos a, sin a) + (cos b, sin b),
    a uniform, b within 120 degrees of a: between 1 and 2 m away, where the torso is not.

    Two accidents of the paper's code are options. goal_slice = "paper": numbers 28 and 29 of the observation are
    taken for the achieved goal, i.e. the rate of the last joint and the ball's x; evaluation measures the ball.
    ball_start = "paper": the ball is at (cos a, sin a) + (cos b, sin a), b uniform: one time in eleven in
    the ant's torso.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    goal_slice: Annotated[
        Literal["ball", "paper"],
        Meta(description="achieved goal: x, y of the ball; paper: the slice 28:30, off by one"),
    ] = eqx.field(default="ball", static=True)
    ball_start: Annotated[
        Literal["clear", "paper"], Meta(description="clear: 1 to 2 m away; paper: its formula, also inside the ant")
    ] = eqx.field(default="clear", static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    action_size: int = eqx.field(default=MOTORS, static=True, init=False)

    def __check_init__(self) -> None:
        if self.goal_slice not in ("ball", "paper"):
            raise ConfigError(f"goal_slice = {self.goal_slice!r} is not known.", mend="ball or paper.")
        if self.ball_start not in ("clear", "paper"):
            raise ConfigError(f"ball_start = {self.ball_start!r} is not a start law.", mend="clear or paper.")

    def model(self) -> Model:
        """The ant, a floor and the ball."""
        return _ball_model()

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "2"]]:
        """Target on its circle, the ball about 1 m from the ant on that side."""
        noise_key, target_key, ball_key = jax.random.split(key, 3)
        angle = jax.random.uniform(target_key, maxval=2 * jnp.pi)
        direction = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        if self.ball_start == "clear":
            turned = angle + jax.random.uniform(ball_key, minval=-2 * jnp.pi / 3, maxval=2 * jnp.pi / 3)
            ball = direction + jnp.stack([jnp.cos(turned), jnp.sin(turned)])
        else:
            turned = jax.random.uniform(ball_key, maxval=2 * jnp.pi)
            ball = direction + jnp.stack([jnp.cos(turned), jnp.sin(angle)])
        qpos, qvel = ant_start(jnp.zeros(2), noise_key)
        state = self.engine().start(jnp.append(qpos, ball), jnp.append(qvel, jnp.zeros(2)), {})
        return state, TARGET_DISTANCE * direction

    def observation(self, state: PhysicsState) -> Float[Array, "31"]:
        """The ant, then x, y of the ball."""
        return jnp.append(ant_reading(state), state.qpos[POSITIONS:])

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "2"]:
        """Where the ball is (m), or the paper's slice."""
        return state.qpos[POSITIONS:] if self.goal_slice == "ball" else self.observation(state)[28:30]

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether the ball can slide there."""
        return jnp.all(jnp.abs(desired_goal) < BALL_RANGE)

    def evaluation(self) -> "AntBall":
        """The same task, measured by where the ball is."""
        return AntBall(
            physics=self.physics,
            ball_start=self.ball_start,
            episode_length=self.episode_length,
            success_radius=self.success_radius,
        )

    def top_view(self) -> TopView | None:
        """The square in which the ball slides; None where the goal is no place."""
        if self.goal_slice == "paper":
            return None
        return TopView(np.zeros((0, 4)), (-BALL_RANGE, -BALL_RANGE), (BALL_RANGE, BALL_RANGE))

    def markers(self, desired_goal: Float[np.ndarray, "2"]) -> tuple[Marker, ...]:
        """A ball at the goal."""
        return (goal_ball(desired_goal, self.success_radius),)

    def camera(self) -> Camera:
        """Behind and above the torso."""
        return ANT_CAMERA


@lru_cache(maxsize=1)
def _ball_model() -> Model:
    spec = ant_spec()
    add_floor(spec)
    ball = spec.worldbody.add_body(name="ball", pos=(0.0, 0.0, BALL_RADIUS))
    for name, axis in (("x", (1, 0, 0)), ("y", (0, 1, 0))):
        ball.add_joint(
            name=f"ball_{name}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            range=(-BALL_RANGE, BALL_RANGE),
            armature=1.0,
            damping=0.0,
        )
    ball.add_geom(
        name="ball",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=(BALL_RADIUS, 0.0, 0.0),
        mass=BALL_MASS,
        rgba=(0.93, 0.90, 0.82, 1.0),
        contype=WALL_BIT,
        conaffinity=0,
    )
    return Model(spec.to_xml(), SUBSTEPS)


class AntPush(AbstractAnt):
    """An ant in a room whose middle a block fills: one way must be pushed free to get to the other side.

    The walls are those of a layout of 8 m cells, 4 m high; the block (7.2 x 7.2 x 3.6 m) slides along x, y and z and
    meets floor, walls and ant. Observation (31): the ant's 29, x, y of the block's center. Goal: x, y of the ant.
    Start: the ant at the origin, torso at 0.75 m, with noise; the block at (8, 8) + U(-0.1, 0.1)^2, at rest on the
    floor. Goal: (16, 8) or (8, 16), + U(0, 2)^2. The ant has the paper's density of 40 here and stiff contacts.

    The paper's block weighs 0.2 g: an ant that rams it presses it over a meter into a wall, until it flies out.
    """

    physics: Physics = eqx.field(default="auto", static=True, converter=chosen_physics)
    block_mass: Annotated[
        float, Meta(ge=1e-5, description="mass of the block; paper: 0.0002", extra={"unit": "kg"})
    ] = eqx.field(default=1.0, static=True)
    episode_length: EpisodeLength = eqx.field(default=1000, static=True)
    success_radius: SuccessRadius = eqx.field(default=0.5, static=True)
    action_size: int = eqx.field(default=MOTORS, static=True, init=False)

    def model(self) -> Model:
        """The ant in the room with the block."""
        return _push_model(merges_walls(self.physics), self.block_mass)

    def reset(self, key: Key) -> tuple[PhysicsState, Float[Array, "2"]]:
        """The block in the middle, the goal behind it on either side."""
        noise_key, block_key, side_key, goal_key = jax.random.split(key, 4)
        qpos, qvel = ant_start(jnp.zeros(2), noise_key, PUSH_HEIGHT)
        block = jax.random.uniform(block_key, (2,), minval=-0.1, maxval=0.1)
        state = self.engine().start(jnp.concatenate([qpos, block, jnp.zeros(1)]), jnp.append(qvel, jnp.zeros(3)), {})
        corner = jnp.where(jax.random.bernoulli(side_key), jnp.array([16.0, 8.0]), jnp.array([8.0, 16.0]))
        return state, corner + jax.random.uniform(goal_key, (2,), maxval=2.0)

    def observation(self, state: PhysicsState) -> Float[Array, "31"]:
        """The ant, then x, y of the block's center."""
        return jnp.append(ant_reading(state), state.qpos[POSITIONS : POSITIONS + 2] + PUSH_CELL)

    def achieved_goal(self, state: PhysicsState) -> Float[Array, "2"]:
        """Where the torso is (m)."""
        return state.qpos[:2]

    def goal_reachable(self, state: PhysicsState, desired_goal: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether ant and goal both stand in the room, the block left out."""
        origin = jnp.array(PUSH_ORIGIN)
        return push_room().connects(PUSH_CELL, self.achieved_goal(state) - origin, desired_goal - origin)

    def evaluation(self) -> "AntPush":
        """The same task."""
        return self

    def markers(self, desired_goal: Float[np.ndarray, "2"]) -> tuple[Marker, ...]:
        """A column at the goal that is seen over the walls."""
        x, y = (float(v) for v in desired_goal)
        return (Marker((x, y, 2.0), (self.success_radius, self.success_radius, 2.0)),)

    def camera(self) -> Camera:
        """The whole room from above."""
        return Camera(distance=33.0, elevation=-65.0, azimuth=180.0, lookat=(9.0, 8.0, 0.0))

    def top_view(self) -> TopView:
        """The walls."""
        view = push_room().top_view(PUSH_CELL)
        x, y = PUSH_ORIGIN
        return TopView(
            view.walls + np.array([x, y, x, y]),
            (view.low[0] + x, view.low[1] + y),
            (view.high[0] + x, view.high[1] + y),
        )


@lru_cache(maxsize=1)
def push_room() -> Maze:
    """The walls of ant-push as a layout."""
    return parse_maze(PUSH_ROOM, "of ant-push")


@lru_cache(maxsize=8)
def _push_model(merged: bool, block_mass: float) -> Model:
    spec = ant_spec()
    spec.option.iterations, spec.option.ls_iterations = 4, 8
    add_floor(spec)
    add_maze(spec, push_room(), PUSH_CELL, merged=merged, origin=PUSH_ORIGIN)
    for geom in spec.geoms:
        geom.density = PUSH_DENSITY
        geom.solimp[:3] = 0.995, 0.995, 0.01
    block = spec.worldbody.add_body(name="block", pos=(PUSH_CELL, PUSH_CELL, BLOCK_SIZE[2]))
    for name, axis in (("x", (1, 0, 0)), ("y", (0, 1, 0)), ("z", (0, 0, 1))):
        block.add_joint(
            name=f"block_{name}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            limited=mujoco.mjtLimited.mjLIMITED_FALSE,
            armature=0.0,
            damping=0.0,
        )
    block.add_geom(
        name="block",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=BLOCK_SIZE,
        mass=block_mass,
        rgba=(0.75, 0.36, 0.30, 1.0),
        contype=FLOOR_BIT | WALL_BIT,
        conaffinity=WALL_BIT,
        friction=(1.0, 0.5, 0.5),
        solimp=(0.995, 0.995, 0.01, 0.5, 2.0),
    )
    return Model(spec.to_xml(), SUBSTEPS)
