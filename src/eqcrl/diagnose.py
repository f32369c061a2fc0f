"""What deep networks are like before they train, or after: one real batch, one Adam step, block by block."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqcrl import epoch as ep
from eqcrl import replay as rb
from eqcrl.agents.crl import CRL, CRLState, logit_metrics
from eqcrl.assemble import System
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.errors import UsageError
from eqcrl.losses import logsumexp_penalty
from eqcrl.nn.precision import products
from eqcrl.nn.watch import gradient_norm, rms, stack_statistics, varying, watched
from eqcrl.programs import compiler_options
from eqcrl.trainer import INIT_STREAM, stream
from eqcrl.types import Batch, Key

# A stream of randomness of its own beside those of training and evaluation.
DIAGNOSE_STREAM = 2
# The rollout that the batch comes from: short, because every step of it walks the whole depth.
ENVS, STEPS = 16, 32
SATURATED = 0.99
"""From this |tanh(mean)| on an action counts as saturated: the gradient through the tanh is below 0.02."""


@dataclass(frozen=True)
class Profile:
    """Entry l is of block l: the statistics of `eqcrl.nn.watch`."""

    stream: Float[np.ndarray, "blocks"]
    varying: Float[np.ndarray, "blocks"]
    change: Float[np.ndarray, "blocks"]
    gradient: Float[np.ndarray, "blocks"]


@dataclass(frozen=True)
class Network:
    """One network as a whole, and along its blocks."""

    parameters: int
    output: float
    """rms of what it returns: mean of the policy before the tanh, representations."""
    varying: float
    """rms of the part of it that differs between rows."""
    moved: float
    """rms of what one Adam step changes in it."""
    gradient: float
    """Norm of the gradient to all parameters: of the actor loss for the actor, of the critic loss for the encoders."""
    profile: Profile | None
    """None for a network without a stack: there are no equal blocks to look at."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found; every number is over the same `rows` pairs."""

    rows: int
    numbers: dict[str, float]
    networks: dict[str, Network]

    def remarks(self) -> list[str]:
        """What is likely to keep these networks from learning, in sentences."""
        n, actor = self.numbers, self.networks["actor"]
        found = []
        if n["saturated"] > 0.5:
            found.append(f"{n['saturated']:.0%} of the actions are saturated: little gradient passes the tanh.")
        if actor.moved > 2.0:
            found.append(f"One Adam step moves the policy's mean by {actor.moved:.3g}, across the range of the tanh.")
        if n["penalty"] > 10 * n["contrastive_loss"]:
            found.append(
                "The logsumexp penalty outweighs the contrastive loss: the critic learns to shrink its logits."
            )
        for name, network in self.networks.items():
            if network.profile is not None and network.profile.varying[-1] < 0.05 * network.profile.stream[-1]:
                share = network.profile.varying[-1] / network.profile.stream[-1]
                found.append(f"Of the features of {name}, {share:.1%} depend on the input.")
        return found


def diagnose(system: System, *, seed: int = 0, rows: int = 64, agent_state: Any = None) -> Diagnosis:
    """Look at the networks that training with this seed would begin with, or at those of `agent_state`.

    The batch of `rows` relabelled pairs comes from a short rollout of that policy in the training environment.
    Raises: UsageError for an agent other than `crl`, of which nothing is known.
    """
    agent = system.algorithm.agent
    if not isinstance(agent, CRL):
        raise UsageError(
            f"The networks of an agent of the class {type(agent).__name__} are not known to the diagnosis.",
            mend="It looks at actor, phi and psi of `--agent crl`, with any architecture.",
        )
    options = compiler_options(system)
    collected = jax.jit(lambda key, state: real_batch(system, state, rows, key=key), compiler_options=options)
    state, batch = collected(stream(seed, INIT_STREAM), agent_state)
    key = stream(seed, DIAGNOSE_STREAM)
    of_actor, actor = jax.jit(partial(_look_at_actor, agent))(state, batch, key)
    of_critic, encoders = jax.jit(partial(_look_at_critic, agent))(state, batch)
    of_policy, outputs = jax.jit(partial(_one_step, agent))(state, batch, key)
    counts = agent.parameter_counts(state)
    networks = {
        name: Network(
            parameters=counts[name],
            output=float(outputs[name]["output"]),
            varying=float(outputs[name]["varying"]),
            moved=float(outputs[name]["moved"]),
            gradient=float(norm),
            profile=_profile(stacks),
        )
        for name, (norm, stacks) in (actor | encoders).items()
    }
    return Diagnosis(rows, {k: float(v) for k, v in (of_policy | of_actor | of_critic).items()}, networks)


