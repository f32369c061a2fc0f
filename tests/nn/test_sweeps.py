"""All blocks at once against block after block: values, gradients, number of sweeps, and the way back to the scan."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl.nn import sweeps
from eqcrl.nn.precision import Precision, products
from eqcrl.nn.resnet import ResNet

WIDTH, ROWS = 16, 12


def trunks(depth: int, recipe: Any) -> tuple[Any, Any]:
    """The same network, solved both ways, away from its initialization."""
    made = [
        ResNet(depth, WIDTH, recipe=recipe, depth_solver=s).build(5, key=jax.random.key(0)) for s in ("scan", "sweeps")
    ]
    leaves, structure = jax.tree.flatten(made[1])
    rng = np.random.default_rng(0)
    moved = [leaf + 0.02 * rng.normal(size=leaf.shape) for leaf in leaves]
    assert [a.shape for a in jax.tree.leaves(made[0])] == [a.shape for a in leaves]
    return jax.tree.unflatten(jax.tree.structure(made[0]), moved), jax.tree.unflatten(structure, moved)


def value_and_gradients(trunk: Any) -> Any:
    x, grad = jax.random.normal(jax.random.key(1), (ROWS, 5)), jax.random.normal(jax.random.key(2), (ROWS, WIDTH))
    return jax.jit(lambda t, x: (t(x), jax.vjp(lambda t, x: t(x), t, x)[1](grad)))(trunk, x)


def relative_error(actual: Any, expected: Any) -> float:
    a, b = (np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(t)]) for t in (actual, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(("depth", "recipe"), [(0, "calm"), (4, "paper"), (64, "paper"), (64, "calm"), (1024, "calm")])
def test_values_and_gradients_are_those_of_the_scan(depth: int, recipe: str) -> None:
    """Within some tolerances; at depth 64 the paper's recipe is exact after 16 sweeps at the latest."""
    if depth == 0:
        empty = sweeps.Swept(trunks(4, recipe)[1].blocks.blocks, 0)
        x = jnp.ones((2, WIDTH))
        np.testing.assert_array_equal(empty(x), x)
        return
    scan, swept = trunks(depth, recipe)
    (value, gradients), (expected, expected_gradients) = (value_and_gradients(t) for t in (swept, scan))
    assert relative_error(value, expected) < 3 * sweeps.TOLERANCE["fp32"]
    assert relative_error(gradients, expected_gradients) < 3 * sweeps.TOLERANCE["fp32"]


def solved(depth: int, recipe: str, most: int) -> tuple[sweeps.Solved, sweeps.Solved, sweeps.Solved]:
    """Forward and backward with exact numbers of sweeps, and the exact walk."""
    trunk = trunks(depth, recipe)[0]
    x, grad = jax.random.normal(jax.random.key(3), (2, ROWS, WIDTH))
    blocks = trunk.blocks.blocks
    exact = jax.jit(sweeps.one_by_one)(blocks, x)
    forward = jax.jit(sweeps.forward, static_argnums=(2, 3))(blocks, x, 0.0, most)
    return forward, jax.jit(sweeps.backward, static_argnums=(3, 4))(blocks, exact.inputs, grad, 0.0, most), exact


def test_after_k_sweeps_the_first_k_inputs_are_exact() -> None:
    forward, _, exact = solved(32, "paper", 3)
    assert int(forward.sweeps) == 3
    difference = np.abs(np.asarray(forward.inputs - exact.inputs)).max(axis=(1, 2))
    assert (difference[:4] < 1e-5).all()
    assert (difference[5:] > 1e-3).all()


def test_errors_fall_with_sweeps_and_the_change_bounds_them() -> None:
    """At 256 layers; the last change is what the sweep before was wrong by, so it is on the safe side."""
    errors = []
    for most in (2, 4, 8):
        forward, backward, exact = solved(256, "calm", most)
        errors.append(float(sweeps.relative(forward.out - exact.out, exact.out)))
        assert errors[-1] < float(forward.change)
        assert int(backward.sweeps) == most
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_few_sweeps_do_for_many_layers() -> None:
    """Adaptive: as many as the tolerance asks for, far fewer than there are blocks."""
    trunk = trunks(1024, "calm")[0]
    x = jax.random.normal(jax.random.key(3), (ROWS, WIDTH))
    found = jax.jit(sweeps.forward, static_argnums=(2, 3))(
        trunk.blocks.blocks, x, sweeps.TOLERANCE["fp32"], sweeps.MOST
    )
    assert 3 <= int(found.sweeps) <= 16
    assert float(found.change) <= sweeps.TOLERANCE["fp32"]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_products_converge_to_what_their_rounding_allows(precision: Precision) -> None:
    """At 256 layers, in both directions and without the scan."""
    trunk = trunks(256, "calm")[0]
    x, grad = jax.random.normal(jax.random.key(3), (2, 64, WIDTH))
    tolerance = sweeps.TOLERANCE[precision]
    with products(precision):
        ahead = jax.jit(sweeps.forward, static_argnums=(2, 3))(trunk.blocks.blocks, x, tolerance, sweeps.MOST)
        behind = jax.jit(sweeps.backward, static_argnums=(3, 4))(
            trunk.blocks.blocks, ahead.inputs, grad, tolerance, sweeps.MOST
        )
    assert max(int(ahead.sweeps), int(behind.sweeps)) < 16


def test_a_single_row_needs_no_more_sweeps() -> None:
    trunk = trunks(256, "calm")[0]
    x = jax.random.normal(jax.random.key(3), (1, WIDTH))
    tolerance = sweeps.TOLERANCE["fp32"]
    found = jax.jit(sweeps.forward, static_argnums=(2, 3))(trunk.blocks.blocks, x, tolerance, sweeps.MOST)
    assert int(found.sweeps) < 16


def test_where_sweeps_do_not_converge_the_scan_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sweep is never enough to know; then the result is the scan's, bit for bit forward."""
    scan, swept = trunks(64, "paper")
    monkeypatch.setattr(sweeps, "MOST", 1)
    (value, gradients), (expected, expected_gradients) = (value_and_gradients(t) for t in (swept, scan))
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert relative_error(gradients, expected_gradients) < 2e-6


def test_training_goes_abreast_with_scans_only() -> None:
    """The schedule for accelerators walks blocks itself, so it leaves swept networks alone."""
    from eqcrl.agents.abreast import alike
    from eqcrl.nn.actor import TanhGaussianActor
    from eqcrl.nn.encoders import Critic
    from eqcrl.types import EnvSpec

    for solver, expected in (("scan", True), ("sweeps", False)):
        arch, spec = ResNet(8, 8, depth_solver=solver), EnvSpec(3, 2, 2)  # type: ignore[arg-type]
        keys = jax.random.split(jax.random.key(0))
        assert alike(TanhGaussianActor(arch, spec, key=keys[0]), Critic(arch, spec, 4, key=keys[1])) is expected
