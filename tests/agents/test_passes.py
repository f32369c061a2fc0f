"""The merged update against its definition, each loss differentiated by itself."""

import dataclasses
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.actor_goals import AbstractActorGoals, Future, Mixed, Random
from eqcrl.agents.crl import CRL, CRLState
from eqcrl.agents.passes import Gradients
from eqcrl.energies import L1, L2, AbstractEnergy, Cosine, Dot
from eqcrl.errors import ConfigError
from eqcrl.losses import AbstractLoss, BinaryNCE, InfoNCE, InfoNCESymmetric
from eqcrl.nn.base import AbstractArch
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.types import Batch, EnvSpec

SPEC = EnvSpec(5, 2, 3)
ROWS = 6


def agent(
    arch: AbstractArch | None = None,
    energy: AbstractEnergy | None = None,
    loss: AbstractLoss | None = None,
    goals: AbstractActorGoals | None = None,
) -> CRL:
    arch = arch or ResNet(4, 8)
    return CRL(arch, arch, energy or L2(), loss or InfoNCE(), goals or Future(), representation_size=6)


def state_and_batch(crl: CRL, dtype: Any) -> tuple[CRLState, Batch]:
    """Networks away from their initialization, where biases are not zero."""
    state = crl.init(SPEC, key=jax.random.key(0))
    rng = np.random.default_rng(1)
    actor, critic = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.1 * rng.normal(size=leaf.shape), dtype), (state.actor, state.critic)
    )
    state = dataclasses.replace(state, actor=actor, critic=critic, log_alpha=jnp.asarray(-0.7, dtype))
    observation, action, goal = (jnp.asarray(rng.normal(size=(ROWS, n)), dtype) for n in (5, 2, 3))
    return state, Batch(observation, jnp.tanh(action), goal)


def relative_errors(merged: Gradients, plain: Gradients) -> dict[str, float]:
    errors = {}
    for name in ("actor", "critic", "actor_loss", "critic_loss", "log_prob", "logits"):
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(getattr(found, name))])
            for found in (merged, plain)
        )
        assert np.linalg.norm(b) > 0, name
        errors[name] = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return errors


def compare(crl: CRL, dtype: Any) -> dict[str, float]:
    state, batch = state_and_batch(crl, dtype)
    key = jax.random.key(3)
    both = eqx.filter_jit(lambda c, s, b: (c.gradients(s, b, key=key), c.plain_gradients(s, b, key=key)))
    return relative_errors(*both(crl, state, batch))


PARTS = [
    pytest.param({}, id="as it is"),
    pytest.param({"energy": Cosine(), "loss": InfoNCESymmetric(), "goals": Random()}, id="other parts"),
    pytest.param({"arch": MLP(2, 8), "energy": Dot(), "goals": Mixed(0.5)}, id="mlp, mixed goals"),
    pytest.param({"arch": ResNet(64, 8, remat="block"), "energy": L1()}, id="depth 64, block"),
    pytest.param({"arch": ResNet(64, 8, remat="nested"), "loss": BinaryNCE()}, id="depth 64, nested"),
]


@pytest.mark.parametrize("parts", PARTS)
def test_merged_is_plain_in_float64(parts: dict[str, Any]) -> None:
    """Same losses and gradients, whatever is plugged in."""
    with jax.enable_x64(True):
        errors = compare(agent(**parts), jnp.float64)
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.parametrize("depth", [20, 24])
def test_abreast_is_plain_in_float64(depth: int) -> None:
    """Groups of one block and of three; mixed goals, another energy."""
    with jax.enable_x64(True):
        crl = dataclasses.replace(agent(ResNet(depth, 8), energy=Cosine(), goals=Mixed(0.5)), schedule="abreast")
        errors = compare(crl, jnp.float64)
    assert max(errors.values()) < 1e-12, errors


def test_abreast_needs_networks_that_are_alike() -> None:
    for arch in (MLP(2, 8), ResNet(8, 8)):
        crl = dataclasses.replace(agent(arch), actor_arch=ResNet(4, 8), schedule="abreast")
        state, batch = state_and_batch(crl, jnp.float32)
        with pytest.raises(ConfigError, match="abreast"):
            crl.gradients(state, batch, key=jax.random.key(0))
        # By itself it takes the schedule that is possible.
        automatic = dataclasses.replace(crl, schedule="auto")
        assert not automatic.goes_abreast(state)


@pytest.mark.parametrize("depth", [64, 1024])
def test_merged_is_plain_in_float32(depth: int) -> None:
    errors = compare(agent(ResNet(depth, 8)), jnp.float32)
    assert max(errors.values()) < 2e-5, errors


def test_the_actor_teaches_the_critic_nothing() -> None:
    """The critic's gradient does not depend on what the actor does."""
    crl = agent()
    state, batch = state_and_batch(crl, jnp.float32)
    other = dataclasses.replace(state, actor=jax.tree.map(lambda leaf: 2.0 * leaf, state.actor))
    gradients = eqx.filter_jit(lambda s: crl.gradients(s, batch, key=jax.random.key(3)))
    found = [gradients(s) for s in (state, other)]
    assert not np.allclose(found[0].actor_loss, found[1].actor_loss)
    for one, two in zip(*(jax.tree.leaves(f.critic) for f in found), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_the_merged_step_takes_eight_walks() -> None:
    """Four scans forward and four backward; the definition walks psi once more."""
    crl = agent()
    state, batch = state_and_batch(crl, jnp.float32)

    def scans(gradients: Any) -> int:
        return str(jax.make_jaxpr(lambda s, b: gradients(s, b, key=jax.random.key(3)))(state, batch)).count("scan[")

    assert scans(crl.gradients) == 8
    assert scans(crl.plain_gradients) > 8


def test_the_merged_step_keeps_no_second_copy_of_the_weights() -> None:
    """With the state donated, the optimizer writes new weights over old ones that nobody needs any more."""
    crl = agent(ResNet(32, 8))
    state, batch = state_and_batch(crl, jnp.float32)
    weights = state.critic.state_action.trunk.blocks.blocks.branch.weight  # type: ignore[attr-defined]
    shape = ",".join(map(str, weights.shape))

    def copies(gradients: Any) -> int:
        def update(state: CRLState, batch: Batch) -> Any:
            return crl.apply(state, gradients(state, batch, key=jax.random.key(3)), 2)

        text = jax.jit(update, donate_argnums=0).lower(state, batch).compile().as_text()
        whole = re.compile(rf"= f32\[{shape}\]\S* copy\(%\w*(actor|critic)\w*weight")
        return len(whole.findall(text))

    assert copies(crl.gradients) == 0
    assert copies(crl.plain_gradients) > 0  # so the pattern finds them
