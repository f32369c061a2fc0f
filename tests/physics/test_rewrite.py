"""Traced code of others with some of its primitives replaced."""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpy as np
from jax.extend.core.primitives import sin_p

from eqcrl.physics.rewrite import evaluate, without_libraries

X = jnp.linspace(0.1, 1.0, 4)


def everywhere(x):
    """The sine at the top, in a function of its own, and in a loop within one."""
    inner = jax.jit(lambda x: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) + x), (0, x)))
    return jnp.sin(x) + jax.jit(jnp.sin)(2 * x), inner(x)[1]


def test_a_rule_holds_at_every_depth_and_under_transformations():
    def expected(x):
        y = x
        for _ in range(3):
            y = jnp.cos(y) + x
        return jnp.cos(x) + jnp.cos(2 * x), y

    traced = jax.make_jaxpr(everywhere)(X[0])

    def found(x):
        return evaluate(traced, {sin_p: lambda x, **_: jnp.cos(x)}, x)

    for run in (jax.vmap(found), jax.jit(jax.vmap(found))):
        np.testing.assert_allclose(run(X), jax.vmap(expected)(X), rtol=1e-6)


def test_without_a_rule_or_where_it_declines_nothing_changes():
    traced = jax.make_jaxpr(everywhere)(X[0])
    for rules in ({}, {sin_p: lambda x, **_: None}):
        for ours, theirs in zip(evaluate(traced, rules, X[0]), everywhere(X[0]), strict=True):
            assert np.array_equal(ours, theirs)


def solved(a, b):
    """What MJX does, in a loop as its solver: a factor, a solve with it, a sum of three products."""

    def body(carried):
        i, x = carried
        return i + 1, linalg.cho_solve(linalg.cho_factor(a + i * jnp.eye(5)), b + x) + b[:3] @ a[:3]

    return jax.lax.while_loop(lambda carried: carried[0] < 2, body, (0, jnp.zeros_like(b)))[1]


def test_no_library_is_called_and_the_numbers_are_the_same():
    half = np.random.default_rng(0).normal(size=(6, 5, 9)).astype(np.float32)
    a, b = half @ half.transpose(0, 2, 1) + np.eye(5, dtype=np.float32), half[:, :, 0]
    run = without_libraries(jax.make_jaxpr(solved)(a[0], b[0]))
    programs = [jax.jit(jax.vmap(f)).lower(a, b).compile() for f in (solved, lambda a, b: run(a, b)[0])]
    assert ['custom_call_target="lapack' in program.as_text() for program in programs] == [True, False]
    theirs, ours = (np.asarray(program(a, b)) for program in programs)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_other_triangles_and_long_sums_stay_as_they_are():
    def from_the_right(a, b):
        return jax.lax.linalg.triangular_solve(a, b, left_side=False, lower=True) + b @ a

    a, b = jnp.tril(jnp.ones((6, 6)) + jnp.eye(6)), jnp.ones((2, 6))
    run = without_libraries(jax.make_jaxpr(from_the_right)(a, b))
    assert np.array_equal(run(a, b)[0], from_the_right(a, b))
