"""One agent collects, another learns from its replay."""

import dataclasses
from typing import Annotated

import equinox as eqx
import jax
from jaxtyping import Array, Float

from eqcrl.actor_goals import AbstractActorGoals
from eqcrl.agents.adam import rate_of
from eqcrl.agents.base import AbstractAgent
from eqcrl.agents.crl import CRL, CRLState
from eqcrl.energies import AbstractEnergy
from eqcrl.errors import ConfigError
from eqcrl.losses import AbstractLoss
from eqcrl.nn.base import AbstractArch
from eqcrl.settings import Meta
from eqcrl.types import Batch, EnvSpec, Key, Metrics


class ObserverState(eqx.Module):
    """Both agents."""

    collector: CRLState
    learner: CRLState


class Observer(AbstractAgent):
    """Contrastive RL that never acts while training: does depth help by what is collected or by what is learned?

    A collector with networks of another depth acts and learns as `crl` does; the learner, with the configured
    architecture, takes the same batches. Evaluations and checkpoints used as a policy are the learner's; metrics are
    the learner's, and the collector's under `collector_...`.
    Source: Wang et al. 2025 (arXiv 2503.14858), figure 8.
    """

    actor_arch: AbstractArch
    critic_arch: AbstractArch
    energy: AbstractEnergy
    loss: AbstractLoss
    actor_goals: AbstractActorGoals
    collector_depth: Annotated[
        int, Meta(ge=1, description="depth of the collector's networks", extra={"unit": "layers"})
    ] = eqx.field(default=4, static=True)
    representation_size: Annotated[int, Meta(ge=1, description="dimension of phi and psi")] = eqx.field(
        default=64, static=True
    )
    rate: Annotated[float, rate_of("networks of both")] = 3e-4

    def __check_init__(self) -> None:
        self.collector()

    def learner(self) -> CRL:
        """The agent that learns from what the other collects."""
        return self._crl(self.actor_arch, self.critic_arch)

    def collector(self) -> CRL:
        """The agent that acts. Raises: ConfigError for an architecture that has no such depth."""
        return self._crl(self._of_depth(self.actor_arch), self._of_depth(self.critic_arch))

    def _of_depth(self, arch: AbstractArch) -> AbstractArch:
        if "depth" not in {field.name for field in dataclasses.fields(arch)}:
            raise ConfigError(
                f"agent.collector_depth is set, but the architecture {type(arch).__name__} has no depth.",
                mend="Choose an architecture with a depth, such as resnet.",
            )
        return dataclasses.replace(arch, depth=self.collector_depth)

    def _crl(self, actor_arch: AbstractArch, critic_arch: AbstractArch) -> CRL:
        return CRL(
            actor_arch=actor_arch,
            critic_arch=critic_arch,
            energy=self.energy,
            loss=self.loss,
            actor_goals=self.actor_goals,
            representation_size=self.representation_size,
            actor_rate=self.rate,
            critic_rate=self.rate,
            alpha_rate=self.rate,
        )

    def init(self, spec: EnvSpec, *, key: Key) -> ObserverState:
        """Both, with fresh networks."""
        collector_key, learner_key = jax.random.split(key)
        return ObserverState(self.collector().init(spec, key=collector_key), self.learner().init(spec, key=learner_key))

    def act(
        self,
        state: ObserverState,
        observation: Float[Array, "batch observation"],
        goal: Float[Array, "batch goal"],
        *,
        key: Key,
    ) -> Float[Array, "batch action"]:
        """Sampled actions of the collector."""
        return self.collector().act(state.collector, observation, goal, key=key)

    def act_deterministic(
        self, state: ObserverState, observation: Float[Array, "batch observation"], goal: Float[Array, "batch goal"]
    ) -> Float[Array, "batch action"]:
        """tanh(mean) of the learner."""
        return self.learner().act_deterministic(state.learner, observation, goal)

    def update(self, state: ObserverState, batch: Batch, *, key: Key) -> tuple[ObserverState, Metrics]:
        """One gradient step of each, on the same batch."""
        collector_key, learner_key = jax.random.split(key)
        collector, collected = self.collector().update(state.collector, batch, key=collector_key)
        learner, learned = self.learner().update(state.learner, batch, key=learner_key)
        return ObserverState(collector, learner), learned | {f"collector_{k}": v for k, v in collected.items()}

    def parameter_counts(self, state: ObserverState) -> dict[str, int]:
        """Actor, phi and psi of the learner, and the collector as one."""
        counts = self.learner().parameter_counts(state.learner)
        return counts | {"collector": sum(self.collector().parameter_counts(state.collector).values())}

    def working_floats(self, spec: EnvSpec, batch_size: int) -> int:
        """Those of the larger: they learn one after the other."""
        return max(agent.working_floats(spec, batch_size) for agent in (self.collector(), self.learner()))
