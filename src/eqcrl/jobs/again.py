"""`python -m eqcrl.jobs.again RUN COMMAND...`: becomes the `eqcrl train` command, or the one that continues its run.

A job that a cluster runs again is given the same command as before, and finds its run begun, or done.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from eqcrl.jobs.runs import has_begun, is_done


def continued(command: Sequence[str], run: Path) -> list[str]:
    """The command, or if its run has begun the one that goes on; all words up to `train` stay."""
    if not has_begun(run):
        return list(command)
    return [*command[: command.index("train") + 1], "--resume", str(run)]


def main() -> None:
    """Go over to the command; a run that is done is left alone."""
    run, command = Path(sys.argv[1]), sys.argv[2:]
    if is_done(run):
        print(f"{run} is done.")
        return
    command = continued(command, run)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
