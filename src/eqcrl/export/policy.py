"""The policy of a run by itself: one function, the weights that it needs, and what a reader has to know."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float

from eqcrl import __version__
from eqcrl.agents.base import chunk_of
from eqcrl.assemble import System
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.nn.resnet import ResNet
from eqcrl.nn.stacked import Stacked
from eqcrl.nn.sweeps import Swept
from eqcrl.run import Run
from eqcrl.types import EnvSpec

FORMAT = "eqcrl-policy-1"
BATCH = "batch"
"""The symbol for the number of rows."""


@dataclass(frozen=True)
class Policy:
    """action = act(weights, observation, desired_goal), rows of float32; `weights` in the order of their names."""

    spec: EnvSpec
    act: Callable[[Sequence[Any], Array, Array], Array]
    weights: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    """Sizes, architecture and configuration, as JSON can say them."""

    def inputs(self, rows: Any) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Shapes of observation and desired goal; the number of rows may be a symbol."""
        sizes = (self.spec.observation_size, self.spec.goal_size)
        observation, goal = (jax.ShapeDtypeStruct((rows, size), jnp.float32) for size in sizes)
        return observation, goal

    def traced(self) -> ClosedJaxpr:
        """The function of weights, observation and desired goal, for any number of rows."""
        (rows,) = jax.export.symbolic_shape(BATCH)
        shapes = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in self.weights.values()]
        return jax.make_jaxpr(self.act)(shapes, *self.inputs(rows))

    def bytes(self) -> int:
        """Of all weights."""
        return sum(w.nbytes for w in self.weights.values())


def policy_of(run: Run) -> Policy:
    """The deterministic policy of a run, as `Run.policy` computes it.

    Of networks whose depth solver is `sweeps`, the scan that they approximate. Raises: CheckpointError.
    """
    return make_policy(run.system, run.agent_state, facts_of(run.config, run.system))


def make_policy(system: System, state: Any, facts: Mapping[str, Any]) -> Policy:
    """The policy of an agent with this state."""
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    leaves, structure = jax.tree_util.tree_flatten_with_path(_scanned(state))

    def act(
        values: Sequence[Any], observation: Float[Array, "rows observation"], goal: Float[Array, "rows goal"]
    ) -> Float[Array, "rows action"]:
        rows = agent.act_deterministic(structure.unflatten(values), observation, goal)
        return jax.lax.slice_in_dim(rows, 0, spec.action_size, axis=1)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in leaves]
    one = [jax.ShapeDtypeStruct((1, size), jnp.float32) for size in (spec.observation_size, spec.goal_size)]
    needed = live_inputs(jax.make_jaxpr(act)(shapes, *one))[: len(leaves)]

    def act_with(
        weights: Sequence[Any], observation: Float[Array, "rows observation"], goal: Float[Array, "rows goal"]
    ) -> Float[Array, "rows action"]:
        given = iter(weights)
        # Zeros for what the action does not depend on: critics, optimizers, the head for the deviation.
        leaves = [next(given) if n else jnp.zeros(s.shape, s.dtype) for n, s in zip(needed, shapes, strict=True)]
        return act(leaves, observation, goal)

    kept = [(path, leaf) for (path, leaf), live in zip(leaves, needed, strict=True) if live]
    names = short_names([jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in kept])
    weights = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, kept, strict=True)}
    return Policy(spec, act_with, weights, facts)


def facts_of(config: Config, system: System) -> dict[str, Any]:
    """What `Policy.facts` says."""
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    part = config.actor_arch or config.arch
    arch: dict[str, Any] = {"name": part.name} | dict(part.params)
    built = getattr(agent, "actor_arch", None)
    if isinstance(built, ResNet):
        arch |= {"block": built.block, "branch_scale": built.branch_scale()}
    return {
        "format": FORMAT,
        "eqcrl": __version__,
        "observation_size": spec.observation_size,
        "goal_size": spec.goal_size,
        "action_size": spec.action_size,
        "actions_decided_at_once": chunk_of(agent),
        "agent": config.agent.name,
        "precision": config.agent.params.get("precision", "fp32"),
        "architecture": arch,
        "env": config.env.name,
        "config": config.to_toml(),
    }


def facts_text(policy: Policy) -> str:
    """Those as JSON, for the metadata of a file."""
    return json.dumps(policy.facts)


def live_inputs(traced: ClosedJaxpr) -> list[bool]:
    """Of each input, whether the outputs depend on it (as far as whole operations tell)."""
    wanted = {id(v) for v in traced.jaxpr.outvars}
    for equation in reversed(traced.jaxpr.eqns):
        if any(id(v) in wanted for v in equation.outvars):
            wanted |= {id(v) for v in equation.invars if not isinstance(v, Literal)}
    return [id(v) in wanted for v in traced.jaxpr.invars]


def short_names(paths: Sequence[str]) -> list[str]:
    """Dotted paths without the beginning that all of them share: `policy.actor.head.bias` -> `head.bias`."""
    parts = [path.split(".") for path in paths]
    depth = 0
    while all(len(p) > depth + 1 and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    return [".".join(p[depth:]) for p in parts]


def _scanned(state: Any) -> Any:
    """The same networks walked block by block. Sweeps ask how many rows there are, which a file leaves open."""

    def walk(node: Any) -> Any:
        return Stacked(node.blocks, node.count, "none") if isinstance(node, Swept) else node

    return jax.tree.map(walk, state, is_leaf=lambda node: isinstance(node, Swept))
