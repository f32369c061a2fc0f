"""An ONNX graph in the making: nodes, constants and names, with the loops inside it."""

from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from eqcrl.errors import UsageError
from eqcrl.export.extra import require

OPSET = 18
IR_VERSION = 9

Name = str


class Graph:
    """Nodes of one graph; those of a loop's body have graphs of their own that see the names of those around them."""

    def __init__(self, outer: "Graph | None" = None):
        self.onnx = require("onnx")
        self.outer = outer
        self.top: Graph = self if outer is None else outer.top
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.weights: list[Any] = []
        self.known: dict[Any, Name] = {}
        """Constants that were made already."""
        self.count = 0
        self.rows: Name = ""
        """Of the graph at the top: one whole number in an array, how many rows there are."""

    def inner(self) -> "Graph":
        """An empty graph for the body of a loop."""
        return Graph(self)

    def fresh(self, hint: str = "t") -> Name:
        """A name that no other value has: bodies see the names around them and may not hide them."""
        self.top.count += 1
        return f"{hint}_{self.top.count}"

    def add(self, operator: str, *inputs: Name, outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of what it makes, or a list of several."""
        names = [self.fresh(operator.lower()) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = None) -> Name:
        """A value that is part of the file; equal ones are kept once, at the top."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.top.known:
            name = self.top.known[key] = self.fresh("constant")
            node = self.onnx.helper.make_node("Constant", [], [name], value=self._tensor(name, array))
            self.top.constants.append(node)
        return self.top.known[key]

    def weight(self, name: Name, array: np.ndarray) -> Name:
        """A named array that is part of the file, in the graph at the top."""
        self.weights.append(self._tensor(name, array))
        return name

    def _tensor(self, name: Name, array: np.ndarray) -> Any:
        numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        return self.onnx.helper.make_tensor(name, self.type_of(array.dtype), array.shape, numbers, raw=True)

    def type_of(self, dtype: Any) -> int:
        """ONNX's number for a type. Raises: UsageError for one that it does not have."""
        types = self.onnx.TensorProto
        if np.dtype(dtype) == ml_dtypes.bfloat16:
            return types.BFLOAT16
        try:
            return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        except (KeyError, TypeError):
            raise unsupported(f"values of type {dtype}") from None

    def shape(self, dims: Iterable[Any]) -> Name:
        """The shape as a value; a symbol in it stands for the number of rows. Raises: UsageError for anything else."""
        dims = tuple(dims)
        if all(isinstance(d, int) for d in dims):
            return self.constant(dims, np.int64)
        pieces = [self.constant([d], np.int64) if isinstance(d, int) else self.size(d) for d in dims]
        return pieces[0] if len(pieces) == 1 else self.add("Concat", *pieces, axis=0)

    def size(self, dim: Any) -> Name:
        """One symbolic dimension, as an array of one number."""
        if str(dim) != SYMBOL:
            raise unsupported(f"an array whose size is {dim}")
        return self.top.rows

    def declared(self, name: Name, dtype: Any, dims: Sequence[Any]) -> Any:
        """What inputs and outputs of a graph say of themselves."""
        return self.onnx.helper.make_tensor_value_info(
            name, self.type_of(dtype), [d if isinstance(d, int) else str(d) for d in dims]
        )

    def made(self, title: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The finished graph."""
        nodes = [*self.constants, *self.nodes]
        return self.onnx.helper.make_graph(nodes, title, list(inputs), list(outputs), self.weights)


SYMBOL = "batch"


def unsupported(what: str) -> UsageError:
    """The error for what this export cannot say in ONNX."""
    return UsageError(
        f"The policy cannot be exported to ONNX: its networks use {what}, for which this export has no translation.",
        mend="--format stablehlo takes every network; --format safetensors has the weights.",
    )
