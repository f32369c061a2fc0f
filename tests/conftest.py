"""Shared by all tests: run-time shape checks of eqcrl, JAX on the CPU, and float64 NumPy references."""

# ruff: noqa: E402  (imports come after the hook on purpose)

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

# These are read at import, and a test must neither grab an accelerator nor open a window.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# LLVM's optimizations take half of the time of a test that compiles something small and runs it once, the emitters
# of fusions a sixth.
QUICK_COMPILE = ["--xla_backend_optimization_level=0"]
if tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2]) < (0, 11):  # later ones do not know it
    QUICK_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*QUICK_COMPILE, os.environ.get("XLA_FLAGS", "")]).strip()
# The user's folder of compiled programs is not for tests. They share one of their own, workers and commands in
# processes of their own alike: many train the same small thing. Whoever makes it clears it away.
if "EQCRL_COMPILE_CACHE" not in os.environ:
    os.environ["EQCRL_COMPILE_CACHE"] = tempfile.mkdtemp(prefix="eqcrl-tests-")
    atexit.register(shutil.rmtree, os.environ["EQCRL_COMPILE_CACHE"], ignore_errors=True)

from jaxtyping import install_import_hook

# Before any import of eqcrl: from here on every annotated shape in it is checked by beartype when it is called.
# The numeric tower: an int is welcome where a float is asked for (PEP 484).
install_import_hook("eqcrl", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.types import Key

# No deadline: the first example of a shape compiles. Examples repeat between runs in CI, and vary on a desk.
hypothesis.settings.register_profile("eqcrl", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("eqcrl"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "eqcrl")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` says
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what thorough.txt lists."""
    lines = Path(__file__).with_name("thorough.txt").read_text().splitlines()
    listed = tuple(line for line in lines if line and not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(listed):
            item.add_marker(pytest.mark.thorough)


def _float64(tree: Any) -> Any:
    """The same pytree with float64 NumPy leaves."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def _numpy_norm_swish(z: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6) * scale + shift
    return z / (1.0 + np.exp(-z))


def _numpy_resnet(trunk: Any, x: np.ndarray) -> np.ndarray:
    """The paper's trunk written out: stem, then blocks of four layers with the identity after the last activation."""
    x = _numpy_norm_swish(x @ trunk.stem.weight + trunk.stem.bias, trunk.norm.scale, trunk.norm.shift)
    residual = trunk.blocks.blocks
    branch = residual.branch
    for weights, biases, scales, shifts in zip(branch.weight, branch.bias, branch.scale, branch.shift, strict=True):
        h = x
        for weight, bias, scale, shift in zip(weights, biases, scales, shifts, strict=True):
            h = _numpy_norm_swish(h @ weight + bias, scale, shift)
        x = x + residual.scale * h
    return x


def _slope(function: Callable[[Any], float], point: Any, direction: Any, step: float = 1e-5) -> float:
    """d/de function(point + e direction) at e = 0 by central differences in float64."""

    def at(distance: float) -> float:
        return float(function(jax.tree.map(lambda p, d: p + distance * d, point, direction)))

    return (at(step) - at(-step)) / (2 * step)


@pytest.fixture(scope="session")
def float64() -> Callable[[Any], Any]:
    """Turns the leaves of a pytree into float64 NumPy arrays."""
    return _float64


@pytest.fixture(scope="session")
def numpy_resnet() -> Callable[[Any, np.ndarray], np.ndarray]:
    """(float64 trunk, input) -> features, in NumPy."""
    return _numpy_resnet


@pytest.fixture(scope="session")
def slope() -> Callable[..., float]:
    """(function, point, direction) -> directional derivative by central differences."""
    return _slope


class Plank(AbstractEnv):
    """A walker on the line that falls off beyond |x| >= 1: an environment that terminates.

    x moves by 0.25 m per unit of action plus `wind` times a normal draw; it starts within 0.5 m of `center`.
    """

    action_size: int = eqx.field(default=1, static=True)
    episode_length: int = eqx.field(default=10, static=True)
    success_radius: float = eqx.field(default=0.2, static=True)
    wind: float = eqx.field(default=0.0, static=True)
    center: float = eqx.field(default=0.0, static=True)

    def reset(self, key: Key) -> tuple[Float[Array, ""], Float[Array, "goal"]]:
        start_key, goal_key = jax.random.split(key)
        start = self.center + jax.random.uniform(start_key, minval=-0.5, maxval=0.5)
        return start, jax.random.uniform(goal_key, (1,), minval=-1.0, maxval=1.0)

    def step(self, state: Float[Array, ""], action: Float[Array, "action"], key: Key) -> Float[Array, ""]:
        return state + 0.25 * action[0] + self.wind * jax.random.normal(key)

    def terminated(self, state: Float[Array, ""]) -> Bool[Array, ""]:
        return jnp.abs(state) >= 1.0

    def observation(self, state: Float[Array, ""]) -> Float[Array, "observation"]:
        return state[None]

    def achieved_goal(self, state: Float[Array, ""]) -> Float[Array, "goal"]:
        return state[None]

    def goal_distance(self, achieved_goal: Float[Array, "goal"], desired_goal: Float[Array, "goal"]) -> Array:
        return jnp.abs(achieved_goal - desired_goal)[0]

    def goal_reachable(self, state: Float[Array, ""], desired_goal: Float[Array, "goal"]) -> Bool[Array, ""]:
        return jnp.abs(desired_goal[0]) <= 1.0

    def evaluation(self) -> "Plank":
        return self

    def top_view(self) -> TopView | None:
        return None


@pytest.fixture(scope="session")
def plank() -> type[Plank]:
    """The class of an environment that terminates."""
    return Plank
