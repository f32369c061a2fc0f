"""A run of a MuJoCo task as training leaves it, without the training: an untrained policy and one evaluation."""

from pathlib import Path

import jax

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import assemble
from eqcrl.rundir import RunDir
from helpers import METRICS, tiny


def reacher_run(path: Path) -> Path:
    """The run directory; episodes have 12 steps of 0.04 s."""
    config = tiny(env="reacher", env__episode_length=12)
    directory = RunDir.create(path, config, {})
    state = ep.init(assemble(config).algorithm, key=jax.random.key(0))
    checkpoint.save(directory.checkpoints, state, {"config": config.to_toml(), "wall_seconds": 0.0})
    directory.append_metrics(dict.fromkeys(METRICS, 1.0))
    directory.append_metrics(dict.fromkeys(METRICS, 2.0))
    return path
