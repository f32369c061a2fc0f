"""The policy as a StableHLO program, loaded by `jax.export.deserialize`."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from eqcrl.export.extra import require
from eqcrl.export.policy import BATCH, Policy

PLATFORMS = ("cpu", "cuda")


def write(policy: Policy, path: Path) -> None:
    """A program for any number of rows on CPUs and NVIDIA GPUs, the weights inside.

    Raises: UsageError without the package for it; OSError.
    """
    require("flatbuffers")
    (rows,) = jax.export.symbolic_shape(BATCH)
    path.write_bytes(_exported(policy, rows).serialize())


def _exported(policy: Policy, rows: Any) -> jax.export.Exported:
    weights = [jax.numpy.asarray(w) for w in policy.weights.values()]
    eqcrl_policy = functools.partial(policy.act, weights)
    program = jax.jit(lambda observation, desired_goal: eqcrl_policy(observation, desired_goal))
    return jax.export.export(program, platforms=PLATFORMS)(*policy.inputs(rows))


def read(path: Path, observation: Float[np.ndarray, "rows o"], goal: Float[np.ndarray, "rows g"]) -> np.ndarray:
    """The actions of the program in a file."""
    return np.asarray(jax.export.deserialize(bytearray(path.read_bytes())).call(observation, goal))
