"""What the fused kernels are on an H100, without one: registers, spills, launches, compile time.

    python -m benchmarks.aot.fused [--depths 64 1024] [--widths 256] [--json PATH]

One row for each kernel (all three networks of a gradient step side by side) as its assembler reports it, and one for
each whole gradient step with the kernels in it. Exit status 1 if a kernel spills registers to memory. Needs what
`python -m benchmarks.aot` needs.
"""

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.aot.hlo import launches
from benchmarks.aot.programs import BATCH, Variant, gradient_step
from benchmarks.aot.target import compile_for_h100, h100
from benchmarks.table import MIB, show
from eqcrl.nn import fused
from eqcrl.nn.fused_kernels import TILE, backward_walk, forward_walk

NETS, PER_BLOCK = 3, 4
FUSED = Variant("one kernel for all blocks", {"agent__schedule": "abreast", "arch__depth_solver": "fused"})
USED = re.compile(r"Used (\d+) registers")
SPILLED = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
COLUMNS = ("program", "depth", "launches", "registers", "spilled, bytes", "temporaries, MiB", "trace, s", "compile, s")


@contextlib.contextmanager
def assembler_report() -> Iterator[Callable[[], str]]:
    """Makes the assembler talk, and catches what this process prints below Python; the function returns it so far."""
    with tempfile.TemporaryFile("w+b") as file, mock.patch.dict(os.environ, {"MOSAIC_GPU_DUMP_PTXAS": "1"}):
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

        def text() -> str:
            # Not from the file's own position: that is where the next line will be written.
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

        try:
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def walk(direction: str, depth: int, width: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A kernel and the shapes that it takes; the first argument is donated and is none of the kernel's."""
    of = jax.ShapeDtypeStruct
    weight = of((NETS, depth, width, width), jnp.bfloat16)
    stream = of((NETS, BATCH, width), jnp.float32)
    settings: dict[str, Any] = {"scale": 1.0, "per_block": PER_BLOCK, "interpret": False}
    if direction == "forward":
        run, rest = forward_walk, (weight, of((NETS, depth, 3, width), jnp.float32), stream)
    else:
        normals = of((NETS, depth, BATCH, width), jnp.bfloat16)
        inverse = of((NETS, depth, BATCH // TILE, TILE), jnp.float32)
        run, rest = backward_walk, (weight, of((NETS, depth, 2, width), jnp.float32), normals, inverse, stream)
    run = partial(run, **settings)
    return lambda _, *arguments: run(*arguments), (of((), jnp.float32), *rest)


def measure(name: str, depth: int, function: Callable[..., Any], shapes: tuple[Any, ...]) -> dict[str, Any]:
    """One compilation, and the worst of what the assembler says of the kernels in it.

    Raises: SystemExit if it says nothing, because then nobody knows about spills.
    """
    with assembler_report() as report:
        compiled = compile_for_h100(function, *shapes)
        said = report()
    registers, spills = USED.findall(said), SPILLED.findall(said)
    if not registers or not spills:
        raise SystemExit(f"The assembler did not report on {name}, depth {depth}; it said:\n{said[-2000:]}")
    return {
        "program": name,
        "depth": depth,
        "launches": launches(compiled.text).total,
        "registers": max(map(int, registers)),
        "spilled": max(int(stores) + int(loads) for stores, loads in spills),
        "temporaries": compiled.temporaries,
        "trace_seconds": compiled.trace,
        "compile_seconds": compiled.compile,
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    return (
        row["program"],
        str(row["depth"]),
        f"{row['launches']:,}",
        str(row["registers"]),
        str(row["spilled"]),
        f"{row['temporaries'] / MIB:,.0f}",
        f"{row['trace_seconds']:.1f}",
        f"{row['compile_seconds']:.1f}",
    )


def main() -> None:
    """Compile, show, refuse spills."""
    parser = argparse.ArgumentParser(description="Compile the fused kernels for an H100.")
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--widths", type=int, nargs="+", default=[256], help="of the kernels alone")
    parser.add_argument("--json", type=Path, help="write the result there")
    arguments = parser.parse_args()
    h100()
    rows = []
    for depth in arguments.depths:
        for width in arguments.widths:
            for direction in ("forward", "backward"):
                rows.append(measure(f"{direction}, width {width}", depth, *walk(direction, depth, width)))
        # The device of this process is not the one that is compiled for.
        with mock.patch.object(fused, "unsupported_device", return_value=None):
            made = gradient_step(FUSED, depth)
            rows.append(measure("gradient step", depth, made.function, made.shapes))
    show(f"fused kernels compiled for an H100, batch {BATCH}, {NETS} networks", COLUMNS, [cells(row) for row in rows])
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if any(row["spilled"] for row in rows):
        raise SystemExit("A kernel spills registers to memory.")


if __name__ == "__main__":
    main()
