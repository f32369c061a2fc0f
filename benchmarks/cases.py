"""What is measured: algorithms, states and batches of a given size, and the compiled programs around them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks.baselines.plain_update import PlainUpdate
from eqcrl import epoch as ep
from eqcrl.agents.base import AbstractAgent, AgentState
from eqcrl.agents.crl import CRL
from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.epoch import Algorithm
from eqcrl.replay import Replay, empty, insert
from eqcrl.types import Batch, EnvSpec, Key, Metrics, Transition


def algorithm(depth: int, width: int = 256, batch_size: int = 256, **overrides: Any) -> Algorithm:
    """The quickstart with another network and small amounts; `overrides` uses `__` for the dot of a key."""
    settings = {
        "arch": f"resnet-{depth}",
        "arch.width": width,
        "train.batch_size": batch_size,
        "train.unroll_length": 4,
        "train.updates_per_epoch": 2,
        "replay.capacity": 1000,
        "replay.min_filled": 4,
    } | {key.replace("__", "."): value for key, value in overrides.items()}
    return assemble(complete(Config.load(overrides=settings))).algorithm


def plain(algorithm: Algorithm) -> Algorithm:
    """The same, learning by the plain update (see `benchmarks.baselines.plain_update`)."""
    return eqx.tree_at(
        lambda a: a.agent, algorithm, PlainUpdate(algorithm.agent), is_leaf=lambda node: isinstance(node, CRL)
    )


def agent_state(algorithm: Algorithm) -> AgentState:
    """Fresh networks and optimizers."""
    spec = spec_of(algorithm.env.env)
    return jax.jit(lambda key: algorithm.agent.init(spec, key=key))(jax.random.key(0))


def batch(algorithm: Algorithm) -> Batch:
    """Normally distributed numbers in the shapes of a batch."""
    spec, rows = spec_of(algorithm.env.env), algorithm.batch_size
    keys = jax.random.split(jax.random.key(1), 3)
    return Batch(
        jax.random.normal(keys[0], (rows, spec.observation_size)),
        jnp.tanh(jax.random.normal(keys[1], (rows, spec.action_size))),
        jax.random.normal(keys[2], (rows, spec.goal_size)),
    )


class Updates:
    """Gradient steps, each on the state that the last one left (donated).

    `within` steps are one program, as those of an epoch are; a call runs it `calls` times.
    """

    def __init__(
        self,
        agent: AbstractAgent,
        state: AgentState,
        batch: Batch,
        options: dict[str, Any] | None = None,
        *,
        within: int = 1,
        calls: int = 1,
    ):
        self.state, self.batch = state, batch
        self.metrics: Metrics = {}
        self.key = jax.random.key(2)
        self.calls, self.steps = calls, calls * within

        def several(state: AgentState, batch: Batch, key: Key) -> tuple[AgentState, Metrics]:
            keys = jax.random.split(key, within)
            state, metrics = jax.lax.scan(lambda state, key: agent.update(state, batch, key=key), state, keys)
            return state, jax.tree.map(lambda values: values[-1], metrics)

        def one(state: AgentState, batch: Batch, key: Key) -> tuple[AgentState, Metrics]:
            return agent.update(state, batch, key=key)

        program = jax.jit(one if within == 1 else several, donate_argnums=0)
        self.compiled = program.lower(state, batch, self.key).compile(compiler_options=options)

    def __call__(self) -> None:
        """The steps, finished on return."""
        for _ in range(self.calls):
            self.state, self.metrics = jax.block_until_ready(self.compiled(self.state, self.batch, self.key))


def epoch_compiler(
    algorithm: Algorithm,
    transform: Callable[[Any], Any] = lambda agent: agent,
    options: dict[str, Any] | None = None,
) -> Callable[[], Any]:
    """A function that traces and compiles the training epoch anew at each call, from shapes alone.

    `transform` is applied to the agent's state first, e.g. `unroll`. `options` are the compiler's.
    """

    def initial(key: Key) -> ep.TrainState:
        state = ep.init(algorithm, key=key)
        return ep.TrainState(transform(state.agent), state.replay, state.env, state.key, state.unrolls)

    shapes = jax.eval_shape(initial, jax.random.key(0))

    def compile_anew() -> Any:
        jax.clear_caches()
        lowered = jax.jit(lambda state: ep.epoch(algorithm, state), donate_argnums=0).lower(shapes)
        return lowered.compile(compiler_options=options)

    return compile_anew


def step_compiler(agent: AbstractAgent, state: Any, batch: Batch, options: dict[str, Any]) -> Callable[[], Any]:
    """A function that traces and compiles one gradient step anew at each call, from shapes alone."""
    shapes = jax.eval_shape(lambda: (state, batch, jax.random.key(0)))

    def compile_anew() -> Any:
        jax.clear_caches()
        step = jax.jit(lambda state, batch, key: agent.update(state, batch, key=key), donate_argnums=0)
        return step.lower(*shapes).compile(compiler_options=options)

    return compile_anew


def memory(compiled: Any) -> dict[str, int]:
    """Bytes of arguments, results, those of the results written over arguments, and temporaries."""
    found = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "in_place": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
    }


def steps(spec: EnvSpec, length: int, num_envs: int, episode_length: int, start: int = 0) -> Transition:
    """`length` transitions from time `start` on, in episodes whose ends differ from environment to environment."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(3), start), 3)
    time = start + jnp.arange(length)[:, None]
    return Transition(
        jax.random.normal(keys[0], (length, num_envs, spec.observation_size)),
        jax.random.uniform(keys[1], (length, num_envs, spec.action_size), minval=-1.0),
        jax.random.normal(keys[2], (length, num_envs, spec.goal_size)),
        (time + 7 * jnp.arange(num_envs)) // episode_length,
        jnp.zeros((length, num_envs, spec.goal_size)),
        jnp.zeros((length, num_envs), bool),
    )


def full_replay(spec: EnvSpec, capacity: int, num_envs: int, episode_length: int) -> Replay:
    """A replay that has just wrapped."""
    first = steps(spec, capacity, num_envs, episode_length)
    more = steps(spec, capacity // 4, num_envs, episode_length, start=capacity)
    return insert(insert(empty(spec, capacity, num_envs), first), more)


class RandomPolicy(AbstractAgent):
    """Uniform actions that cost next to nothing, to time an environment by itself."""

    action_size: int

    def init(self, spec: EnvSpec, *, key: Key) -> AgentState:
        """Nothing is learned."""
        return ()

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """U(-1, 1)."""
        return jax.random.uniform(key, (observation.shape[0], self.action_size), minval=-1.0)

    def act_deterministic(
        self, state: AgentState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """The mean of U(-1, 1)."""
        return jnp.zeros((observation.shape[0], self.action_size))

    def update(self, state: AgentState, batch: Batch, *, key: Key) -> tuple[AgentState, Metrics]:
        """Nothing is learned."""
        return state, {}

    def parameter_counts(self, state: AgentState) -> dict[str, int]:
        """None."""
        return {}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """None."""
        return 0
