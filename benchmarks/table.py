"""From the JSON of pytest-benchmark to a table of ratios: on the terminal, and between markers in a Markdown file.

python -m benchmarks.table [JSON] [--markdown docs/performance.md]
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BEGIN, END = "<!-- benchmarks: begin (written by benchmarks/table.py) -->", "<!-- benchmarks: end -->"
COLUMNS = ("case", "ours", "baseline", "ratio", "by CPU time", "bar", "baseline is")
MIB = 2**20


def default_path() -> Path:
    """`bench.json` in $OUT, or in benchmarks/results."""
    return Path(os.environ.get("OUT") or Path(__file__).parent / "results") / "bench.json"


def quantity(seconds: float | None, info: dict[str, Any]) -> str:
    """Seconds, or the rate that they make, as text."""
    if seconds is None:
        return "-"
    if info["unit"] == "s":
        return f"{seconds:.3g} s"
    return (
        f"{info['amount'] / seconds:,.3g} {info['unit']}"
        if info["amount"] / seconds < 1000
        else (f"{info['amount'] / seconds:,.0f} {info['unit']}")
    )


def ratio_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each benchmark with a case, in the order they ran; those with a best round have their own table."""
    rows = []
    for benchmark in report["benchmarks"]:
        info = benchmark["extra_info"]
        if "case" not in info or "best" in info:
            continue
        kind = info["baseline_kind"]
        name = info["baseline_name"] + ("" if kind == "measured" else f" ({kind})")
        ratios = ("-" if info[key] is None else f"{info[key]:.2f}" for key in ("ratio", "cpu_ratio"))
        bar = f"{info['least_ratio']:.2f}" if "least_ratio" in info else "-"
        rows.append((info["case"], quantity(info["ours"], info), quantity(info["baseline"], info), *ratios, bar, name))
    return rows


def physics_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for each benchmark with a best round: rates of the median and of the best, beside what is asked for.

    Per processor second: what other processes hardly disturb.
    """
    rows = []
    for benchmark in report["benchmarks"]:
        info = benchmark["extra_info"]
        if "best" not in info:
            continue
        rate, ratio = info.get("bar"), info.get("ratio_bar")
        bar = f"{rate:,.0f}" if rate else f"ratio {ratio:.2f}" if ratio else "-"
        both = (
            f"{info['amount'] / info[median]:,.0f} ({info['amount'] / info[best]:,.0f})"
            for median, best in (("ours", "best"), ("baseline", "baseline_best"))
        )
        per_cpu = f"{info['amount'] / info['ours_cpu']:,.0f}"
        ratios = (f"{info[key]:.2f}" for key in ("ratio", "cpu_ratio"))
        rows.append((info["case"], next(both), bar, per_cpu, next(both), *ratios, info["baseline_name"]))
    return rows


def memory_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Temporaries of the compiled programs, ours and the baseline's, in MiB."""
    rows = []
    for benchmark in report["benchmarks"]:
        info = benchmark["extra_info"]
        if "memory" not in info:
            continue
        other = info.get("baseline_memory")
        name = info.get("case") or f"epoch, depth {info['depth']}, remat {info['policy']}"
        rows.append(
            (
                name,
                f"{info['memory']['arguments'] / MIB:,.0f}",
                f"{info['memory']['in_place'] / MIB:,.0f}",
                f"{info['memory']['temporaries'] / MIB:,.1f}",
                "-" if other is None else f"{other['temporaries'] / MIB:,.1f}",
            )
        )
    return rows


def compile_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Seconds that it took to compile the programs, ours and the baseline's, where a benchmark says so."""
    rows = []
    for benchmark in report["benchmarks"]:
        info = benchmark["extra_info"]
        if "compile_seconds" in info:
            both = (info["compile_seconds"], info["baseline_compile_seconds"])
            rows.append((info["case"], *(f"{value:.1f}" for value in both), info["baseline_name"]))
    return rows


PHYSICS_COLUMNS = (
    "task, engine", "ours", "bar", "per CPU second", "baseline", "ratio", "by CPU time", "baseline is",
)  # fmt: skip
PHYSICS_TITLE = "MuJoCo tasks, env steps/s through the whole rollout: of the median round (of the best)"
COMPILE_COLUMNS = ("program", "ours, s", "baseline, s", "baseline is")
MEMORY_COLUMNS = ("program", "arguments, MiB", "written in place, MiB", "temporaries, MiB", "the baseline's")


def machine(report: dict[str, Any]) -> str:
    """Where and when it was measured."""
    info = report["machine_info"]
    cpu = info.get("cpu", {})
    return (
        f"{cpu.get('brand_raw', info.get('machine', 'unknown processor'))}, {cpu.get('count', '?')} cores, "
        f"Python {info['python_version']}, {report['datetime'][:10]}"
    )


def markdown_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; figures flush right."""
    align = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, tuple(align), *rows])


def write_markdown(path: Path, report: dict[str, Any]) -> None:
    """Replace what stands between the markers. Raises: SystemExit if the file has none."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise SystemExit(f"{path} has no place for the tables; add these two lines to it:\n{BEGIN}\n{END}")
    section = "\n\n".join(
        [
            f"Measured on: {machine(report)}.",
            markdown_table(COLUMNS, ratio_rows(report)),
            f"{PHYSICS_TITLE}:",
            markdown_table(PHYSICS_COLUMNS, physics_rows(report)),
            "Compiling the rollout of a MuJoCo task:",
            markdown_table(COMPILE_COLUMNS, compile_rows(report)),
            "What the compiled programs hold (exact, from XLA's memory analysis):",
            markdown_table(MEMORY_COLUMNS, memory_rows(report)),
        ]
    )
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}", encoding="utf-8")


def show(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table on the terminal, if there is anything in it."""
    if not rows:
        return
    table = Table(*columns, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    # On a terminal its own width; in a log wide enough for every cell.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main() -> None:
    """Read, show, and write if asked to."""
    parser = argparse.ArgumentParser(description="Show benchmark results as ratios to their baselines.")
    parser.add_argument("json", type=Path, nargs="?", default=default_path(), help="result of pytest-benchmark")
    parser.add_argument("--markdown", type=Path, help="also write the tables between the markers of this file")
    arguments = parser.parse_args()
    if not arguments.json.is_file():
        raise SystemExit(f"{arguments.json} does not exist; `nox -s bench` writes it.")
    report = json.loads(arguments.json.read_text(encoding="utf-8"))
    show(f"ratio = baseline time / our time; above 1 ours is faster\n{machine(report)}", COLUMNS, ratio_rows(report))
    show(PHYSICS_TITLE, PHYSICS_COLUMNS, physics_rows(report))
    show("compile time of rollouts", COMPILE_COLUMNS, compile_rows(report))
    show("memory of the compiled programs", MEMORY_COLUMNS, memory_rows(report))
    if arguments.markdown:
        write_markdown(arguments.markdown, report)


if __name__ == "__main__":
    main()
