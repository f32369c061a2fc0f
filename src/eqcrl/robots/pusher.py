"""A long arm of seven motors over a table, and the puck that it shoves."""

from functools import lru_cache
from importlib import resources

import numpy as np

from eqcrl.physics.base import Readouts
from eqcrl.physics.model import Model

JOINTS = 7
SUBSTEPS = 5  # of 0.01 s
TORQUE = 2.0  # control at full action; the motors have gear 3
PUCK_HEIGHT = -0.275  # m, of its middle
SHOULDER = (0.0, -0.6)  # m, the upright axis that the arm turns about
REACH = 0.95  # m from that axis: 0.87 for the claw's tips at the puck's height, and the puck's own 0.07 before them


@lru_cache(maxsize=1)
def pusher_model() -> Model:
    """qpos is 7 angles, then x and y of the puck (m); the sensor is the position of the wrist (3)."""
    text = resources.files("eqcrl.robots").joinpath("assets/pusher.xml").read_text(encoding="utf-8")
    return Model(text, SUBSTEPS, ("sensordata",))


@lru_cache(maxsize=1)
def start_readouts() -> Readouts:
    """Where the wrist is at every start: all angles are 0, and it does not see the puck."""
    model = pusher_model()
    size = model.compiled().nq
    return model.readouts_at(np.zeros(size), np.zeros(size))
