"""For the tests of the arm: which action brings its tips, or its wrist, to a place. In NumPy and C MuJoCo."""

from collections.abc import Callable

import mujoco
import numpy as np
from scipy.optimize import least_squares

from eqcrl.robots.arm import DRIVEN, HELD, HIGHEST, LOWEST

LOW, HIGH = np.array(LOWEST), np.array(HIGHEST)


def commanded(action: np.ndarray) -> np.ndarray:
    """Angles (7) of an action (4), in float64."""
    angles = np.array(HELD)
    angles[list(DRIVEN)] = LOW + (np.asarray(action) + 1) / 2 * (HIGH - LOW)
    return angles


class Kinematics:
    """Where the parts of the arm are when the joints have reached what an action commands."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.data = model, mujoco.MjData(model)

    def pose(self, action: np.ndarray) -> mujoco.MjData:
        """The arm in this pose, its fingers half open where it has any."""
        self.data.qpos[:7] = commanded(action)
        if self.model.nu > 7:
            self.data.qpos[7:9] = 0.04
        mujoco.mj_kinematics(self.model, self.data)
        return self.data

    def wrist(self, action: np.ndarray) -> np.ndarray:
        """Origin of link 7."""
        return self.pose(action).body("link7").xpos.copy()

    def tips(self, action: np.ndarray) -> np.ndarray:
        """Middle of the tips."""
        data = self.pose(action)
        return (data.site("left_tip").xpos + data.site("right_tip").xpos) / 2

    def yaw(self, action: np.ndarray) -> float:
        """Direction in the plane (rad) in which the fingers open."""
        axis = self.pose(action).body("hand").xmat.reshape(3, 3)[:, 1]
        return float(np.arctan2(axis[1], axis[0]))

    def wrist_at(self, place: np.ndarray) -> np.ndarray:
        """The action (4) that brings the wrist as close as it gets."""
        return self._solve(lambda action: self.wrist(action) - place)

    def tips_at(self, place: np.ndarray) -> np.ndarray:
        """The action (4) that brings the tips there, with the hand as upright as it gets."""

        def error(action: np.ndarray) -> np.ndarray:
            apart = self.tips(action) - place
            downward = self.data.body("hand").xmat.reshape(3, 3)[:, 2]
            return np.concatenate([10 * apart, 0.3 * (downward - np.array([0.0, 0.0, -1.0]))])

        return self._solve(error)

    @staticmethod
    def _solve(error: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        found = []
        for start in ([0.0, 0.0, 0.0, 0.0], [0.0, -0.5, -0.5, -0.4], [0.0, 0.2, 0.2, -0.9]):
            found.append(least_squares(error, np.array(start), bounds=(-1, 1)))
            if found[-1].cost < 1e-6:
                break
        return min(found, key=lambda result: result.cost).x


def along(*stations: tuple[np.ndarray, float, int]) -> np.ndarray:
    """Actions (steps, 5) from station to station, each an action (4), the gripper's command, and steps to get there."""
    rows, here = [], np.zeros(4)
    for action, grip, steps in stations:
        rows += [np.append(here + (action - here) * (k + 1) / steps, grip) for k in range(steps)]
        here = np.asarray(action)
    return np.array(rows, np.float32)
