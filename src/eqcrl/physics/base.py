"""The one interface behind which a task does not know its physics engine."""

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from eqcrl.physics.model import Model

Readouts = dict[str, Float[Array | np.ndarray, "..."]]


class PhysicsState(eqx.Module):
    """The state of one simulation: what a task reads, and what its engine needs to go on with the same bits.

    The commanded goal is not a body of the physics and not part of the state.
    """

    qpos: Float[Array, "*batch nq"]
    """Generalized positions (m, rad, unit quaternions), in MuJoCo's order."""
    qvel: Float[Array, "*batch nv"]
    """Generalized velocities (m/s, rad/s); a free joint's angular velocity is in the body's frame."""
    readouts: dict[str, Float[Array, "..."]]
    """The fields of MjData that the model names, e.g. `sensordata`: current, and float32."""
    hidden: Any
    """The engine's own: an array or pytree of arrays. All zeros means that `qpos` and `qvel` are a fresh start."""
    task: Any = ()
    """What a task keeps beside the physics: a pytree of arrays, carried along unchanged."""


class AbstractEngine(eqx.Module):
    """A physics engine for one model. Engines are parts of the kind `physics`: the entry point names a class
    that is built from a `Model`."""

    model: eqx.AbstractVar["Model"]
    merges_walls: eqx.AbstractVar[bool]
    """Whether long merged wall boxes are faster than unit boxes and as safe."""

    @abc.abstractmethod
    def start(
        self, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], readouts: Readouts, task: Any = ()
    ) -> PhysicsState:
        """A fresh start; nothing is simulated, not even kinematics.

        `readouts` are those of this pose. Starts of a task differ in what its readouts do not see, or the task works
        them out itself, so that they are constants and a reset costs nothing.
        """

    @abc.abstractmethod
    def step(self, state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
        """`model.substeps` steps of the physics under constant controls; works under `jit`, `scan` and `vmap`.

        Where the physics diverges, the state is NaN from then on: it never raises.
        """

    @abc.abstractmethod
    def compiler_options(self) -> dict[str, Any]:
        """What XLA should be told for programs that hold this engine, on the backend in use."""
