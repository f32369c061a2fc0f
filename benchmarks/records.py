"""Results of a benchmark run in a few kilobytes, kept in git: what later versions are compared with.

    python -m benchmarks.records [JSON]     writes record-DATE-VERSION.json beside the JSON of pytest-benchmark

Ratios to the baseline that ran in the same process carry over to other times and machines; seconds do not. They are
kept for the tables alone.
"""

import argparse
import datetime
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

SCHEMA = 1
KEPT = Path(__file__).parent / "results"
"""Where the records of earlier versions are."""
PATTERN = "record-*.json"
DIGITS = 5
PACKAGES = ("eqcrl", "jax", "jaxlib", "equinox", "mujoco", "mujoco-mjx")


class Memory(msgspec.Struct, frozen=True):
    """Bytes of a compiled program, exact: see `benchmarks.cases.memory`."""

    arguments: int
    outputs: int
    in_place: int
    temporaries: int


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found for one program; a field that it does not have is None.

    Times are seconds of the median round. A ratio is the baseline's time over ours, the median over rounds; its spread
    is the standard deviation of the logarithm over rounds.
    """

    ours: float | None = None
    baseline: float | None = None
    best: float | None = None
    baseline_best: float | None = None
    ours_cpu: float | None = None
    baseline_cpu: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    ratio_spread: float | None = None
    cpu_ratio_spread: float | None = None
    rounds: int = 0
    amount: float = 1.0
    unit: str = "s"
    baseline_name: str | None = None
    baseline_kind: str | None = None
    least_ratio: float | None = None
    bar: float | None = None
    ratio_bar: float | None = None
    compile_seconds: float | None = None
    baseline_compile_seconds: float | None = None
    memory: Memory | None = None
    baseline_memory: Memory | None = None
    memory_bar: float | None = None
    """What part of the baseline's temporaries it may need."""

    def compile_ratio(self) -> float | None:
        """The baseline's compile time over ours, of one compilation each."""
        # A baseline that compiles nothing has taken no time.
        if not self.compile_seconds or not self.baseline_compile_seconds:
            return None
        return self.baseline_compile_seconds / self.compile_seconds


class Machine(msgspec.Struct, frozen=True):
    """What it ran on; `cores` are those that the process was allowed."""

    processor: str
    cores: int | None

    def __str__(self) -> str:
        """For people."""
        return f"{self.processor}, {'?' if self.cores is None else self.cores} cores"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benchmarks, or of some of them."""

    schema: int
    date: datetime.datetime
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    dirty: bool
    cases: dict[str, Case]

    def label(self) -> str:
        """Version and date, for people."""
        commit = "" if self.commit is None else f" ({self.commit[:7]}{', with changes' if self.dirty else ''})"
        return f"eqcrl {self.versions.get('eqcrl', 'of unknown version')}{commit} of {self.date:%Y-%m-%d %H:%M}"

    def filename(self) -> str:
        """Sorts by date."""
        return f"record-{self.date:%Y%m%d-%H%M%S}-{self.versions.get('eqcrl', 'unknown')}.json"


def about_this_process() -> dict[str, Any]:
    """What pytest-benchmark does not say of the process that measures; its JSON gets it under `eqcrl`."""
    cores = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count()
    return {"versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}, "cores": cores}


def from_report(report: dict[str, Any]) -> Record:
    """The record of what pytest-benchmark wrote. Raises: SystemExit if it holds no case."""
    cases = {}
    for benchmark in report["benchmarks"]:
        info = benchmark["extra_info"]
        if name := case_name(info):
            cases[name] = msgspec.convert(_rounded(info), Case)
    if not cases:
        raise SystemExit("The benchmarks left no results: none ran, or none to its end.")
    about = report.get("eqcrl", {"versions": {}, "cores": None})
    machine, commit = report["machine_info"], report.get("commit_info") or {}
    processor = machine.get("cpu", {}).get("brand_raw") or machine.get("machine", "unknown processor")
    return Record(
        schema=SCHEMA,
        date=datetime.datetime.fromisoformat(report["datetime"]),
        machine=Machine(processor, about["cores"]),
        versions=about["versions"],
        commit=commit.get("id") if commit.get("id") not in ("unversioned", "unknown") else None,
        dirty=bool(commit.get("dirty")),
        cases=cases,
    )


def case_name(info: dict[str, Any]) -> str | None:
    """What the figures of a benchmark are called; None for one that has none."""
    if "case" in info:
        return info["case"]
    return f"epoch, depth {info['depth']}, remat {info['policy']}" if "policy" in info else None


def _rounded(value: Any) -> Any:
    """Floats to five digits: more of them are noise, and they make the files long."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write(record: Record, folder: Path) -> Path:
    """Store it. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / record.filename()
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def read(path: Path) -> Record:
    """A stored record. Raises: SystemExit for a file that is none."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise SystemExit(f"{path} is not a record of `nox -s bench`: {error}") from None
    if record.schema != SCHEMA:
        raise SystemExit(f"{path} has schema {record.schema}, and this version of eqcrl reads {SCHEMA}.")
    return record


def stored(folder: Path) -> list[tuple[Path, Record]]:
    """All records of a folder, oldest first. Raises: SystemExit for a file that is none."""
    found = [(path, read(path)) for path in folder.glob(PATTERN)]
    return sorted(found, key=lambda pair: pair[1].date)


def newest(folder: Path) -> Path:
    """The last record of a folder. Raises: SystemExit if there is none."""
    found = stored(folder)
    if not found:
        raise SystemExit(f"There is no record in {folder}; `nox -s bench` writes one.")
    return found[-1][0]


def merged(records: Iterable[Record]) -> dict[str, tuple[Case, Record]]:
    """Every case with the record that it is from; of those in several, the last."""
    return {name: (case, record) for record in records for name, case in record.cases.items()}


def output_folder() -> Path:
    """$OUT, or benchmarks/results."""
    return Path(os.environ.get("OUT") or KEPT)


def main() -> None:
    """From the JSON of pytest-benchmark to a record beside it."""
    parser = argparse.ArgumentParser(description="Make a record of a benchmark run; prints its path.")
    parser.add_argument("json", type=Path, nargs="?", default=output_folder() / "bench.json")
    arguments = parser.parse_args()
    if not arguments.json.is_file():
        raise SystemExit(f"{arguments.json} does not exist; `nox -s bench` writes it.")
    report = msgspec.json.decode(arguments.json.read_bytes())
    print(write(from_report(report), arguments.json.parent))


if __name__ == "__main__":
    main()
