"""What each operation of a traced function is in ONNX."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eqcrl.export.onnx_graph import Graph, Name, unsupported

Operation = Callable[[Graph, Any, Sequence[Name]], Any]
"""(graph, equation, names of its inputs) -> name or names of its outputs."""

FLOAT_MANTISSA = 23
FARTHEST = np.iinfo(np.int64).max


def _plain(operator: str) -> Operation:
    return lambda graph, equation, inputs: graph.add(operator, *inputs)


def _same(graph: Graph, equation: Any, inputs: Sequence[Name]) -> list[Name]:
    return list(inputs)


def _rsqrt(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Reciprocal", graph.add("Sqrt", *inputs))


def _erfc(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Sub", graph.constant(1.0, _dtype(equation)), graph.add("Erf", *inputs))


def _integer_pow(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Pow", *inputs, graph.constant(equation.params["y"], _dtype(equation)))


def _square(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Mul", inputs[0], inputs[0])


def _not_equal(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Not", graph.add("Equal", *inputs))


def _select(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    if len(inputs) != 3 or equation.invars[0].aval.dtype != np.bool_:
        raise unsupported("a choice among more than two values")
    choice, otherwise, value = inputs
    if _dtype(equation) != np.bool_:
        return graph.add("Where", choice, value, otherwise)
    # Runtimes have no `Where` of truth values.
    return graph.add("Or", graph.add("And", choice, value), graph.add("And", graph.add("Not", choice), otherwise))


def _convert(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Cast", *inputs, to=graph.type_of(equation.params["new_dtype"]))


def _reduce_precision(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Any:
    """To `mantissa_bits`, by Veltkamp's splitting: x C - (x C - x) with C = 2^dropped + 1 (Dekker 1971)."""
    dropped = FLOAT_MANTISSA - equation.params["mantissa_bits"]
    if dropped <= 0:
        return list(inputs)
    scaled = graph.add("Mul", *inputs, graph.constant(2.0**dropped + 1.0, np.float32))
    return graph.add("Sub", scaled, graph.add("Sub", scaled, *inputs))