def real_batch(system: System, agent_state: Any, rows: int, *, key: Key) -> tuple[CRLState, Batch]:
    """The agent, fresh as in training if none is given, and a batch of what it did."""
    algorithm = system.algorithm
    steps = max(STEPS, -(-rows // ENVS))
    env = BatchedEnv(algorithm.env.env, ENVS, algorithm.env.fresh_resets)
    short = replace(algorithm, env=env, capacity=steps, unroll_length=steps)
    state = ep.init(short, key=key)
    if agent_state is not None:
        state = eqx.tree_at(lambda s: s.agent, state, agent_state)
    state = ep.collect(short, state)
    return state.agent, rb.sample(state.replay, algorithm.relabeller, rows, key=state.key)


Seen = tuple[Float[Array, ""], list[Float[Array, "blocks 5"]]]
"""Of one network: the norm of the gradient, and the statistics of its stacks."""


def _look_at_actor(
    agent: CRL, state: CRLState, batch: Batch, key: Key
) -> tuple[dict[str, Float[Array, ""]], dict[str, Seen]]:
    """Numbers of the actor loss, and what was seen of the actor."""

    def loss(actor: Any) -> tuple[Array, Array]:
        return agent.actor_loss(actor, state.critic, state.log_alpha, batch, key=key)

    with products(agent.precision):
        (value, log_prob), gradient = jax.value_and_grad(loss, has_aux=True)(watched(state.actor))
    numbers = {"actor_loss": value, "entropy": -jnp.mean(log_prob), "alpha": jnp.exp(state.log_alpha)}
    return numbers, {"actor": _seen(gradient)}


def _look_at_critic(agent: CRL, state: CRLState, batch: Batch) -> tuple[dict[str, Float[Array, ""]], dict[str, Seen]]:
    """Numbers of the critic loss, and what was seen of both encoders."""
    with products(agent.precision):
        (value, logits), gradient = jax.value_and_grad(agent.critic_loss, has_aux=True)(watched(state.critic), batch)
    numbers = {
        "critic_loss": value,
        "contrastive_loss": agent.loss(logits),
        "penalty": agent.logsumexp_penalty * logsumexp_penalty(logits),
        "chance": jnp.asarray(1.0 / logits.shape[0]),
        **logit_metrics(logits),
    }
    return numbers, {"phi": _seen(gradient.state_action), "psi": _seen(gradient.goal)}


def _one_step(
    agent: CRL, state: CRLState, batch: Batch, key: Key
) -> tuple[dict[str, Float[Array, ""]], dict[str, dict[str, Float[Array, ""]]]]:
    """Numbers of the policy, and for each network its output and how far one update moves it."""
    goal = agent.actor_goals(batch.goal)

    def outputs(state: CRLState) -> dict[str, Array]:
        return {
            "actor": state.actor(batch.observation, goal)[0],
            "phi": state.critic.phi(batch.observation, batch.action),
            "psi": state.critic.psi(batch.goal),
        }

    with products(agent.precision):
        before, after = outputs(state), outputs(agent.update(state, batch, key=key)[0])
    mean = before["actor"]
    numbers = {
        "before_tanh": jnp.mean(jnp.abs(mean)),
        "saturated": jnp.mean(jnp.abs(jnp.tanh(mean)) > SATURATED),
    }
    return numbers, {
        name: {"output": rms(old), "varying": rms(varying(old)), "moved": rms(after[name] - old)}
        for name, old in before.items()
    }


def _seen(gradient: Any) -> Seen:
    return gradient_norm(gradient), stack_statistics(gradient)


def _profile(stacks: list[Array]) -> Profile | None:
    """Block by block through the stacks that were called, in the order in which the network holds them."""
    tables = [np.asarray(table, np.float64) for table in stacks]
    called = [table[:, :4] for table in tables if table[:, 4].all()]
    return Profile(*np.concatenate(called).T) if called else None
