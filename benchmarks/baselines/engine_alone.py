"""C MuJoCo by itself under random controls: no policy, no observation, no reset, nothing of JAX.

What stood beside the bars of the MuJoCo tasks on the machine where they were set. As a part of it, measured in one run,
a bar asks for the same on any machine.
"""

import jax
import mujoco
import numpy as np
from mujoco.batch import Batch

from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.jobs.machine import cores


class EngineAlone:
    """`length` control steps of many copies under random controls, on all cores; every call from the same states.

    Those are where random controls lead in as many steps from the task's own starts, so that robots have landed. A wall
    is a box for each cell. MuJoCo computes nothing for a reader, and reads no clock (see `eqcrl.physics.mujoco`).
    """

    def __init__(self, env: AbstractMujocoEnv, envs: int, length: int):
        model = env.model()
        compiled = model.compiled()
        self.substeps, self.stage = model.substeps, int(mujoco.mjtStage.mjSTAGE_NONE)
        self.batch = Batch(compiled, envs, min(len(cores()), envs), False)
        physics = jax.jit(BatchedEnv(env, envs).reset)(jax.random.key(0)).physics
        self.batch.bind("qpos")[:] = physics.qpos
        self.batch.bind("qvel")[:] = physics.qvel
        low, high = np.full((compiled.nu, 2), [-1.0, 1.0]).T
        limited = compiled.actuator_ctrllimited.astype(bool)
        low[limited], high[limited] = compiled.actuator_ctrlrange[limited].T
        self.controls = np.random.default_rng(0).uniform(low, high, (length, envs, compiled.nu))
        self.ctrl = self.batch.bind("ctrl")
        self.states = np.array(self.batch.state)
        self()
        self.states = np.array(self.batch.state)
        self.facts = {"amount": envs * length, "compile_seconds": 0.0}

    def __call__(self) -> None:
        """The steps, finished on return."""
        np.copyto(self.batch.state, self.states)
        for controls in self.controls:
            np.copyto(self.ctrl, controls)
            self.batch.step(None, self.substeps, self.stage)
