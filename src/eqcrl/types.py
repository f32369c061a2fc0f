"""The records that flow between the parts, each a pytree of arrays."""

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

Key = PRNGKeyArray
Metrics = dict[str, Float[Array, ""]]


class EnvSpec(eqx.Module):
    """Sizes that networks and replay are built for."""

    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    goal_size: int = eqx.field(static=True)


class Transition(eqx.Module):
    """One environment step (or a stack of them): what was seen, what was done, where it led.

    `next_achieved_goal` is taken from the state after the step and before any reset, so the last state of an
    episode is a future like every other. `episode` counts the episodes of its environment.
    """

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    next_achieved_goal: Float[Array, "*batch goal"]
    episode: Int[Array, "*batch"]


class Batch(eqx.Module):
    """Positive pairs for one gradient step: row i of `goal` was reached after row i of observation and action."""

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    goal: Float[Array, "*batch goal"]
