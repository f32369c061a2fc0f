"""From records of benchmark runs to tables of ratios: on the terminal, and between markers in a Markdown file.

python -m benchmarks.table [RECORD ...] [--markdown docs/performance.md]

Of a case that is in several records, the last one counts. Without any, the newest of benchmarks/results is shown.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import records
from benchmarks.records import Case, Record

BEGIN, END = "<!-- benchmarks: begin (written by benchmarks/table.py) -->", "<!-- benchmarks: end -->"
COLUMNS = ("case", "ours", "baseline", "ratio", "by CPU time", "bar", "baseline is")
MIB = 2**20

Cases = dict[str, Case]


def quantity(seconds: float | None, case: Case) -> str:
    """Seconds, or the rate that they make, as text."""
    if seconds is None:
        return "-"
    if case.unit == "s":
        return f"{seconds:.3g} s"
    rate = case.amount / seconds
    return f"{rate:,.3g} {case.unit}" if rate < 1000 else f"{rate:,.0f} {case.unit}"


def ratio_rows(cases: Cases) -> list[tuple[str, ...]]:
    """One row for each case with a time, in the order they ran; those with a best round have their own table."""
    rows = []
    for name, case in cases.items():
        if case.ours is None or case.best is not None:
            continue
        kind = case.baseline_kind
        baseline = f"{case.baseline_name}" + ("" if kind == "measured" else f" ({kind})")
        ratios = ("-" if value is None else f"{value:.2f}" for value in (case.ratio, case.cpu_ratio))
        bar = "-" if case.least_ratio is None else f"{case.least_ratio:.2f}"
        rows.append((name, quantity(case.ours, case), quantity(case.baseline, case), *ratios, bar, baseline))
    return rows


def physics_rows(cases: Cases) -> list[tuple[str, ...]]:
    """One row for each case with a best round: rates of the median and of the best, beside what is asked for.

    Per processor second: what other processes hardly disturb.
    """
    rows = []
    for name, case in cases.items():
        if case.best is None:
            continue
        bar = "-" if case.ratio_bar is None else f"ratio {case.ratio_bar:.2f}"
        bar = bar if case.bar is None else f"{case.bar:,.0f}"

        def rate(seconds: float | None, amount: float = case.amount) -> str:
            return "-" if seconds is None else f"{amount / seconds:,.0f}"

        both = [
            f"{rate(median)} ({rate(best)})"
            for median, best in ((case.ours, case.best), (case.baseline, case.baseline_best))
        ]
        ratios = ("-" if value is None else f"{value:.2f}" for value in (case.ratio, case.cpu_ratio))
        rows.append((name, both[0], bar, rate(case.ours_cpu), both[1], *ratios, f"{case.baseline_name}"))
    return rows


def memory_rows(cases: Cases) -> list[tuple[str, ...]]:
    """Temporaries of the compiled programs, ours and the baseline's, in MiB."""
    return [
        (
            name,
            f"{case.memory.arguments / MIB:,.0f}",
            f"{case.memory.in_place / MIB:,.0f}",
            f"{case.memory.temporaries / MIB:,.1f}",
            "-" if case.baseline_memory is None else f"{case.baseline_memory.temporaries / MIB:,.1f}",
            "-"
            if case.baseline_memory is None
            else f"{case.memory.temporaries / case.baseline_memory.temporaries:.2f}",
            "-" if case.memory_bar is None else f"{case.memory_bar:.2f}",
        )
        for name, case in cases.items()
        if case.memory is not None
    ]


def compile_rows(cases: Cases) -> list[tuple[str, ...]]:
    """Seconds that it took to compile the programs, ours and the baseline's, where a benchmark says so of both."""
    return [
        (name, f"{case.compile_seconds:.1f}", f"{case.baseline_compile_seconds:.1f}", f"{case.baseline_name}")
        for name, case in cases.items()
        if case.compile_seconds and case.baseline_compile_seconds
    ]


