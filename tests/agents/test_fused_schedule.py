"""The gradient step with the fused kernels in place of the scans, and what becomes of it where there are none."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from eqcrl.actor_goals import Future
from eqcrl.agents import abreast
from eqcrl.agents.crl import CRL
from eqcrl.assemble import assemble
from eqcrl.energies import L2
from eqcrl.losses import InfoNCE
from eqcrl.nn import fused
from eqcrl.nn.mlp import MLP
from eqcrl.nn.resnet import ResNet
from eqcrl.plan import make_plan
from eqcrl.types import Batch, EnvSpec
from helpers import tiny

SPEC, WIDTH, ROWS = EnvSpec(5, 2, 3), 64, 48
WIDE = ResNet(8, 96, depth_solver="fused")


def agent(**settings: Any) -> CRL:
    arch = ResNet(8, WIDTH, depth_solver="fused")
    return CRL(arch, arch, L2(), InfoNCE(), Future(), representation_size=6, **settings)


def batch() -> Batch:
    keys = jax.random.split(jax.random.key(1), 3)
    return Batch(*(jax.random.normal(k, (ROWS, n)) for k, n in zip(keys, (5, 2, 3), strict=True)))


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(tree)])


@pytest.mark.interpreter
def test_gradients_are_the_plain_ones_to_the_rounding_of_bfloat16() -> None:
    """The kernels run in their interpreter; everything around them is what a GPU would do."""
    crl = agent(schedule="abreast")
    state = crl.init(SPEC, key=jax.random.key(0))
    walks = abreast.Walks(partial(fused.forward, interpret=True), partial(fused.backward, interpret=True))

    def climb(log_prob: Any, phi: Any, psi: Any) -> Any:
        return jax.numpy.mean(jax.numpy.exp(state.log_alpha) * log_prob - crl.energy(phi, psi))

    given = (state.actor, state.critic, batch(), crl.actor_goals, crl.contrast, climb)
    found = abreast.abreast_gradients(*given, key=jax.random.key(3), walks=walks)
    plain = crl.plain_gradients(state, batch(), key=jax.random.key(3))
    for name in ("actor", "critic"):
        a, b = flat(getattr(found, name)), flat(getattr(plain, name))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
        assert 1e-6 < np.linalg.norm(a - b) / np.linalg.norm(b) < 0.05
    np.testing.assert_allclose(found.critic_loss, plain.critic_loss, rtol=2e-3)
    np.testing.assert_allclose(found.actor_loss, plain.actor_loss, rtol=2e-3)


@pytest.mark.thorough
def test_without_such_a_gpu_the_scan_does_it() -> None:
    """The same gradients as if scans had been asked for, and a line that says so."""
    crl = agent()
    state = crl.init(SPEC, key=jax.random.key(0))
    arch = ResNet(8, WIDTH)
    scanned = replace(crl, actor_arch=arch, critic_arch=arch)
    other = scanned.init(SPEC, key=jax.random.key(0))
    found = crl.gradients(state, batch(), key=jax.random.key(3))
    expected = scanned.gradients(other, batch(), key=jax.random.key(3))
    np.testing.assert_array_equal(flat(found.actor), flat(expected.actor))
    (remark,) = crl.remarks(state, ROWS)
    assert remark.startswith("blocks are scanned, not fused: the fused kernels run on Hopper GPUs")
    assert remark.endswith("not on cpu")
    assert scanned.remarks(other, ROWS) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"actor_arch": WIDE, "critic_arch": WIDE}, "not 96"),
        ({"actor_arch": ResNet(8, WIDTH)}, "are not resnets of one depth"),
        ({"actor_arch": MLP(2, WIDTH)}, "are not resnets of one depth"),
        ({"schedule": "merged"}, "agent.schedule is 'merged'"),
        ({"precision": "bf16"}, None),
    ],
)
def test_why_not(changes: dict[str, Any], said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this were a Hopper GPU."""
    monkeypatch.setattr(fused, "unsupported_device", lambda device: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    crl = replace(agent(), **changes)
    state = jax.eval_shape(lambda: crl.init(SPEC, key=jax.random.key(0)))
    assert crl.goes_fused(state, ROWS) is (said is None)
    remarks = crl.remarks(state, ROWS)
    assert len(remarks) == (said is not None)
    assert said is None or said in remarks[0]


def test_the_plan_of_a_run_shows_the_line() -> None:
    config = tiny(arch__depth_solver="fused")
    (remark,) = make_plan(config, assemble(config)).remarks
    assert remark.startswith("blocks are scanned, not fused: the fused kernels exist for width 64")


def test_a_plan_that_multiplies_in_bf16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fp32` then holds for acting alone."""
    monkeypatch.setattr(fused, "unsupported_device", lambda device: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    state = jax.eval_shape(lambda: agent().init(SPEC, key=jax.random.key(0)))
    assert agent().remarks(state, ROWS) == ("gradient steps multiply in bf16 (fused), acting in fp32",)
