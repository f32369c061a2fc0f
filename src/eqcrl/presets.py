"""Named starting points for a configuration. Each is a plain tree of settings over the defaults."""

from typing import Any

# Two cores, a few minutes: a maze that plain CRL solves when its actor also sees goals it has not reached.
# Collecting costs next to nothing here, so many environments and few updates per step. Batch 512 at step size 3e-4
# ended steadily at the top; at 6e-4 one seed of two fell to 0.75 in its last evaluation.
QUICKSTART: dict[str, Any] = {
    "env": {"name": "point-u-maze"},
    "arch": {"name": "resnet", "depth": 8, "width": 64},
    "agent": {"name": "crl"},
    "relabeller": {"name": "geometric", "gamma": 0.99},
    "actor_goals": {"name": "mixed", "fraction": 0.5},
    "train": {
        "total_env_steps": 2_400_000,
        "num_envs": 1024,
        "unroll_length": 40,
        "updates_per_epoch": 200,
        "batch_size": 512,
    },
    "replay": {"capacity": 2_500, "min_filled": 120},
    "eval": {"every": 4, "num_envs": 128},
}

# Wang et al. 2025 (arXiv 2503.14858), sections 3 and 4 and appendix: sizes, budgets and update ratio.
PAPER: dict[str, Any] = {
    "arch": {"name": "resnet", "depth": 4, "width": 256, "recipe": "paper"},
    "agent": {"name": "crl"},
    "energy": {"name": "l2"},
    "loss": {"name": "infonce"},
    "relabeller": {"name": "geometric", "gamma": 0.99},
    "actor_goals": {"name": "future"},
    "train": {
        "total_env_steps": 100_000_000,
        "num_envs": 512,
        "unroll_length": 62,
        "updates_per_epoch": 800,
        "batch_size": 512,
        "fresh_resets": False,
    },
    "replay": {"capacity": 10_000, "min_filled": 1_000},
    "eval": {"every": 63, "num_envs": 128},
    "checkpoint": {"every": 1},
}


def paper_task(env: str, millions: int) -> dict[str, Any]:
    """The paper's run on one task (table 1): its budget, its depth-64 networks, its evaluation layout.

    The evaluation belongs to the environment (`evaluation()`), so it is not named here.
    """
    preset = {key: dict(value) for key, value in PAPER.items()}
    preset["env"] = {"name": env}
    preset["arch"]["depth"] = 64
    preset["train"]["total_env_steps"] = millions * 1_000_000
    return preset


PAPER_HUMANOID = paper_task("humanoid", 100)
PAPER_HUMANOID_U_MAZE = paper_task("humanoid-u-maze", 400)
PAPER_HUMANOID_BIG_MAZE = paper_task("humanoid-big-maze", 400)
PAPER_ANT_U4_MAZE = paper_task("ant-u4-maze", 100)
PAPER_ANT_U5_MAZE = paper_task("ant-u5-maze", 400)
PAPER_ANT_BIG_MAZE = paper_task("ant-big-maze", 100)
PAPER_ANT_HARDEST_MAZE = paper_task("ant-hardest-maze", 200)
PAPER_ARM_PUSH_EASY = paper_task("arm-push-easy", 100)
PAPER_ARM_PUSH_HARD = paper_task("arm-push-hard", 100)
PAPER_ARM_BINPICK_HARD = paper_task("arm-binpick-hard", 100)
