"""Every MuJoCo task by name: sizes, control step, horizon, radius and evaluation, as the documentation says."""

import pytest

from eqcrl import registry
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import spec_of
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.types import EnvSpec

# Observation, action, goal; control step (s); success radius (m).
ANT, HUMANOID = (29, 8, 2, 0.05, 0.5), (246, 17, 3, 0.015, 0.5)
CUBE, PUSHER = (17, 5, 3, 0.05, 0.1), (20, 7, 3, 0.05, 0.1)
MAZES = ("u", "u2", "u3", "u4", "u5", "u6", "u7", "big", "hardest")
FACTS = {
    "ant": ANT,
    "ant-maze": ANT,
    **{f"ant-{layout}-maze": ANT for layout in MAZES},
    "ant-stitch": ANT,
    **{f"ant-{layout}-maze-stitch": ANT for layout in MAZES[:5]},
    "ant-ball": (31, 8, 2, 0.05, 0.5),
    "ant-push": (31, 8, 2, 0.05, 0.5),
    "humanoid": (246, 17, 3, 0.03, 0.5),
    "humanoid-maze": HUMANOID,
    **{f"humanoid-{layout}-maze": HUMANOID for layout in ("u", "big", "hardest")},
    "half-cheetah": (18, 6, 1, 0.05, 0.5),
    "arm-reach": (13, 4, 3, 0.05, 0.1),
    "arm-push-easy": CUBE,
    "arm-push-hard": CUBE,
    "arm-binpick-easy": CUBE,
    "arm-binpick-hard": CUBE,
    "arm-grasp": (23, 5, 7, 0.05, 0.05),
    "reacher": (10, 2, 3, 0.04, 0.05),
    "pusher-easy": PUSHER,
    "pusher-hard": PUSHER,
}


def test_the_table_lists_every_task() -> None:
    names = {e.name for e in registry.entries("env") if e.distribution == "eqcrl"}
    assert FACTS.keys() == {name for name in names if not name.startswith("point-")}


@pytest.mark.parametrize("name", FACTS)
def test_a_task_is_what_the_table_says(name: str) -> None:
    observation, action, goal, control_step, radius = FACTS[name]
    env = build_env(Part(name))
    for task in (env, env.evaluation()):
        assert isinstance(task, AbstractMujocoEnv)
        assert spec_of(task) == EnvSpec(observation, action, goal)
        assert task.model().control_step() == pytest.approx(control_step)
        assert task.success_radius == pytest.approx(radius)
        assert task.episode_length == 1000
        assert task.physics == env.physics
        assert task.model().compiled().nu == action or name.startswith("arm-")
