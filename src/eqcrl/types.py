"""The records that flow between the parts, each a pytree of arrays."""

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

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
    episode is a future like every other. `episode` counts the episodes of its environment. `desired_goal` is what was
    commanded, `terminated` whether the environment ended the episode by this step; running out of time is not that.
    """

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    next_achieved_goal: Float[Array, "*batch goal"]
    episode: Int[Array, "*batch"]
    desired_goal: Float[Array, "*batch goal"]
    terminated: Bool[Array, "*batch"]


class Outcome(eqx.Module):
    """What came of a transition: for agents that look one step ahead."""

    next_observation: Float[Array, "*batch observation"]
    """Of the state after the step. Anything where `known` is false."""
    known: Bool[Array, "*batch"]
    """Whether `next_observation` was recorded: not of the last step before the time ran out, nor of the newest step."""
    next_achieved_goal: Float[Array, "*batch goal"]
    terminated: Bool[Array, "*batch"]
    desired_goal: Float[Array, "*batch goal"]
    """What was commanded when the step was taken."""


class Batch(eqx.Module):
    """Positive pairs for one gradient step: row i of `goal` was reached after row i of observation and action.

    For an agent that acts in chunks `action` holds those of the whole chunk, one after another.
    """

    observation: Float[Array, "*batch observation"]
    action: Float[Array, "*batch action"]
    goal: Float[Array, "*batch goal"]
    outcome: Outcome | None = None
    """What came of the (first) action; None where only pairs are at hand."""