def _reduced(operator: str) -> Operation:
    def reduce(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
        axes = graph.constant(equation.params["axes"], np.int64)
        return graph.add(operator, *inputs, axes, keepdims=0)

    return reduce


def _broadcast(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    """Axes of size one where there was none, then copies along them."""
    before, after = equation.invars[0].aval.shape, equation.params["shape"]
    kept = dict(zip(equation.params["broadcast_dimensions"], before, strict=True))
    placed = inputs[0]
    added = [axis for axis in range(len(after)) if axis not in kept]
    if added:
        placed = graph.add("Unsqueeze", placed, graph.constant(added, np.int64))
    if all(_equal(kept.get(axis, 1), size) for axis, size in enumerate(after)):
        return placed
    return graph.add("Expand", placed, graph.shape(after))


def _reshape(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    sizes = equation.outvars[0].aval.shape
    symbolic = [axis for axis, size in enumerate(sizes) if not isinstance(size, int)]
    if len(symbolic) == 1:
        shape = graph.constant([-1 if axis in symbolic else size for axis, size in enumerate(sizes)], np.int64)
    else:
        shape = graph.shape(sizes)
    return graph.add("Reshape", *inputs, shape)


def _squeeze(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Squeeze", *inputs, graph.constant(equation.params["dimensions"], np.int64))


def _transpose(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Transpose", *inputs, perm=list(equation.params["permutation"]))


def _concatenate(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    return graph.add("Concat", *inputs, axis=equation.params["dimension"])


def _slice(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    sizes = equation.invars[0].aval.shape
    cut = [
        axis
        for axis in range(len(starts))
        if not (_equal(starts[axis], 0) and _equal(ends[axis], sizes[axis]) and strides[axis] == 1)
    ]
    if any(not isinstance(dims[axis], int) for axis in cut for dims in (starts, ends)):
        raise unsupported("a cut through the rows of a batch")
    chosen = [[dims[axis] for axis in cut] for dims in (starts, ends)]
    given = [graph.constant(values, np.int64) for values in (*chosen, cut, [strides[axis] for axis in cut])]
    return graph.add("Slice", *inputs, *given)


def _pad(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    widths = equation.params["padding_config"]
    if any(low < 0 or high < 0 or between for low, high, between in widths):
        raise unsupported("padding that cuts or that lies between numbers")
    pads = [low for low, _, _ in widths] + [high for _, high, _ in widths]
    return graph.add("Pad", inputs[0], graph.constant(pads, np.int64), inputs[1])


def _iota(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    if not all(isinstance(size, int) for size in shape):
        raise unsupported("the numbers of the rows of a batch")
    along = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return graph.constant(np.broadcast_to(along, shape), _dtype(equation))


def _rows(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    size = graph.add("Squeeze", graph.size(equation.params["dim"]), graph.constant([0], np.int64))
    return graph.add("Cast", size, to=graph.type_of(_dtype(equation)))


def _cumsum(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    axis = graph.constant(equation.params["axis"], np.int64)
    return graph.add("CumSum", *inputs, axis, reverse=int(equation.params["reverse"]))


def _dot(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    """A product of float32; operands that are rounded to less are so before they come here."""
    (contracted, batched), wanted = equation.params["dimension_numbers"], _dtype(equation)
    operands = [
        name if v.aval.dtype == np.float32 else graph.add("Cast", name, to=graph.type_of(np.float32))
        for name, v in zip(inputs, equation.invars, strict=True)
    ]
    ranks = [v.aval.ndim for v in equation.invars]
    if (contracted, ranks[1]) == (((ranks[0] - 1,), (0,)), 2):
        product = graph.add("MatMul", *operands)
    else:
        product = graph.add("Einsum", *operands, equation=_letters(ranks, contracted, batched))
    return product if wanted == np.float32 else graph.add("Cast", product, to=graph.type_of(wanted))


def _letters(ranks: Sequence[int], contracted: Any, batched: Any) -> str:
    """Dimension numbers in the notation of Einstein's sums: what is shared comes first, then what is left."""
    alphabet = iter("abcdefghijklmnopqrstuvwxyz")
    of: list[dict[int, str]] = [{}, {}]
    shared = ""
    for pairs, kept in ((batched, True), (contracted, False)):
        for one, other in zip(*pairs, strict=True):
            of[0][one] = of[1][other] = letter = next(alphabet)
            shared += letter if kept else ""
    free = ["".join(of[i].setdefault(axis, next(alphabet)) for axis in range(r) if axis not in of[i])
            for i, r in enumerate(ranks)]  # fmt: skip
    terms = ["".join(of[i][axis] for axis in range(rank)) for i, rank in enumerate(ranks)]
    return f"{terms[0]},{terms[1]}->{shared}{free[0]}{free[1]}"


def _gather(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    """One place along one axis, as `jax.lax.dynamic_index_in_dim` takes it."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape = equation.invars[0].aval.shape
    axes = tuple(numbers.start_index_map)
    whole = all(_equal(size, shape[a]) for a, size in enumerate(sizes) if a not in axes)
    single = len(axes) == 1 and sizes[axes[0]] == 1 and equation.invars[1].aval.shape == (1,)
    if not (whole and single and not numbers.operand_batching_dims):
        raise unsupported("a choice of many places at once")
    index = inputs[1]
    if tuple(numbers.collapsed_slice_dims) == axes:
        index = graph.add("Squeeze", index, graph.constant([0], np.int64))
    return graph.add("Gather", inputs[0], index, axis=axes[0])


def _scatter(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    """Another value in one place of the first axis, as `x.at[i].set(y)` puts it."""
    numbers = equation.params["dimension_numbers"]
    place, update = equation.invars[1].aval.shape, equation.invars[2].aval.shape
    first = tuple(numbers.scatter_dims_to_operand_dims) == (0,) == tuple(numbers.inserted_window_dims)
    if not (first and place == (1,) and len(update) == equation.invars[0].aval.ndim - 1):
        raise unsupported("a change in many places at once")
    new = graph.add("Unsqueeze", inputs[2], graph.constant([0], np.int64))
    return _exchanged(graph, inputs[0], new, inputs[1], 0)


def _dynamic_update(graph: Graph, equation: Any, inputs: Sequence[Name]) -> Name:
    """The same, at a place that is worked out, along the one axis that the update does not fill."""
    whole, part = (v.aval.shape for v in equation.invars[:2])
    axes = [axis for axis in range(len(whole)) if not _equal(whole[axis], part[axis])]
    if len(axes) != 1 or part[axes[0]] != 1:
        raise unsupported("a change in many places at once")
    index = graph.add("Unsqueeze", inputs[2 + axes[0]], graph.constant([0], np.int64))
    return _exchanged(graph, inputs[0], inputs[1], index, axes[0])


def _exchanged(graph: Graph, whole: Name, new: Name, index: Name, axis: int) -> Name:
    """What is before the place, the new, what is after it."""
    index = graph.add("Cast", index, to=graph.type_of(np.int64))
    zero, one, end = (graph.constant([n], np.int64) for n in (0, 1, FARTHEST))
    axes = graph.constant([axis], np.int64)
    before = graph.add("Slice", whole, zero, index, axes)
    after = graph.add("Slice", whole, graph.add("Add", index, one), end, axes)
    return graph.add("Concat", before, new, after, axis=axis)


def _dtype(equation: Any) -> Any:
    return equation.outvars[0].aval.dtype


def _equal(one: Any, other: Any) -> bool:
    """Sizes that are the same number, or the same symbol."""
    return str(one) == str(other)


OPERATIONS: dict[str, Operation] = {
    **{
        ours: _plain(theirs)
        for ours, theirs in {
            "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "neg": "Neg",
            "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "sqrt": "Sqrt", "abs": "Abs",
            "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "erf": "Erf", "pow": "Pow", "sin": "Sin", "cos": "Cos",
            "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less", "eq": "Equal",
            "and": "And", "or": "Or", "not": "Not",
        }.items()
    },
    **dict.fromkeys(("copy", "name", "stop_gradient", "optimization_barrier"), _same),
    "rsqrt": _rsqrt,
    "erfc": _erfc,
    "integer_pow": _integer_pow,
    "square": _square,
    "ne": _not_equal,
    "select_n": _select,
    "convert_element_type": _convert,
    "reduce_precision": _reduce_precision,
    "reduce_sum": _reduced("ReduceSum"),
    "reduce_max": _reduced("ReduceMax"),
    "reduce_min": _reduced("ReduceMin"),
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "pad": _pad,
    "iota": _iota,
    "dim_as_value": _rows,
    "cumsum": _cumsum,
    "dot_general": _dot,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_update_slice": _dynamic_update,
}  # fmt: skip