PHYSICS_COLUMNS = (
    "task, engine", "ours", "bar", "per CPU second", "baseline", "ratio", "by CPU time", "baseline is",
)  # fmt: skip
PHYSICS_TITLE = "MuJoCo tasks, env steps/s through the whole rollout: of the median round (of the best)"
COMPILE_COLUMNS = ("program", "ours, s", "baseline, s", "baseline is")
MEMORY_COLUMNS = (
    "program", "arguments, MiB", "written in place, MiB", "temporaries, MiB", "the baseline's", "part of it", "bar",
)  # fmt: skip


def measured_on(record: Record) -> str:
    """Where and with what it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items() if name != "eqcrl")
    return f"{record.label()} on {record.machine}" + (f" ({versions})" if versions else "")


def markdown_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; figures flush right."""
    align = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, tuple(align), *rows])


def section(shown: Sequence[tuple[str, Record]]) -> str:
    """What stands between the markers, from records and the names of their files; it names them."""
    cases = {name: case for name, (case, _) in records.merged(record for _, record in shown).items()}
    parts = ["\n".join(f"- `{file}`: {measured_on(record)}" for file, record in shown)]
    for title, columns, rows in (
        ("", COLUMNS, ratio_rows(cases)),
        (f"{PHYSICS_TITLE}:", PHYSICS_COLUMNS, physics_rows(cases)),
        ("Compiling the rollout of a MuJoCo task:", COMPILE_COLUMNS, compile_rows(cases)),
        ("What the compiled programs hold (exact, from XLA's memory analysis):", MEMORY_COLUMNS, memory_rows(cases)),
    ):
        parts += [title] if title and rows else []
        parts += [markdown_table(columns, rows)] if rows else []
    return "\n\n".join(parts)


def between_markers(path: Path) -> tuple[str, str, str]:
    """What stands before, between and after them. Raises: SystemExit if the file has none."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise SystemExit(f"{path} has no place for the tables; add these two lines to it:\n{BEGIN}\n{END}")
    before, rest = text.split(BEGIN)
    inner, after = rest.split(END)
    return before, inner.strip(), after


def write_markdown(path: Path, shown: Sequence[tuple[str, Record]]) -> None:
    """Replace what stands between the markers. Raises: SystemExit if the file has none."""
    before, _, after = between_markers(path)
    path.write_text(f"{before}{BEGIN}\n\n{section(shown)}\n\n{END}{after}", encoding="utf-8")


def named_records(path: Path, folder: Path) -> list[tuple[str, Record]]:
    """The records that the tables of a page say they are from. Raises: SystemExit for one that is not in `folder`."""
    names = [line[3:].partition("`")[0] for line in between_markers(path)[1].splitlines() if line.startswith("- `")]
    return [(name, records.read(folder / name)) for name in names]


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
    parser.add_argument("records", type=Path, nargs="*", help="records of `nox -s bench`; default: the newest kept one")
    parser.add_argument("--markdown", type=Path, help="also write the tables between the markers of this file")
    arguments = parser.parse_args()
    paths = arguments.records or [records.newest(records.KEPT)]
    shown = [(path.name, records.read(path)) for path in paths]
    cases = {name: case for name, (case, _) in records.merged(record for _, record in shown).items()}
    where = "\n".join(measured_on(record) for _, record in shown)
    show(f"ratio = baseline time / our time; above 1 ours is faster\n{where}", COLUMNS, ratio_rows(cases))
    show(PHYSICS_TITLE, PHYSICS_COLUMNS, physics_rows(cases))
    show("compile time of rollouts", COMPILE_COLUMNS, compile_rows(cases))
    show("memory of the compiled programs", MEMORY_COLUMNS, memory_rows(cases))
    if arguments.markdown:
        write_markdown(arguments.markdown, shown)


if __name__ == "__main__":
    main()
