"""The compiled programs of a run: made once, ahead of time, so that compiling has a time and nothing recompiles."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from eqcrl import compile_cache
from eqcrl import epoch as ep
from eqcrl import replay as rb
from eqcrl.assemble import System
from eqcrl.envs.base import spec_of
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.evaluate import Episodes, Record, run_episodes, score
from eqcrl.parallel import ONE, WHOLE, Placement
from eqcrl.plan import state_shapes
from eqcrl.types import Key, Metrics, Transition

Evaluate = Callable[[Any, Key], tuple[Metrics, Episodes]]

LARGE_UPDATE = 128 * 2**20
"""Bytes of gradients and activations, estimated, that an update has to need for another order of work."""


@dataclass(frozen=True)
class Programs:
    """Compiled functions; `collect` and `epoch` consume the state they are given (its buffers are donated).

    Those of several seeds have one more axis, the first one, over the seeds: in keys, states, metrics and episodes.
    """

    init: Callable[[Key], ep.TrainState]
    collect: Callable[[ep.TrainState], ep.TrainState]
    epoch: Callable[[ep.TrainState], tuple[ep.TrainState, Metrics]]
    evaluate: Evaluate
    rows: Callable[[rb.Replay, Any], Transition]
    """A copy of the rows of an unroll in the replay, by the time of the first one: what a checkpoint lacks."""
    compile_seconds: dict[str, float]


def update_options(algorithm: ep.Algorithm) -> dict[str, Any]:
    """What XLA should be told on a CPU for the update of these networks, by measurement; see docs/decisions.md.

    Vectors as long as the processor has them, and fewer copies at the borders of loops. Beside that, the order of work.
    XLA's own is breadth first, for operations that can run side by side, and holds on to more arrays. Where gradients
    are what fills the memory (deep networks whose blocks are recomputed) the other order takes less time too; where
    activations do, they are there in either order.
    """
    known = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2]) == (0, 10)
    if not known or jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
    agent, spec = algorithm.agent, spec_of(algorithm.env.env)
    counts = agent.parameter_counts(jax.eval_shape(lambda: agent.init(spec, key=jax.random.key(0))))
    working, parameters = 4 * agent.working_floats(spec, algorithm.batch_size), 4 * sum(counts.values())
    in_little = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    return options | (in_little if LARGE_UPDATE <= working <= 2 * parameters else {})


def compiler_options(system: System) -> dict[str, Any]:
    """What XLA should be told for programs with the environments and networks of this system."""
    options = update_options(system.algorithm)
    for env in (system.algorithm.env.env, system.eval_env):
        if isinstance(env, AbstractMujocoEnv):
            options |= env.engine().compiler_options()
    return options


def evaluation(
    system: System, *, deterministic: bool = True, episodes: int | None = None, record: Record | None = None
) -> Evaluate:
    """The evaluation of an agent's state under a key, not yet compiled: scores, and what happened."""
    count = system.eval_episodes if episodes is None else episodes

    def evaluate(agent_state: Any, key: Key) -> tuple[Metrics, Episodes]:
        ran = run_episodes(
            system.eval_env,
            system.algorithm.agent,
            agent_state,
            count,
            key=key,
            deterministic=deterministic,
            record=record,
        )
        return score(ran), ran

    return evaluate


def compile_programs(system: System, seeds: int | None = None, placement: Placement = ONE) -> Programs:
    """Trace and compile everything that a training run calls; what was compiled before is read from the cache.

    With a number of `seeds`, for so many runs side by side: each program is that of one run under `jax.vmap`. With a
    `placement`, for its devices; what `epoch`, `collect` and `evaluate` are given must lie where it says.
    """
    compile_cache.turn_on()
    algorithm = system.algorithm
    key, shapes = jax.eval_shape(lambda: jax.random.key(0)), state_shapes(system)
    options = compiler_options(system)
    seconds: dict[str, float] = {}

    def rows(replay: rb.Replay, start: Array) -> Transition:
        return rb.rows(replay, start, algorithm.unroll_length)

    def compiled(name: str, function: Callable[..., Any], *args: Any, out: Any = WHOLE, donate: bool = False) -> Any:
        began = time.monotonic()
        lowered = placement.lower(function, *args, out=out, donate=donate)
        program = lowered.compile(compiler_options=options)
        seconds[name] = time.monotonic() - began
        return program

    def each(name: str, function: Callable[..., Any], *args: Any, **how: Any) -> Any:
        return compiled(name, function if seeds is None else jax.vmap(function), *args, **how)

    start = jax.ShapeDtypeStruct((), jnp.int32)
    if seeds is not None:
        key, shapes = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), x), (key, shapes))
    return Programs(
        init=each("init", lambda key: ep.init(algorithm, key=key), key, out=shapes),
        collect=each("collect", lambda state: ep.collect(algorithm, state), shapes, out=shapes, donate=True),
        epoch=each("epoch", lambda state: ep.epoch(algorithm, state), shapes, out=(shapes, WHOLE), donate=True),
        evaluate=each("evaluate", evaluation(system), shapes.agent, key),
        rows=compiled(
            "rows",
            rows if seeds is None else jax.vmap(rows, in_axes=(0, None)),
            shapes.replay,
            start,
            out=shapes.replay.data,
        ),
        compile_seconds=seconds,
    )
