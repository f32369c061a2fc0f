"""From a traced function to ONNX: operation by operation, a scan over blocks as one loop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from eqcrl.export.onnx_graph import Graph, Name, unsupported
from eqcrl.export.onnx_ops import OPERATIONS

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Operations that are other functions, and where these stand: they are written out in place."""


class Walk:
    """Writes a function into a graph; `values` has the name of what each variable is there."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.values: dict[Any, Name] = {}
        self.platforms: set[Any] = set()
        """Variables that say which platform this is."""

    def function(self, closed: ClosedJaxpr | Jaxpr, inputs: Sequence[Name]) -> list[Name]:
        """The names of the outputs. Raises: UsageError for an operation without translation."""
        inner, constants = (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, [])
        walk, live = Walk(self.graph), _live(inner)
        used = {v for equation in live for v in equation.invars if isinstance(v, Var)}
        for variable, constant in zip(inner.constvars, constants, strict=True):
            if variable in used:
                walk.values[variable] = self.graph.constant(np.asarray(constant))
        walk.values |= dict(zip(inner.invars, inputs, strict=True))
        for equation in live:
            walk.equation(equation)
        return [walk.name(v) for v in inner.outvars]

    def name(self, variable: Any) -> Name:
        """Of a variable or a literal."""
        if isinstance(variable, Literal):
            return self.graph.constant(np.asarray(variable.val, variable.aval.dtype))  # type: ignore[attr-defined]
        return self.values[variable]

    def equation(self, equation: Any) -> None:
        """One operation."""
        kind, params = equation.primitive.name, equation.params
        if kind == "platform_index":
            self.platforms.add(equation.outvars[0])
            return
        inputs = [self.name(v) for v in equation.invars if isinstance(v, Literal) or v not in self.platforms]
        if kind in CALLS:
            outputs = self.function(params[CALLS[kind]], inputs)
        elif kind == "cond" and params.get("branches_platforms") is not None:
            outputs = self.function(_portable(params), inputs)
        elif kind == "scan":
            outputs = self.scan(params, inputs)
        elif kind in OPERATIONS:
            outputs = OPERATIONS[kind](self.graph, equation, inputs)
        else:
            raise unsupported(f"the operation {kind!r}")
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.values |= dict(zip(equation.outvars, outputs, strict=True))

    def scan(self, params: Any, inputs: Sequence[Name]) -> list[Name]:
        """An ONNX Scan: its body sees what is constant by name, carries come before what is scanned over."""
        body: ClosedJaxpr = params["jaxpr"]
        consts, carries = params["num_consts"], params["num_carry"]
        over = list(inputs[consts + carries :]) or [self.graph.constant(np.zeros(params["length"], np.float32))]
        graph = self.graph.inner()
        variables = body.jaxpr.invars[consts:]
        names = [graph.fresh("in") for _ in variables]
        declared = [graph.declared(n, v.aval.dtype, v.aval.shape) for n, v in zip(names, variables, strict=True)]
        if len(inputs) == consts + carries:
            declared.append(graph.declared(graph.fresh("in"), np.float32, ()))
        made = Walk(graph).function(body, [*inputs[:consts], *names])
        # What leaves a body must be made in it, even if it is handed through.
        left = [graph.add("Identity", name) for name in made]
        outs = [graph.declared(n, v.aval.dtype, v.aval.shape) for n, v in zip(left, body.jaxpr.outvars, strict=True)]
        turned = {
            f"scan_{what}_directions": [1] * count
            for what, count in (("input", len(over)), ("output", len(made) - carries))
            if params["reverse"] and count
        }
        outputs = self.graph.add(
            "Scan",
            *inputs[consts : consts + carries],
            *over,
            outputs=len(made),
            body=graph.made("blocks", declared, outs),
            num_scan_inputs=len(over),
            **turned,
        )
        return [outputs] if isinstance(outputs, str) else outputs


def _live(function: Jaxpr) -> list[Any]:
    """The operations that the outputs depend on, in order."""
    wanted = {v for v in function.outvars if isinstance(v, Var)}
    kept = []
    for equation in reversed(function.eqns):
        if wanted & set(equation.outvars):
            wanted |= {v for v in equation.invars if isinstance(v, Var)}
            kept.append(equation)
    return kept[::-1]


def _portable(params: Any) -> ClosedJaxpr:
    """Of what is written for each platform, the way of a CPU: it says what is rounded and how."""
    for platforms, branch in zip(params["branches_platforms"], params["branches"], strict=True):
        if platforms is None or "cpu" in platforms:
            return branch
    raise unsupported("a function for other platforms only")
