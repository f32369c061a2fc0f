"""Energies against float64 NumPy: both forms, values and gradients, and where the plain formula breaks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqcrl.energies import L1, L2, AbstractEnergy, Cosine, Dot, L2Squared, safe_sqrt, squared_distances

TEMPERATURE = 0.3
ENERGIES: dict[str, AbstractEnergy] = {
    "l2": L2(),
    "l2-squared": L2Squared(),
    "l1": L1(),
    "dot": Dot(),
    "cosine": Cosine(TEMPERATURE),
}
each_energy = pytest.mark.parametrize("name", sorted(ENERGIES))


def reference_pair(name: str, phi: np.ndarray, psi: np.ndarray) -> tuple[float, np.ndarray]:
    """The energy of one pair in float64 and its gradient with respect to phi (of L2, 0 at its kink)."""
    difference = phi - psi
    if name == "l2":
        norm = np.sqrt(difference @ difference)
        return -norm, -difference / norm if norm > 0 else np.zeros_like(phi)
    if name == "l2-squared":
        return -difference @ difference, -2 * difference
    if name == "l1":
        return -np.abs(difference).sum(), -np.sign(difference)
    if name == "dot":
        return phi @ psi, psi
    phi_norm, psi_norm = np.linalg.norm(phi), np.linalg.norm(psi)
    cosine = phi @ psi / (phi_norm * psi_norm)
    return cosine / TEMPERATURE, (psi / psi_norm - cosine * phi / phi_norm) / phi_norm / TEMPERATURE


def reference(
    name: str, phi: np.ndarray, psi: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairwise energies, and the gradients of sum(cotangent * energies) to phi and to psi. All are symmetric."""
    value = np.zeros(cotangent.shape)
    to_phi, to_psi = np.zeros(phi.shape), np.zeros(psi.shape)
    for i, j in np.ndindex(*cotangent.shape):
        value[i, j], gradient = reference_pair(name, phi[i], psi[j])
        to_phi[i] += cotangent[i, j] * gradient
        to_psi[j] += cotangent[i, j] * reference_pair(name, psi[j], phi[i])[1]
    return value, to_phi, to_psi


