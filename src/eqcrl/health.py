"""Is training still made of numbers? Asked inside the epoch and told as metrics, so that nothing waits for it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eqcrl.agents.base import AgentState
from eqcrl.types import Metrics

HEALTH = ("first_bad_update", "first_bad_leaf")


def judged(
    before: AgentState, after: AgentState, metrics: Metrics, *, skip: bool
) -> tuple[AgentState, tuple[Metrics, Bool[Array, ""]]]:
    """The agent after a gradient step, its metrics, and whether they are finite.

    With `skip`, the agent before it where a loss or a network is not finite: a look at all of the networks.
    """
    good = jnp.all(finite_leaves(metrics))
    if skip:
        good &= jnp.all(finite_leaves(after))
        after = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    return after, (metrics, good)


def summary(metrics: Any, good: Bool[Array, "updates"], agent: AgentState, *, skip: bool) -> Metrics:
    """Means over the gradient steps of an epoch, leaves (updates,), and what `health` says of the agent after them.

    With `skip`, over those that were taken, and how many were not.
    """
    if not skip:
        return jax.tree.map(jnp.mean, metrics) | health(good, agent)
    # Not a number if none was good: then there is nothing to go on with.
    means = jax.tree.map(lambda each: jnp.mean(each, where=good), metrics)
    skipped = jnp.sum(~good).astype(float)
    return means | {"skipped_updates": skipped} | health(jnp.full_like(good, jnp.any(good)), agent)


def health(good: Bool[Array, "updates"], agent: AgentState) -> Metrics:
    """What to say of an epoch that went wrong, as numbers.

    first_bad_update: the first gradient step of the epoch, from 1 on, with a loss that is not finite. first_bad_leaf:
    the first of `leaf_names`, from 1 on, that is not finite after the epoch. Both are 0 if there is none.
    """

    def first(bad: Bool[Array, "places"]) -> Float[Array, ""]:
        return jnp.where(jnp.any(bad), jnp.argmax(bad) + 1, 0).astype(float)

    return {"first_bad_update": first(~good), "first_bad_leaf": first(~finite_leaves(agent))}


def finite_leaves(tree: Any) -> Bool[Array, "leaves"]:
    """Whether each leaf of floats is finite everywhere, in the order of the tree."""
    # Of the largest magnitude, not of each number: XLA then fills no array as large as the leaf on the way. A maximum
    # is not a number if one of its numbers is not.
    largest = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(tree) if _is_float(leaf)]
    return jnp.isfinite(jnp.stack(largest))


def leaf_names(tree: Any) -> list[str]:
    """What `finite_leaves` looks at, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path).lstrip(".") for path, leaf in leaves if _is_float(leaf)]


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
