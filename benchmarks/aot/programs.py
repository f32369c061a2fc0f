"""What is compiled: the gradient step and the epoch, as different people would write the network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import cases
from benchmarks.aot.hlo import Launches
from benchmarks.aot.plain import plain
from benchmarks.baselines.unrolled import unroll
from eqcrl import epoch as ep
from eqcrl.epoch import Algorithm
from eqcrl.types import Batch, EnvSpec

WIDTH, BATCH = 256, 512
HUMANOID = EnvSpec(268, 17, 3)
UPDATES = 41
"""Gradient steps of the epoch: no other loop has this many trips, which is how the one over updates is found."""


@dataclass(frozen=True)
class Variant:
    """One way to write the update: settings over those of `cases.algorithm`, what is done to the algorithm that they
    make, and what is done to its agent's state."""

    about: str
    settings: dict[str, Any] = field(default_factory=dict)
    algorithm: Callable[[Algorithm], Algorithm] = lambda algorithm: algorithm
    state: Callable[[Any], Any] = lambda state: state
    deepest: int | None = None
    """Compiled up to this depth unless asked for by name."""


VARIANTS = {
    "unrolled": Variant("a Python loop over layers, plain update", algorithm=cases.plain, state=unroll, deepest=64),
    "scan": Variant("one scan, plain autodiff and update", algorithm=cases.plain, state=partial(plain, keep="all")),
    "scan-dots": Variant(
        "one scan, autodiff that keeps matrix products, plain update",
        algorithm=cases.plain,
        state=partial(plain, keep="dots"),
    ),
    "merged": Variant("the library's schedule for a CPU", {"agent__schedule": "merged"}),
    # On a machine without an accelerator `auto` would mean the other one.
    "ours": Variant("the library's schedule for an accelerator", {"agent__schedule": "abreast"}),
}


@dataclass(frozen=True)
class Program:
    """A function whose first argument is donated, the shapes it takes, and how to count one gradient step in it."""

    function: Callable[..., Any]
    shapes: tuple[Any, ...]
    per_step: Callable[[Launches], int]


def gradient_step(variant: Variant, depth: int) -> Program:
    """`agent.update` at the sizes of a humanoid."""
    agent = variant.algorithm(cases.algorithm(depth, WIDTH, BATCH, **variant.settings)).agent
    state = jax.eval_shape(lambda key: variant.state(agent.init(HUMANOID, key=key)), jax.random.key(0))
    sizes = (HUMANOID.observation_size, HUMANOID.action_size, HUMANOID.goal_size)
    batch = jax.eval_shape(lambda: Batch(*[jnp.zeros((BATCH, size)) for size in sizes]))
    key = jax.eval_shape(lambda: jax.random.key(0))
    return Program(
        lambda state, batch, key: agent.update(state, batch, key=key),
        (state, batch, key),
        lambda found: found.total,
    )


def epoch(variant: Variant, depth: int) -> Program:
    """The whole epoch in a point maze: rollout, insertion, sampling, updates; a step is one trip of the last loop."""
    algorithm = variant.algorithm(
        cases.algorithm(depth, WIDTH, BATCH, train__updates_per_epoch=UPDATES, **variant.settings)
    )

    def initial(key: Any) -> ep.TrainState:
        state = ep.init(algorithm, key=key)
        return ep.TrainState(variant.state(state.agent), state.replay, state.env, state.key, state.unrolls)

    shapes = jax.eval_shape(initial, jax.random.key(0))
    return Program(lambda state: ep.epoch(algorithm, state), (shapes,), one_update)


def one_update(found: Launches) -> int:
    """What one trip of the loop over updates launches. Raises: ValueError if no loop or several have its trips."""
    loops = [loop for loop in found.all_loops() if loop.trips == UPDATES]
    if len(loops) != 1:
        raise ValueError(f"{len(loops)} loops have {UPDATES} trips; which of them is the one over updates?")
    return loops[0].body.total


PROGRAMS: dict[str, Callable[[Variant, int], Program]] = {"gradient-step": gradient_step, "epoch": epoch}
