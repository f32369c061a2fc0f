"""The policy as an ONNX model, run by any ONNX runtime."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from eqcrl.export.extra import require
from eqcrl.export.onnx_graph import IR_VERSION, OPSET, Graph
from eqcrl.export.onnx_walk import Walk
from eqcrl.export.policy import Policy, facts_text

INPUTS = ("observation", "desired_goal")
OUTPUT = "action"


def write(policy: Policy, path: Path) -> None:
    """A model for any number of rows, the weights inside under their names.

    Raises: UsageError for an operation that has no translation, or without the package for it; OSError.
    """
    onnx, graph = require("onnx"), Graph()
    graph.rows = graph.add("Shape", INPUTS[0], start=0, end=1)
    weights = [graph.weight(name, array) for name, array in policy.weights.items()]
    traced = policy.traced()
    (made,) = Walk(graph).function(traced, [*weights, *INPUTS])
    graph.nodes.append(onnx.helper.make_node("Identity", [made], [OUTPUT]))
    *_, observation, goal = traced.jaxpr.invars
    inputs = [
        graph.declared(name, v.aval.dtype, v.aval.shape) for name, v in zip(INPUTS, (observation, goal), strict=True)
    ]
    result = traced.jaxpr.outvars[0].aval
    model = onnx.helper.make_model(
        graph.made("policy", inputs, [graph.declared(OUTPUT, result.dtype, result.shape)]),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="eqcrl",
        producer_version=policy.facts["eqcrl"],
    )
    onnx.helper.set_model_props(model, {"format": policy.facts["format"], "policy": facts_text(policy)})
    path.write_bytes(model.SerializeToString())


def read(path: Path, observation: Float[np.ndarray, "rows o"], goal: Float[np.ndarray, "rows g"]) -> np.ndarray:
    """The actions of the model in a file. Raises: UsageError without onnxruntime."""
    runtime = require("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], dict(zip(INPUTS, (observation, goal), strict=True)))[0]
