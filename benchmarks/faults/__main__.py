"""The table of faults in docs/reliability.md.

    python -m benchmarks.faults [--kills 25] [--seed 0] [--only kills disk files numbers]

Exit code 1 if anything was not recovered. Filling a disk needs the right to mount a file system.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Iterator

from rich.console import Console

from benchmarks.faults import disk, kills, numbers, runs
from benchmarks.faults.runs import Result


def results(only: list[str], times: int, rng: random.Random) -> Iterator[Result]:
    """Every fault, one after another."""
    place = runs.workplace()
    if "kills" in only:
        alone, whole = kills.reference(place)
        yield kills.killed(place, alone, whole, times, rng)
        for number in kills.CODES:
            yield kills.stopped(place, alone, whole, number, max(times // 5, 1), rng)
    if "disk" in only or "files" in only:
        short, longer = disk.finished(place)
        if "disk" in only:
            yield disk.full(place, short, longer, max(times // 2, 1), rng)
        if "files" in only:
            for how in ("with a flipped byte", "cut short", "with zeros at its end"):
                yield disk.damaged(place, short, longer, how, max(times // 5, 1), rng)
    if "numbers" in only:
        for depth in (64, 1024):
            for policy in ("stop", "rollback", "skip"):
                yield numbers.injected(place, depth, policy)


def main() -> None:
    """Print a line of Markdown for each fault as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["kills", "disk", "files", "numbers"])
    args = parser.parse_args()
    console, began, failed = Console(soft_wrap=True), time.monotonic(), 0
    print("| fault | times tried | recovered | lost |\n|---|---|---|---|", flush=True)
    for result in results(args.only, args.kills, random.Random(args.seed)):
        print(f"| {' | '.join(result.row())} |", flush=True)
        failed += result.tried - result.recovered
        for note in result.notes:
            console.print(note, style="red", markup=False)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main()
