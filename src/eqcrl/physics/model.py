"""A MuJoCo model as a value: the text it is compiled from, and how a task drives and reads it."""

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from jaxtyping import Float

from eqcrl.physics.base import Readouts

READABLE = ("sensordata", "xpos", "xquat", "xipos", "cinert", "cvel", "qfrc_actuator", "subtree_com")
"""Fields of MjData that a task may read beside positions and velocities; every engine has them."""


LIMIT = float(mujoco.mjMAXVAL)
"""A simulation with a position or velocity beyond this, or NaN, has diverged (MuJoCo's own limit)."""


@dataclass(frozen=True)
class Model:
    """Equal and hashable by value, so that an environment which holds one is compiled once."""

    xml: str
    """Self-contained MJCF: no included file, no mesh, no texture file."""
    substeps: int
    """Physics steps in one control step."""
    readouts: tuple[str, ...] = ()
    """Which of `READABLE` the task reads; they are current after each step, not one substep old."""
    max_contact_points: int | None = None
    """MJX only: contacts kept per condim, the deepest ones; None keeps all."""
    max_geom_pairs: int | None = None
    """MJX only: pairs of geoms kept per pair of geom types, by the distance of bounding spheres; None keeps all."""
    mjx_solver: tuple[int, int] | None = None
    """MJX only: iterations of the contact solver and of its line search; None takes those of `xml`.

    A batch iterates until its slowest simulation is done, so that what is free in C may cost MJX four times the work.
    """

    def compiled(self) -> mujoco.MjModel:
        """The model; compiled once per process, so it must not be written to."""
        return _compile(self.xml)

    def control_step(self) -> float:
        """Seconds of one control step."""
        return self.substeps * float(self.compiled().opt.timestep)

    def readouts_at(self, qpos: Float[np.ndarray, "nq"], qvel: Float[np.ndarray, "nv"]) -> Readouts:
        """What the task reads in this pose, as `mj_forward` finds it with zero controls."""
        model = self.compiled()
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        return {name: np.asarray(getattr(data, name), np.float32) for name in self.readouts}


@lru_cache(maxsize=64)
def _compile(xml: str) -> mujoco.MjModel:
    model = mujoco.MjModel.from_xml_string(xml)
    # MuJoCo's own reset of a diverged simulation would hide it: no engine does that, eqcrl resets the episode.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # One robot is one island, so looking for more costs a sixth of the ant's step and finds none; MJX has no islands.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model
