"""Kernels per layer as they were: numbers that may not rise."""

import json
from pathlib import Path
from typing import Any

import jax

PATH = Path(__file__).with_name("baseline.json")
PLACES = 2


def read(path: Path) -> dict[str, Any]:
    """The stored numbers. Raises: SystemExit if there are none."""
    if not path.is_file():
        raise SystemExit(f"{path} does not exist; `python -m benchmarks.aot --update-baseline` writes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def stored(baseline: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Kernels per layer of the same program, variant and depth, if it was ever stored."""
    variants = baseline["kernels_per_layer"].get(row["program"], {})
    return variants.get(row["variant"], {}).get(str(row["depth"]))


def risen(baseline: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """One line for each number above the stored one."""
    lines = []
    for row in rows:
        before, now = stored(baseline, row), round(row["per_layer"], PLACES)
        if before is not None and now > before:
            lines.append(
                f"{row['program']}, {row['variant']}, depth {row['depth']}: {before} -> {now} kernels per layer"
            )
    if lines and baseline["jax"] != jax.__version__:
        lines.append(f"The stored numbers are those of jax {baseline['jax']}, these of {jax.__version__}.")
    return lines


def updated(baseline: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The stored numbers with those of `rows` in their place; what was not compiled this time stays."""
    numbers = {
        program: {variant: dict(depths) for variant, depths in variants.items()}
        for program, variants in baseline["kernels_per_layer"].items()
    }
    for row in rows:
        depths = numbers.setdefault(row["program"], {}).setdefault(row["variant"], {})
        depths[str(row["depth"])] = round(row["per_layer"], PLACES)
    return {"jax": jax.__version__, "kernels_per_layer": numbers}


def write(path: Path, baseline: dict[str, Any]) -> None:
    """Store it."""
    path.write_text(json.dumps(baseline, indent=2) + "\n", encoding="utf-8")
