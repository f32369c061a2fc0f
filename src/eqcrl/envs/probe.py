"""What the checks of the environment contract are made of: samples of an environment, and ways to compare."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from eqcrl.envs.base import AbstractEnv, State
from eqcrl.types import Key

RESETS = 256
STEPS = 300


class Violation(Exception):
    """`Violation(what, mend)`: what breaks the contract, and how to mend it."""

    def __str__(self) -> str:
        return " ".join(self.args)


class Probe:
    """The environment under test, and samples of it that several checks share."""

    def __init__(self, env: AbstractEnv, seed: int):
        self.env = env
        self.key = jax.random.key(seed)

    def keys(self, purpose: str, count: int) -> Shaped[Array, "count"]:
        """Random keys of one check, apart from those of every other."""
        return jax.random.split(jax.random.fold_in(self.key, zlib.crc32(purpose.encode())), count)

    @cached_property
    def start(self) -> Any:
        """One reset, not compiled: (state, goal) where `reset` passed."""
        return self.env.reset(self.key)

    @cached_property
    def starts(self) -> tuple[State, Float[Array, "resets goal"], Float[Array, "resets goal"]]:
        """Many resets: states, desired goals, achieved goals."""
        state, goal = over(self.env.reset, self.keys("starts", RESETS))
        return state, goal, over(self.env.achieved_goal, state)

    @cached_property
    def actions(self) -> Float[Array, "steps action"]:
        """A third uniform, a third corners of the box held for ten steps, a third a new corner every step."""
        shape, third = (STEPS // 3, self.env.action_size), STEPS // 3
        uniform, held, rapid = self.keys("actions", 3)
        anything = jax.random.uniform(uniform, shape, minval=-1.0)
        slow = jnp.repeat(_corners(held, (-(-third // 10), shape[1])), 10, axis=0)[:third]
        return jnp.concatenate([anything, slow, _corners(rapid, shape)])


def _corners(key: Key, shape: tuple[int, ...]) -> Array:
    return jnp.where(jax.random.bernoulli(key, shape=shape), 1.0, -1.0)


@dataclass(frozen=True)
class Check:
    """One rule of the contract, the checks it builds on, and how to test it."""

    name: str
    description: str
    needs: tuple[str, ...]
    run: Callable[[Probe], str | None]


def check(*needs: str) -> Callable[[Callable[[Probe], str | None]], Check]:
    """Turns a function into a check: its name and first line become those of the check."""

    def decorate(run: Callable[[Probe], str | None]) -> Check:
        return Check(run.__name__.replace("_", "-"), (run.__doc__ or "").strip().rstrip("."), needs, run)

    return decorate


def over(function: Callable[..., Any], *stacked: Any) -> Any:
    """The function on each row, compiled once, by a loop: without `vmap`, which has a check of its own."""
    return jax.jit(lambda rows: jax.lax.map(lambda row: function(*row), rows))(stacked)


def numbers(leaf: Any) -> np.ndarray:
    """Plain numbers of an array, random keys included."""
    keys = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf)


def difference(one: Any, other: Any, tolerance: float) -> str | None:
    """Where two pytrees of one structure differ by more than the tolerance, absolute and relative."""
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        a, b = numbers(a), numbers(b)
        # What an engine hides may be the bits of floats, which say nothing of how far apart they are.
        if tolerance and jax.tree_util.keystr(path).endswith(".hidden"):
            continue
        slack = tolerance if np.issubdtype(a.dtype, np.inexact) else 0.0
        if a.shape != b.shape or not np.allclose(a, b, rtol=slack, atol=slack, equal_nan=True):
            return f"{jax.tree_util.keystr(path) or 'it'} was {short(a)} and {short(b)}"
    return None


def short(x: np.ndarray) -> str:
    """A few numbers on one line, for messages."""
    return np.array2string(x, precision=4, threshold=6).replace("\n", " ")


def vector(x: Any, method: str) -> None:
    """Raises Violation unless x is a one-dimensional float32 array."""
    if not eqx.is_array(x) or x.ndim != 1 or x.size == 0 or x.dtype != jnp.float32:
        raise Violation(
            f"`{method}` gave {kind(x)}.",
            "Return a one-dimensional float32 array with at least one "
            "number, e.g. by `jnp.concatenate` or `jnp.atleast_1d`.",
        )


def scalar(x: Any, method: str, dtype: Any) -> None:
    """Raises Violation unless x is a scalar array of that dtype."""
    if not eqx.is_array(x) or x.ndim != 0 or x.dtype != dtype:
        name = jnp.dtype(dtype).name
        raise Violation(
            f"`{method}` gave {kind(x)}.",
            f"Return a scalar {name} array, e.g. `jnp.asarray(...)`; "
            "for a vector reduce it, e.g. by `jnp.linalg.norm` or `jnp.all`.",
        )


def kind(x: Any) -> str:
    """What x is, for messages."""
    return f"an array {x.dtype.name}{list(x.shape)}" if eqx.is_array(x) else f"a {type(x).__name__}"


def one_step(probe: Probe, env: AbstractEnv) -> dict[str, Any]:
    """What every method of the dynamics gives for one key and action."""
    state, goal = env.reset(probe.key)
    after = env.step(state, probe.actions[0], probe.key)
    achieved = env.achieved_goal(after)
    return {
        "reset": (state, goal),
        "step": after,
        "observation": env.observation(after),
        "achieved_goal": achieved,
        "goal_distance": env.goal_distance(achieved, goal),
        "terminated": env.terminated(after),
    }


def compare(one: dict[str, Any], other: dict[str, Any], what: str, mend: str, tolerance: float) -> None:
    """Raises Violation for the first method whose results differ."""
    for method in one:
        found = difference(one[method], other[method], tolerance)
        if found is not None:
            raise Violation(f"`{method}` {what}: {found}.", mend)


def constant(rows: Array | np.ndarray) -> bool:
    """Whether all rows are equal."""
    plain = numbers(rows)
    return bool(np.array_equal(plain, np.broadcast_to(plain[:1], plain.shape), equal_nan=plain.dtype.kind == "f"))
