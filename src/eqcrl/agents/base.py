"""What a learning algorithm is."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from eqcrl.relabel import AbstractRelabeller
from eqcrl.types import Batch, EnvSpec, Key, Metrics

AgentState = Any
"""Everything that the agent learns, optimizer included: a pytree of arrays."""


class AbstractAgent(eqx.Module):
    """A goal-conditioned learner. Its fields are hyper-parameters; what it learns lives in an `AgentState`.

    Fields that hold other parts (architectures, energy, loss, ...) are filled by name from the configuration.
    """

    @abc.abstractmethod
    def init(self, spec: EnvSpec, *, key: Key) -> AgentState:
        """Fresh networks and optimizers."""

    @abc.abstractmethod
    def act(
        self,
        state: AgentState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch actions"]:
        """Sampled actions in [-1, 1], for exploring."""

    @abc.abstractmethod
    def act_deterministic(
        self, state: AgentState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch actions"]:
        """The mode of the policy in [-1, 1], for evaluation."""

    @abc.abstractmethod
    def update(self, state: AgentState, batch: Batch, *, key: Key) -> tuple[AgentState, Metrics]:
        """One gradient step, and scalars to log."""

    @abc.abstractmethod
    def parameter_counts(self, state: AgentState) -> dict[str, int]:
        """Learned parameters per network, for display; `state` may hold shapes only."""

    @abc.abstractmethod
    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """Estimate of the floats that one update needs beside the state: gradients and saved activations."""


class AbstractChunked(eqx.Module):
    """An agent that decides on several actions at once and takes them without looking again. Optional.

    `act` and `act_deterministic` return chunk * action_size numbers a row: the first action, then the next, ...
    """

    chunk: eqx.AbstractVar[int]


def chunk_of(agent: AbstractAgent) -> int:
    """Actions that the agent decides on at once."""
    return agent.chunk if isinstance(agent, AbstractChunked) else 1


class AbstractRelabels(eqx.Module):
    """An agent whose method prescribes the law of its goals, whatever relabeller is configured. Optional."""

    @abc.abstractmethod
    def relabeller(self) -> AbstractRelabeller:
        """That law."""


class AbstractRemarks(eqx.Module):
    """An agent that can say what of its settings it does not do on this device. Optional."""

    @abc.abstractmethod
    def remarks(self, state: AgentState, batch_size: int) -> tuple[str, ...]:
        """A line for each, shown with the plan of a run; `state` may hold shapes only."""
