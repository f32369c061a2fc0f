"""Many copies of one environment: batched, cut at the time limit, reset on their own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqcrl import spread
from eqcrl.envs.base import AbstractEnv, State
from eqcrl.types import Key


class BatchState(eqx.Module):
    """The state of all copies."""

    physics: State
    desired_goal: Float[Array, "envs goal"]
    elapsed: Int[Array, "envs"]
    """Steps taken in the current episode."""
    episode: Int[Array, "envs"]
    """Episodes finished so far by this copy."""
    broken: Int[Array, ""]
    """Resets so far, over all copies, of physics that diverged."""
    first: tuple[Any, Float[Array, "envs goal"]] | None
    """Start and goal of the first episode, kept only where every episode repeats them."""


class StepResult(eqx.Module):
    """What a step led to, taken before any reset."""

    next_achieved_goal: Float[Array, "envs goal"]
    terminated: Bool[Array, "envs"]
    truncated: Bool[Array, "envs"]


class BatchedEnv(eqx.Module):
    """`num_envs` copies with time limit and auto-reset.

    `terminated` (the environment ended the episode) and `truncated` (time ran out and it did not) are kept
    apart; either starts a new episode. A copy whose state is no longer a number is truncated too: it repeats the
    goal it achieved last, is counted in `broken`, and begins anew, so nothing of it reaches replay or networks.
    `fresh_resets` draws a new start and goal for each episode, else every copy repeats its first ones for the whole
    run, as the paper's released code does.
    """

    env: AbstractEnv
    num_envs: int = eqx.field(static=True)
    fresh_resets: bool = eqx.field(static=True, default=True)

    def reset(self, key: Key) -> BatchState:
        """All copies at the start of their first episode."""
        physics, goal = spread.by_rows(jax.vmap(self.env.reset), jax.random.split(key, self.num_envs))
        zeros = jnp.zeros(self.num_envs, jnp.int32)
        # A copy, because a buffer that is donated may stand in the state only once.
        first = None if self.fresh_resets else jax.tree.map(jnp.copy, (physics, goal))
        return BatchState(physics, goal, zeros, zeros.copy(), jnp.zeros((), jnp.int32), first)

    def observation(self, state: BatchState) -> Float[Array, "envs observation"]:
        """What the agent sees of each copy."""
        return spread.by_rows(jax.vmap(self.env.observation), state.physics)

    def step(self, state: BatchState, action: Float[Array, "envs action"], key: Key) -> tuple[BatchState, StepResult]:
        """One control step of all copies; copies whose episode ended stand at a start afterwards."""
        step_key, reset_key = jax.random.split(key)
        keys = jax.random.split(step_key, self.num_envs)
        physics = spread.by_rows(jax.vmap(self.env.step), state.physics, action, keys)
        broken = not_a_number(physics)
        physics = select(broken, state.physics, physics)
        achieved = spread.by_rows(jax.vmap(self.env.achieved_goal), physics)
        terminated = spread.by_rows(jax.vmap(self.env.terminated), physics) & ~broken
        elapsed = state.elapsed + 1
        truncated = ((elapsed >= self.env.episode_length) | broken) & ~terminated
        done = terminated | truncated
        physics, goal = self._begin_anew(done, state, physics, reset_key)
        after = BatchState(
            physics,
            goal,
            jnp.where(done, 0, elapsed),
            state.episode + done,
            state.broken + jnp.sum(broken, dtype=jnp.int32),
            state.first,
        )
        return after, StepResult(achieved, terminated, truncated)

    def _begin_anew(
        self, done: Bool[Array, "envs"], state: BatchState, physics: State, key: Key
    ) -> tuple[State, Float[Array, "envs goal"]]:
        """Physics and goals after the step, fresh ones for the copies that are done."""
        if state.first is not None:
            return select(done, state.first, (physics, state.desired_goal))

        def drawn(physics: State, goal: Array) -> tuple[State, Array]:
            fresh = spread.by_rows(jax.vmap(self.env.reset), jax.random.split(key, self.num_envs))
            return select(done, fresh, (physics, goal))

        def on_cpu(physics: State, goal: Array) -> tuple[State, Array]:
            # Drawing for all copies is most of a step of a point mass, and most steps end no episode.
            return jax.lax.cond(jnp.any(done), drawn, lambda *kept: kept, physics, goal)

        # A GPU would send the predicate to the host and wait for it, which costs more than it saves.
        return jax.lax.platform_dependent(physics, state.desired_goal, cpu=on_cpu, default=drawn)


def not_a_number(state: State) -> Bool[Array, "envs"]:
    """Which rows hold a NaN. Infinity is allowed: engines mark absent contacts by it."""
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    rows = [jnp.any(jnp.isnan(x).reshape(x.shape[0], -1), axis=1) for x in floats]
    return jnp.any(jnp.stack(rows), axis=0) if rows else jnp.zeros(jax.tree.leaves(state)[0].shape[0], bool)


def select(which: Bool[Array, "envs"], yes: Any, no: Any) -> Any:
    """Leaf by leaf, the rows of `yes` where `which`, else those of `no`; leaves have a leading axis of envs."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(which.reshape(which.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, yes, no)
