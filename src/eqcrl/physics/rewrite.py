"""A traced function with some of its primitives replaced: for code of others that names no way to choose them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.extend.core.primitives import cholesky_p, dot_general_p, jit_p, triangular_solve_p, while_p
from jaxtyping import Array

from eqcrl.physics import small_matrices

SMALL = 4
"""Terms of a sum up to which it is written out: of vectors in space, and of quaternions."""

Rule = Callable[..., Any]
"""Called with the values and the parameters of a primitive; returns its value, or None to leave it as it is."""


def evaluate(traced: ClosedJaxpr, rules: Mapping[Primitive, Rule], *values: Any) -> list[Any]:
    """The results of `traced` at these values, by the rules; also inside of `jit` and `while_loop`, and nowhere else.

    Works under every transformation that the primitives and the rules bear.
    """
    return _evaluate(traced.jaxpr, traced.consts, rules, values)


def without_libraries(traced: ClosedJaxpr) -> Callable[..., list[Any]]:
    """`traced`, with its Cholesky factors, triangular solves and small sums by `eqcrl.physics.small_matrices`."""
    rules = {cholesky_p: _cholesky, triangular_solve_p: _triangular_solve, dot_general_p: _product}
    return lambda *values: evaluate(traced, rules, *values)


def _cholesky(matrix: Array, **params: Any) -> Array | None:
    return small_matrices.cholesky(matrix) if matrix.ndim == 2 and not params.get("symmetrize_input") else None


def _product(a: Array, b: Array, **params: Any) -> Array | None:
    (of_a, of_b), batch = params["dimension_numbers"]
    if a.ndim == b.ndim == 2 and (of_a, of_b) == ((1,), (0,)) and a.shape[1] > SMALL:
        # Else XLA gives a transposed operand to its product in columns, which takes half as long again.
        return dot_general_p.bind(jax.lax.optimization_barrier(a), b, **params)
    if len(of_a) != 1 or not 0 < a.shape[of_a[0]] <= SMALL or not a.dtype == b.dtype == jnp.float32:
        return None
    return small_matrices.product(a, b, (of_a[0], of_b[0]), batch)


def _triangular_solve(triangle: Array, right: Array, **params: Any) -> Array | None:
    if triangle.ndim != 2 or not params["left_side"] or params["unit_diagonal"]:
        return None
    return small_matrices.triangular_solve(triangle, right, lower=params["lower"], transpose=params["transpose_a"])


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], rules: Mapping[Primitive, Rule], values: Sequence[Any]) -> list[Any]:
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, values, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        out = _apply(equation, rules, [read(v) for v in equation.invars])
        known.update(zip(equation.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _apply(equation: Any, rules: Mapping[Primitive, Rule], values: list[Any]) -> Sequence[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive in rules and (out := rules[primitive](*map(jnp.asarray, values), **params)) is not None:
        return [out]
    if primitive is jit_p and _holds(params["jaxpr"].jaxpr, rules):
        return evaluate(params["jaxpr"], rules, *values)
    if primitive is while_p and _holds(params["body_jaxpr"].jaxpr, rules):
        return _loop(params, rules, values)
    bound = primitive.get_bind_params(params)
    # Earlier versions of JAX hand the functions among the parameters out apart.
    functions, others = bound if isinstance(bound, tuple) else ((), bound)
    with equation.ctx.manager:
        out = primitive.bind(*functions, *values, **others)
    return out if primitive.multiple_results else [out]


def _loop(params: dict[str, Any], rules: Mapping[Primitive, Rule], values: list[Any]) -> Sequence[Any]:
    of_cond, of_body = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    cond_consts, body_consts, carried = values[:of_cond], values[of_cond:of_body], values[of_body:]
    return jax.lax.while_loop(
        lambda carried: evaluate(params["cond_jaxpr"], rules, *cond_consts, *carried)[0],
        lambda carried: evaluate(params["body_jaxpr"], rules, *body_consts, *carried),
        carried,
    )


def _holds(jaxpr: Jaxpr, rules: Mapping[Primitive, Rule]) -> bool:
    """Whether a rule is for something in it, at any depth that `evaluate` goes to."""
    for equation in jaxpr.eqns:
        inner = [value.jaxpr for value in equation.params.values() if isinstance(value, ClosedJaxpr)]
        if equation.primitive in rules or any(_holds(one, rules) for one in inner):
            return True
    return False
