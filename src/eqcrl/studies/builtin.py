"""The studies that come with eqcrl: a TOML file each, beside this module."""

from pathlib import Path


def _file(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.toml")


DEPTH = _file("depth")
WIDTH = _file("width")
ACTOR_CRITIC_GRID = _file("actor-critic-grid")
BATCH_SIZE = _file("batch-size")
RESIDUAL = _file("residual")
NORM_ACTIVATION = _file("norm-activation")
COLLECTOR_LEARNER = _file("collector-learner")
STITCHING = _file("stitching")
LIMITS = _file("limits")
BASELINES = _file("baselines")
HYPERSPHERICAL = _file("hyperspherical")
RESIDUAL_NORMS = _file("residual-norms")
Q_MAP = _file("q-map")
EMBEDDINGS = _file("embeddings")
HORIZON = _file("horizon")
BEYOND = _file("beyond")