def value_and_gradients(
    form: Callable[..., jax.Array], phi: np.ndarray, psi: np.ndarray, cotangent: np.ndarray
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What eqcrl computes in fp32."""
    value, pullback = jax.vjp(form, jnp.asarray(phi, jnp.float32), jnp.asarray(psi, jnp.float32))
    return value, *pullback(jnp.asarray(cotangent, jnp.float32))


def close(actual: jax.Array, expected: np.ndarray, scale: float) -> None:
    """Within some 20 roundings of fp32 at the size of the summands."""
    np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=3e-6 * max(scale, 1.0))


# Multiples of 1/64 are exact in fp32, so both sides see the same numbers; few sizes, because each one compiles.
numbers = st.integers(-640, 640).map(lambda n: n / 64)


@st.composite
def embeddings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(phi, psi, cotangent) with rows and columns of different number."""
    rows, columns, dim = draw(st.sampled_from([(1, 1, 1), (3, 2, 5), (2, 4, 16)]))
    return tuple(
        draw(hnp.arrays(float, shape, elements=numbers)) for shape in [(rows, dim), (columns, dim), (rows, columns)]
    )


@each_energy
@given(embeddings())
def test_pairwise_matches_numpy(name: str, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    phi, psi, cotangent = case
    if name == "l1":
        psi = psi + 1 / 128  # no ties: there any slope in [-1, 1] is one
    if name == "cosine":
        assume(min(np.linalg.norm(phi, axis=1).min(), np.linalg.norm(psi, axis=1).min()) > 0.1)
    expected = reference(name, phi, psi, cotangent)
    actual = value_and_gradients(ENERGIES[name].pairwise, phi, psi, cotangent)
    scale = phi.shape[1] * 100 * np.abs(cotangent).sum()
    close(actual[0], expected[0], phi.shape[1] * 100)
    close(actual[1], expected[1], scale)
    close(actual[2], expected[2], scale)


@each_energy
@given(embeddings())
def test_rowwise_is_the_diagonal(name: str, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    phi, psi, _ = case
    rows = min(len(phi), len(psi))
    phi, psi = phi[:rows], psi[:rows]
    if name == "l1":
        psi = psi + 1 / 128
    if name == "cosine":
        assume(min(np.linalg.norm(phi, axis=1).min(), np.linalg.norm(psi, axis=1).min()) > 0.1)
    weights = np.linspace(-1.0, 2.0, rows)
    value, to_phi, to_psi = reference(name, phi, psi, np.diag(weights))
    actual = value_and_gradients(ENERGIES[name], phi, psi, weights)
    close(actual[0], np.diag(value), phi.shape[1] * 100)
    close(actual[1], to_phi, phi.shape[1] * 10)
    close(actual[2], to_psi, phi.shape[1] * 10)


@each_energy
def test_generic_embeddings_to_tight_relative_precision(name: str) -> None:
    rng = np.random.default_rng(0)
    phi, psi, cotangent = (
        rng.normal(size=shape).astype(np.float32).astype(float) for shape in [(7, 64), (9, 64), (7, 9)]
    )
    for actual, expected in zip(
        value_and_gradients(ENERGIES[name].pairwise, phi, psi, cotangent),
        reference(name, phi, psi, cotangent),
        strict=True,
    ):
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        assert error < 1e-6


@each_energy
def test_rowwise_broadcasts_over_leading_axes(name: str) -> None:
    phi, psi = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    whole = ENERGIES[name](jnp.asarray(phi), jnp.asarray(psi))
    assert whole.shape == (3, 4)
    for index in np.ndindex(3, 4):
        expected, _ = reference_pair(name, phi[index].astype(float), psi[index].astype(float))
        assert float(whole[index]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@each_energy
@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (5, 8)], ids=str)
@pytest.mark.parametrize("kind", ["identical", "zero", "one-zero", "huge", "tiny"])
def test_values_and_gradients_are_finite_everywhere(name: str, shape: tuple[int, int], kind: str) -> None:
    phi = np.random.default_rng(2).normal(size=shape)
    phi, psi = {
        "identical": (phi, phi),
        "zero": (0 * phi, 0 * phi),
        "one-zero": (0 * phi, phi),
        "huge": (1e6 * phi, -1e6 * phi),
        "tiny": (1e-30 * phi, -1e-30 * phi),
    }[kind]
    energy = ENERGIES[name]
    for form, cotangent in [(energy, np.ones(shape[0])), (energy.pairwise, np.ones((shape[0], shape[0])))]:
        for part in value_and_gradients(form, phi, psi, cotangent):
            assert np.all(np.isfinite(part))


@each_energy
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(name: str, bad: float) -> None:
    """Else a loss would look well while the networks are lost."""
    phi = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    spoiled = phi.copy()
    spoiled[1, 2] = bad
    energy = jax.jit(ENERGIES[name].pairwise)(jnp.asarray(spoiled), jnp.asarray(phi))
    assert not np.any(np.isfinite(energy[1]))
    assert np.all(np.isfinite(np.delete(np.asarray(energy), 1, axis=0)))


@pytest.mark.parametrize("name", ["l1", "l2", "l2-squared"])
def test_identical_embeddings_have_energy_and_gradient_zero(name: str) -> None:
    phi = np.random.default_rng(3).normal(size=(4, 6))
    for part in value_and_gradients(ENERGIES[name], phi, phi, np.ones(4)):
        assert not np.any(part)
    diagonal = jnp.diagonal(ENERGIES[name].pairwise(jnp.asarray(phi, jnp.float32), jnp.asarray(phi, jnp.float32)))
    assert not np.any(diagonal)


@pytest.mark.parametrize("name", ["l2", "l2-squared"])
def test_near_pairs_far_from_the_origin_keep_their_digits(name: str) -> None:
    """The expansion |phi|^2 - 2 phi psi + |psi|^2 would lose all of them: 1024^2 * 8 in fp32 has a spacing of 0.5."""
    phi = np.full((3, 8), 1024.0)
    psi = phi[:2] + np.array([[1 / 64], [-1 / 32]])
    expected, _, _ = reference(name, phi, psi, np.ones((3, 2)))
    actual = ENERGIES[name].pairwise(jnp.asarray(phi, jnp.float32), jnp.asarray(psi, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_l1_of_a_tie_has_a_slope_between_those_of_its_sides() -> None:
    psi = jnp.array([1.0, 5.0, -2.0])
    value, gradient = jax.value_and_grad(lambda phi: L1()(phi, psi))(jnp.array([1.0, 2.0, 3.0]))
    assert float(value) == -8.0
    assert abs(float(gradient[0])) <= 1.0
    np.testing.assert_array_equal(gradient[1:], [1.0, -1.0])


def test_cosine_ignores_lengths_and_divides_by_its_temperature() -> None:
    phi = jnp.array([[3.0, 0.0], [0.0, 0.5]])
    psi = jnp.array([[100.0, 0.0], [0.0, -2.0]])
    np.testing.assert_allclose(Cosine()(phi, psi), [10.0, -10.0], rtol=1e-6)
    np.testing.assert_allclose(Cosine(2.0).pairwise(phi, psi), [[0.5, 0.0], [0.0, -0.5]], atol=1e-7)


def test_safe_sqrt_has_the_slope_of_sqrt_and_none_at_zero() -> None:
    x = jnp.array([0.0, 1e-12, 0.25, 9.0])
    np.testing.assert_allclose(safe_sqrt(x), [0.0, 1e-6, 0.5, 3.0], rtol=1e-6)
    slopes = jax.vmap(jax.grad(safe_sqrt))(x)
    np.testing.assert_allclose(slopes, [0.0, 5e5, 1.0, 1 / 6], rtol=1e-5)


def test_squared_distances_saves_no_tensor_over_pairs_and_dimensions() -> None:
    """Its hand-written gradient keeps (rows, dim) arrays only: none of the shape (rows, columns, dim) is saved."""
    phi, psi = jnp.ones((6, 5)), jnp.ones((7, 5))
    _, pullback = jax.vjp(squared_distances, phi, psi)
    assert max(leaf.size for leaf in jax.tree.leaves(pullback)) <= 7 * 6
