"""Models and starts that the tests of the engines share, and MuJoCo itself as their reference."""

import importlib.util
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from eqcrl.envs.mazes import find_maze
from eqcrl.envs.mujoco import find_engine
from eqcrl.physics.base import AbstractEngine, PhysicsState
from eqcrl.physics.model import Model
from eqcrl.robots.ant import ant_model, ant_start
from eqcrl.robots.humanoid import humanoid_model
from eqcrl.types import Key

WARP = importlib.util.find_spec("warp") is not None
JAX_ENGINES = ("mjx", "warp") if WARP else ("mjx",)
ENGINES = ("mujoco", *JAX_ENGINES)
"""What is installed here; tests/physics/test_warp.py says what a missing one answers."""

DERIVED = ("xpos", "xquat", "xipos", "cinert", "cvel", "subtree_com", "qfrc_actuator")

PENDULUM = """
<mujoco>
  <option timestep="0.01" iterations="50" ls_iterations="50"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <body name="upper" pos="0 0 2">
      <joint name="shoulder" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05" contype="0" conaffinity="0"/>
      <body name="lower" pos="0 0 -0.5">
        <joint name="elbow" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05" contype="0" conaffinity="0"/>
        <site name="tip" pos="0 0 -0.5"/>
      </body>
    </body>
    <body name="ball" pos="1 0 0.3"><freejoint/><geom type="sphere" size="0.1"/></body>
  </worldbody>
  <actuator>
    <position joint="shoulder" kp="20" forcerange="-8 8"/>
    <motor name="motor" joint="elbow" gear="3" ctrlrange="-1 1" ctrllimited="true"/>
  </actuator>
  <sensor>
    <framepos name="where" objtype="site" objname="tip"/>
    <framelinvel name="speed" objtype="site" objname="tip"/>
    <jointpos name="angle" joint="elbow"/>
    <actuatorpos name="length" actuator="motor"/>
    <subtreelinvel name="drift" body="upper"/>
  </sensor>
</mujoco>
"""
"""Two links and a ball that falls to the floor: small enough to compile in seconds, with every kind of readout."""


def pendulum(*, substeps: int = 4, readouts: tuple[str, ...] = (*DERIVED, "sensordata")) -> Model:
    return Model(PENDULUM, substeps, readouts)


def ant(layout: str | None, *, merged: bool = False, readouts: tuple[str, ...] = ()) -> Model:
    """The ant as its tasks have it, in mazes of 4 m cells."""
    maze = None if layout is None else find_maze(layout)
    return replace(ant_model(maze, 4.0, merged=merged), readouts=readouts)


def humanoid(layout: str | None, *, merged: bool = False) -> Model:
    """The humanoid as its tasks have it, in mazes of 2 m cells."""
    maze = None if layout is None else find_maze(layout)
    return replace(humanoid_model("damped", 5, maze, 2.0, merged=merged), mjx_solver=(1, 4))


def converged(model: Model) -> Model:
    """The same model with the contact solver run until it has converged.

    The tasks' few iterations leave a residual that two roundings can take to different places; with it gone, engines
    that agree on the physics agree on the motion.
    """
    spec = mujoco.MjSpec.from_string(model.xml)
    spec.option.iterations, spec.option.ls_iterations = 50, 50
    return replace(model, xml=spec.to_xml(), mjx_solver=None)


def at_rest(model: Model) -> tuple[np.ndarray, np.ndarray]:
    compiled = model.compiled()
    return np.array(compiled.qpos0, np.float32), np.zeros(compiled.nv, np.float32)


def starts(engine: AbstractEngine, key: Key, count: int, xy: tuple[float, float] = (0.0, 0.0)) -> PhysicsState:
    """Random starts of the ant, or of another model some way off its default pose; readouts are those of the pose."""
    return _start(engine)(jax.random.split(key, count), jnp.array(xy))


@lru_cache
def _start(engine: AbstractEngine) -> "jax.stages.Wrapped":
    model = engine.model
    pose, rest = at_rest(model)
    readouts = model.readouts_at(pose, rest)

    def start(key: Key, xy: Float[Array, "2"]) -> PhysicsState:
        if model.compiled().nq == 15:
            qpos, qvel = ant_start(xy, key)
        else:
            qpos = pose + 0.1 * jax.random.normal(key, pose.shape)
            qvel = jax.random.normal(key, rest.shape)
        return engine.start(qpos, qvel, readouts)

    return jax.jit(jax.vmap(start, in_axes=(0, None)))


def controls(model: Model, key: Key, *lead: int) -> Float[Array, "*lead nu"]:
    """Uniform in [-1, 1]."""
    return jax.random.uniform(key, (*lead, model.compiled().nu), minval=-1.0)


@lru_cache
def stepper(name: str, model: Model) -> "jax.stages.Wrapped":
    """A jitted step of a batch under the engine of that name."""
    engine = find_engine(name, model)
    return jax.jit(jax.vmap(engine.step), compiler_options=engine.compiler_options())


def same_bits(left: PhysicsState, right: PhysicsState) -> bool:
    """NaN is equal to NaN."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def rows(state: PhysicsState, which: slice | np.ndarray) -> PhysicsState:
    return jax.tree.map(lambda x: np.asarray(x)[which], state)


def by_hand(model: Model, qpos: np.ndarray, qvel: np.ndarray, ctrl: np.ndarray) -> mujoco.MjData:
    """MuJoCo itself: one simulation, one `mj_step` after the other, for each row of `ctrl` [steps nu]."""
    compiled = model.compiled()
    data = mujoco.MjData(compiled)
    data.qpos[:], data.qvel[:] = qpos, qvel
    for row in ctrl:
        data.ctrl[:] = row
        mujoco.mj_step(compiled, data, model.substeps)
    return data
