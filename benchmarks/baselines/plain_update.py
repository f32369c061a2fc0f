"""Baseline for the update of `eqcrl.agents.crl`: each loss differentiated by itself, distances left to autodiff.

Together with `unrolled` this is how the published code of the field is written.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.agents.base import AbstractAgent, AgentState
from eqcrl.agents.crl import CRL
from eqcrl.energies import L2, AbstractEnergy
from eqcrl.types import Batch, EnvSpec, Key, Metrics


class AutodiffL2(AbstractEnergy):
    """f = -||phi - psi||_2 through the (rows, columns, dim) tensor of differences and its gradient."""

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return -jnp.sqrt(jnp.sum((phi - psi) ** 2, axis=-1))

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return -jnp.sqrt(jnp.sum((phi[:, None, :] - psi[None, :, :]) ** 2, axis=-1))


class PlainUpdate(AbstractAgent):
    """The same agent, learning by its plain update.

    Raises: TypeError for an agent with another energy than L2.
    """

    agent: CRL

    def __init__(self, agent: CRL):
        if not isinstance(agent.energy, L2):
            raise TypeError(f"the baseline knows the L2 energy only, not {type(agent.energy).__name__}")
        self.agent = eqx.tree_at(lambda a: a.energy, agent, AutodiffL2(), is_leaf=lambda x: isinstance(x, L2))

    def init(self, spec: EnvSpec, *, key: Key) -> AgentState:
        """The agent's."""
        return self.agent.init(spec, key=key)

    def act(
        self,
        state: AgentState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """The agent's."""
        return self.agent.act(state, observation, goal, key=key)

    def act_deterministic(
        self, state: AgentState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """The agent's."""
        return self.agent.act_deterministic(state, observation, goal)

    def update(self, state: AgentState, batch: Batch, *, key: Key) -> tuple[AgentState, Metrics]:
        """One gradient step by the definition."""
        return self.agent.apply(state, self.agent.plain_gradients(state, batch, key=key), batch.action.shape[-1])

    def parameter_counts(self, state: AgentState) -> dict[str, int]:
        """The agent's."""
        return self.agent.parameter_counts(state)

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """The agent's."""
        return self.agent.working_floats(spec, batch_size)
