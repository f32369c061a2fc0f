"""The compiled programs of a run: made once, ahead of time, so that compiling has a time and nothing recompiles."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from eqcrl import compile_cache
from eqcrl import epoch as ep
from eqcrl.assemble import System
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.evaluate import Episodes, Record, run_episodes, score
from eqcrl.plan import state_shapes
from eqcrl.types import Key, Metrics

Evaluate = Callable[[Any, Key], tuple[Metrics, Episodes]]


@dataclass(frozen=True)
class Programs:
    """Compiled functions; `collect` and `epoch` consume the state they are given (its buffers are donated).

    Those of several seeds have one more axis, the first one, over the seeds: in keys, states, metrics and episodes.
    """

    init: Callable[[Key], ep.TrainState]
    collect: Callable[[ep.TrainState], ep.TrainState]
    epoch: Callable[[ep.TrainState], tuple[ep.TrainState, Metrics]]
    evaluate: Evaluate
    finite: Callable[[Any], Any]
    """For an agent's state, whether each leaf is finite: the same tree with booleans."""
    compile_seconds: dict[str, float]
    lane: Callable[[ep.TrainState, Any], ep.TrainState] | None = None
    """A copy of the state of one of several seeds, by its place; None for a single one."""


def compiler_options(system: System) -> dict[str, Any]:
    """What XLA should be told for programs with the environments of this system."""
    options: dict[str, Any] = {}
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


def compile_programs(system: System, seeds: int | None = None) -> Programs:
    """Trace and compile everything that a training run calls; what was compiled before is read from the cache.

    With a number of `seeds`, for so many runs side by side: each program is that of one run under `jax.vmap`.
    """
    compile_cache.turn_on()
    algorithm = system.algorithm
    key, shapes = jax.eval_shape(lambda: jax.random.key(0)), state_shapes(system)
    options = compiler_options(system)
    seconds: dict[str, float] = {}

    def compiled(name: str, function: Callable[..., Any], *args: Any, donate: bool = False) -> Any:
        start = time.monotonic()
        jitted = jax.jit(function, donate_argnums=(0,) if donate else ())
        program = jitted.lower(*args).compile(compiler_options=options)
        seconds[name] = time.monotonic() - start
        return program

    def each(name: str, function: Callable[..., Any], *args: Any, donate: bool = False) -> Any:
        return compiled(name, function if seeds is None else jax.vmap(function), *args, donate=donate)

    lane = None
    if seeds is not None:
        key, shapes = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), x), (key, shapes))
        one = jax.ShapeDtypeStruct((), jnp.int32)
        lane = compiled("lane", lambda state, place: jax.tree.map(lambda leaf: leaf[place], state), shapes, one)
    return Programs(
        init=each("init", lambda key: ep.init(algorithm, key=key), key),
        collect=each("collect", lambda state: ep.collect(algorithm, state), shapes, donate=True),
        epoch=each("epoch", lambda state: ep.epoch(algorithm, state), shapes, donate=True),
        evaluate=each("evaluate", evaluation(system), shapes.agent, key),
        finite=each("finite", lambda agent: jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), agent), shapes.agent),
        compile_seconds=seconds,
        lane=lane,
    )
