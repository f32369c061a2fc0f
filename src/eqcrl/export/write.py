"""A policy into a file, in a format of choice, tried before it is given its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqcrl.errors import EqcrlError, UsageError
from eqcrl.export import onnx_file, stablehlo, weights
from eqcrl.export.policy import Policy, policy_of
from eqcrl.files import atomic
from eqcrl.run import Run

PROGRAM_LIMIT = 2**31 - 2**20
"""Bytes that a file with a program can hold: both formats count them in 31 bits."""
TRIED_ROWS = (1, 7)
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-1}
"""Of an action. Far more than rounding was ever seen to do: in float32 less than 1e-6, at depth 1024 as well; where
products are rounded, sums in another order are rounded to another side here and there."""


@dataclass(frozen=True)
class Format:
    """How a file is written; for programs also how its actions are asked for."""

    suffix: str
    write: Callable[[Policy, Path], None]
    read: Callable[[Path, np.ndarray, np.ndarray], np.ndarray] | None


FORMATS = {
    "stablehlo": Format(".stablehlo", stablehlo.write, stablehlo.read),
    "onnx": Format(".onnx", onnx_file.write, onnx_file.read),
    "safetensors": Format(".safetensors", weights.write, None),
}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    policy: Policy
    difference: float | None
    """Greatest difference of an action of the file to that of the run; None for weights, which are equal."""


def export(run: Run, out: Path, *, format: str, force: bool = False) -> Exported:
    """Write the deterministic policy of a run, as `Run.policy` computes it.

    Before the file gets its name, its actions for random inputs are compared with those of the run.
    Raises: UsageError for a file that exists (unless `force`), a package that is missing, networks that the format
    cannot hold; EqcrlError for actions that differ; RunError; CheckpointError.
    """
    check_out(out, force=force)
    chosen, policy = FORMATS[format], policy_of(run)
    if chosen.read is not None and policy.bytes() > PROGRAM_LIMIT:
        raise UsageError(
            f"The weights take {policy.bytes() / 1e9:.1f} GB, and a file of format {format} holds at most 2.1 GB.",
            mend="--format safetensors has no limit.",
        )
    with atomic(out) as temporary:
        chosen.write(policy, temporary)
        if chosen.read is None:
            return Exported(out, policy, _same_weights(policy, temporary))
        difference = max(_difference(run, policy, chosen, temporary, rows) for rows in TRIED_ROWS)
        _refuse_beyond(difference, TOLERANCE[policy.facts["precision"]])
    return Exported(out, policy, difference)


def check_out(out: Path, *, force: bool = False) -> None:
    """Raises: UsageError if the file should not be written there."""
    if out.is_dir():
        raise UsageError(f"{out} is a directory.", mend="Choose another --out.")
    if out.exists() and not force:
        raise UsageError(f"{out} exists.", mend="Choose another --out, or overwrite it with --force.")


def _difference(run: Run, policy: Policy, chosen: Format, path: Path, rows: int) -> float:
    assert chosen.read is not None
    random = np.random.default_rng(rows)
    inputs = [random.standard_normal(shape.shape, np.float32) for shape in policy.inputs(rows)]
    return float(np.max(np.abs(chosen.read(path, *inputs) - np.asarray(run.policy(*inputs)))))


def _refuse_beyond(difference: float, tolerance: float) -> None:
    # Written so that a value that is no number is refused too.
    if not difference <= tolerance:
        raise EqcrlError(
            f"The exported policy acts differently from the run: by {difference:.3g}, where {tolerance:.3g} is "
            "expected of rounding. Nothing was written.",
            mend="Please report it, with the architecture; another --format may do.",
        )


def _same_weights(policy: Policy, path: Path) -> None:
    written, _ = weights.read(path)
    for name, array in policy.weights.items():
        if not np.array_equal(written[name], array, equal_nan=True):
            raise EqcrlError(f"The weights {name} were not written as they are.", mend="Is the disk sound?")
