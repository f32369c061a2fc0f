"""Kernels per layer, memory and compile time of the programs that a GPU would run, without a GPU.

    python -m benchmarks.aot [--depths 64 1024] [--program gradient-step epoch] [--variant scan ours] [--json PATH]
    python -m benchmarks.aot --update-baseline     # the numbers of today become those that may not rise

Needs the CUDA plugin of JAX, not a GPU; `nox -s gpu-aot` makes an environment that has it. A layer is cheap on a GPU
and a launch is not (2.5 to 4 microseconds each), so the number of kernels is what a deep network waits for. Exit
status 1 if a number is above the one in the baseline.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.aot import baseline
from benchmarks.aot.hlo import launches
from benchmarks.aot.programs import PROGRAMS, VARIANTS
from benchmarks.aot.target import compile_for_h100, h100
from benchmarks.table import MIB, show

COLUMNS = (
    "program",
    "depth",
    "kernels per layer",
    "stored",
    "per step",
    "in all",
    "temporaries, MiB",
    "HLO, MB",
    "trace, s",
    "compile, s (CPU)",
)


def measure(program: str, variant: str, depth: int) -> dict[str, Any]:
    """One compilation. Per layer: the launches of one gradient step, all of them, over the depth."""
    made = PROGRAMS[program](VARIANTS[variant], depth)
    compiled = compile_for_h100(made.function, *made.shapes)
    found = launches(compiled.text)
    per_step = made.per_step(found)
    return {
        "program": program,
        "variant": variant,
        "depth": depth,
        "per_layer": per_step / depth,
        "per_step": per_step,
        "total": found.total,
        "kinds": dict(found.by_kind()),
        "unbounded_loops": found.unbounded,
        "temporaries": compiled.temporaries,
        "hlo_bytes": len(compiled.text.encode()),
        "trace_seconds": compiled.trace,
        "compile_seconds": compiled.compile,
        "compile_cpu_seconds": compiled.compile_cpu,
    }


def cells(row: dict[str, Any], before: float | None) -> tuple[str, ...]:
    """A row of the table."""
    return (
        f"{row['program']}, {row['variant']}",
        str(row["depth"]),
        f"{row['per_layer']:.1f}",
        "-" if before is None else f"{before:.1f}",
        f"{row['per_step']:,}",
        f"{row['total']:,}" + (" or more" if row["unbounded_loops"] else ""),
        f"{row['temporaries'] / MIB:,.0f}",
        f"{row['hlo_bytes'] / 1e6:.2f}",
        f"{row['trace_seconds']:.1f}",
        f"{row['compile_seconds']:.1f} ({row['compile_cpu_seconds']:.1f})",
    )


def main() -> None:
    """Compile, show, compare."""
    parser = argparse.ArgumentParser(description="Count the kernels of a gradient step, compiled for an H100.")
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--program", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, help="default: all, unrolled up to depth 64 only")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--baseline", type=Path, default=baseline.PATH)
    parser.add_argument("--update-baseline", action="store_true", help="store the numbers of this run")
    arguments = parser.parse_args()
    if arguments.update_baseline and not arguments.baseline.exists():
        before: dict[str, Any] = {"kernels_per_layer": {}}
    else:
        before = baseline.read(arguments.baseline)
    h100()
    rows = []
    for program in arguments.program:
        for depth in arguments.depths:
            for variant, about in VARIANTS.items():
                if variant in (arguments.variant or (variant,)) and (
                    arguments.variant or about.deepest is None or depth <= about.deepest
                ):
                    rows.append(measure(program, variant, depth))
                    print(" | ".join(cells(rows[-1], baseline.stored(before, rows[-1]))), file=sys.stderr, flush=True)
    show(
        "compiled for an H100, width 256, batch 512; per step: kernels of one gradient step",
        COLUMNS,
        [cells(row, baseline.stored(before, row)) for row in rows],
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if arguments.update_baseline:
        baseline.write(arguments.baseline, baseline.updated(before, rows))
    elif lines := baseline.risen(before, rows):
        raise SystemExit(
            "\n".join(["More kernels than before:", *lines, "If that is meant: `--update-baseline`, and say why."])
        )


if __name__ == "__main__":
    main()
