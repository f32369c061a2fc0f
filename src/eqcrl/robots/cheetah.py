"""The half-cheetah: a torso on two legs that moves in a vertical plane."""

from functools import lru_cache
from importlib import resources

import mujoco

from eqcrl.physics.model import Model
from eqcrl.robots.world import add_floor


@lru_cache(maxsize=8)
def cheetah_model(substeps: int) -> Model:
    """The half-cheetah on the open floor; all 8 of its geoms meet the floor."""
    text = resources.files("eqcrl.robots").joinpath("assets/half_cheetah.xml").read_text(encoding="utf-8")
    spec = mujoco.MjSpec.from_string(text)
    add_floor(spec)
    return Model(spec.to_xml(), substeps)
