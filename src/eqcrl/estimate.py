"""How long a run will take on the device at hand: a few of its steps, timed, and multiplied out."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from eqcrl import replay as rb
from eqcrl.assemble import System, assemble, build_part
from eqcrl.config import PART_KINDS, Config, Part
from eqcrl.envs.base import spec_of
from eqcrl.nn.resnet import ResNet
from eqcrl.plan import Plan
from eqcrl.programs import compiler_options
from eqcrl.progress import human_seconds
from eqcrl.rollout import rollout
from eqcrl.types import Batch, Key

ROLLOUT = 4
"""Steps of the timed rollout; each moves every environment."""
SECONDS = 1.0
"""For how long a program is called again and again, after a first call that does not count."""
DEEP, SHARES = 32, (1 / 32, 1 / 8)
"""Networks deeper than the first are timed at two shares of their depth, and the rest follows along a line: blocks are
equal. Closer together or shallower, the line would multiply what little the machine is disturbed."""


@dataclass(frozen=True)
class Estimate:
    """Seconds, without compiling; an estimate from short measurements."""

    update: float
    """Of one gradient step."""
    env_step: float
    """Of one step of all training environments, the policy included."""
    depths: tuple[int, ...] = ()
    """Depths that were timed where the networks are so deep that the rest was extrapolated."""

    def total(self, config: Config, plan: Plan, episode_length: int) -> float:
        """Of the whole run with its evaluations; evaluations cost what as many training steps cost."""
        share = config.eval.num_envs / config.train.num_envs
        evaluations = -(-plan.epochs // config.eval.every)
        steps = plan.env_steps / config.train.num_envs + evaluations * episode_length * share
        return plan.grad_steps * self.update + steps * self.env_step


def estimate(config: Config, system: System, seeds: int = 1) -> Estimate:
    """Time the run's own programs on its own sizes, replay apart; those of so many seeds side by side."""
    deepest = max((d for d in _depths(config).values()), default=0)
    if deepest <= DEEP:
        return Estimate(*_measure(system, config, seeds))
    shrunk = [_at_share(config, share) for share in SHARES]
    depths = [max(_depths(c).values()) for c in shrunk]
    measured = [_measure(assemble(c), config, seeds) for c in shrunk]
    update, env_step = (_line([d / deepest for d in depths], [m[i] for m in measured]) for i in (0, 1))
    return Estimate(update, env_step, tuple(depths))


def estimate_text(config: Config, plan: Plan, found: Estimate, episode_length: int) -> str:
    """The estimate in a sentence."""
    updates = 1 / found.update
    rate = f"{updates:,.0f}" if updates >= 100 else f"{updates:.3g}"
    how = f", from depths {' and '.join(map(str, found.depths))}" if found.depths else ""
    how += f", of each of the {plan.seeds} seeds" if plan.seeds > 1 else ""
    return (
        f"Estimated time on this device: {human_seconds(found.total(config, plan, episode_length))}, compiling apart "
        f"({rate} gradient steps/s{how}; {config.train.num_envs / found.env_step:,.0f} environment "
        "steps/s with the policy)."
    )


def _depths(config: Config) -> dict[str, int]:
    parts = {f: getattr(config, f) for f, kind in PART_KINDS.items() if kind == "arch"}
    return {f: p.params["depth"] for f, p in parts.items() if p is not None and "depth" in p.params}


def _at_share(config: Config, share: float) -> Config:
    """The configuration with every network at that share of its depth, a multiple of four."""
    changed = {}
    for field, depth in _depths(config).items():
        part = getattr(config, field)
        params = part.params | {"depth": max(4, 4 * round(depth * share / 4))}
        whole = build_part(field, part)
        if isinstance(whole, ResNet):
            params["remat"] = whole.remat_policy()  # that of the whole depth
        changed[field] = Part(part.name, params)
    return config.replace(**changed)


def _line(at: list[float], values: list[float]) -> float:
    """The value at 1 of the line through two points; noise may not make it fall."""
    slope = max((values[1] - values[0]) / (at[1] - at[0]), 0.0)
    return values[1] + slope * (1.0 - at[1])


def _measure(system: System, config: Config, seeds: int) -> tuple[float, float]:
    """Seconds of a gradient step, and of a step of all environments, of all seeds at once."""
    algorithm, key = system.algorithm, jax.random.key(0)
    spec = spec_of(algorithm.env.env)
    options = compiler_options(system)

    def each(function: Callable[..., Any]) -> Callable[..., Any]:
        return function if seeds == 1 else jax.vmap(function)

    key = key if seeds == 1 else jax.random.split(key, seeds)
    state = jax.jit(each(lambda key: algorithm.agent.init(spec, key=key)))(key)
    envs = jax.jit(each(algorithm.env.reset), compiler_options=options)(key)
    batch = _batch(system, config.train.batch_size)

    def update(state: Any, key: Key) -> Any:
        return algorithm.agent.update(state, batch, key=key)[0]

    def steps(carry: Any, key: Key) -> Any:
        agent, envs = carry
        envs, seen = rollout(algorithm.env, algorithm.agent, agent, envs, ROLLOUT, key=key)
        # Something of every step must be asked for, or the compiler leaves out what only the replay would use.
        return agent, envs, sum(jnp.sum(x.astype(float)) for x in jax.tree.leaves(seen))

    step = _seconds(jax.jit(each(steps), compiler_options=options), (state, envs), key)
    return _seconds(jax.jit(each(update), compiler_options=options), state, key), step / ROLLOUT


def _batch(system: System, rows: int) -> Batch:
    """Numbers in [-1, 1] in the shapes of what the agent learns from."""
    algorithm = dataclasses.replace(system.algorithm, batch_size=rows)

    def drawn(key: Key) -> Batch:
        return algorithm.sample(rb.empty(spec_of(algorithm.env.env), 2, algorithm.env.num_envs), key=key)

    def numbers(shape: Any) -> Any:
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            return jnp.ones(shape.shape, shape.dtype)
        return jax.random.uniform(jax.random.key(1), shape.shape, minval=-1.0)

    return jax.tree.map(numbers, jax.eval_shape(drawn, jax.random.key(0)))


def _seconds(program: Callable[[Any, Any], Any], start: Any, key: Any) -> float:
    """The shortest of several calls: what else runs on the machine only adds."""
    jax.block_until_ready(program(start, key))
    best, began = float("inf"), time.monotonic()
    while time.monotonic() - began < SECONDS or best == float("inf"):
        at = time.perf_counter()
        jax.block_until_ready(program(start, key))
        best = min(best, time.perf_counter() - at)
    return best
