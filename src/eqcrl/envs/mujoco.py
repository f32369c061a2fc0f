"""What all tasks on MuJoCo share: the model, the engine behind it, and what a picture of it needs."""

import abc
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqcrl import registry
from eqcrl.envs.base import AbstractEnv
from eqcrl.physics.base import AbstractEngine, PhysicsState
from eqcrl.physics.model import Model
from eqcrl.settings import Meta
from eqcrl.types import Key


@dataclass(frozen=True)
class Marker:
    """A shape drawn into the picture that the physics does not know, in meters."""

    position: tuple[float, float, float]
    size: tuple[float, float, float]
    """Radii of an ellipsoid, or half edges of a box."""
    shape: Literal["ellipsoid", "box"] = "ellipsoid"


@dataclass(frozen=True)
class Camera:
    """Where to look from; the camera follows a body, or looks at a fixed point."""

    distance: float
    elevation: float
    azimuth: float
    body: str | None = None
    """Name of the body to follow; None looks at `lookat`."""
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.0)


class AbstractMujocoEnv(AbstractEnv):
    """A task on a MuJoCo model; its state is a `PhysicsState` and steps the same under every engine."""

    physics: eqx.AbstractVar[str]
    """Name of the engine: mujoco, mjx, warp or a plugin's."""

    @abc.abstractmethod
    def model(self) -> Model:
        """The model. Cache what builds it: it is asked for in each trace."""

    @abc.abstractmethod
    def control(self, state: PhysicsState, action: Float[Array, "action"]) -> Float[Array, "nu"]:
        """Actuator controls for an action in [-1, 1]^action_size."""

    @abc.abstractmethod
    def markers(self, desired_goal: Float[np.ndarray, "goal"]) -> tuple[Marker, ...]:
        """How a goal is drawn."""

    @abc.abstractmethod
    def camera(self) -> Camera:
        """The view of films and stills."""

    def engine(self) -> AbstractEngine:
        """The engine for the model."""
        return find_engine(self.physics, self.model())

    def step(self, state: PhysicsState, action: Float[Array, "action"], key: Key) -> PhysicsState:
        """One control step; MuJoCo is deterministic."""
        del key
        return self.engine().step(state, self.control(state, jnp.clip(action, -1.0, 1.0)))


def chosen_physics(name: str) -> str:
    """The engine that `auto` stands for on the backend in use: the C engine on a CPU, else MJX.

    The configuration of a run then holds that name, so a run goes on with the engine that it began with.
    Raises: UnknownName.
    """
    if name == "auto":
        return "mujoco" if jax.default_backend() == "cpu" else "mjx"
    registry.resolve("physics", name)
    return name


Physics = Annotated[
    str, Meta(description="engine: mujoco (C, on all cores), mjx (JAX), warp; auto: what suits the device")
]


def merges_walls(physics: str) -> bool:
    """Whether that engine is better off with few long wall boxes than with one box a cell."""
    return bool(registry.load("physics", physics).merges_walls)


@lru_cache(maxsize=64)
def find_engine(name: str, model: Model) -> AbstractEngine:
    """The engine of that name for the model. Raises: UnknownName, PluginError, ConfigError without its package."""
    return registry.load("physics", name)(model)
