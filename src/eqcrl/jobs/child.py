"""`python -m eqcrl.jobs.child PARENT CORES COMMAND...`: becomes the command, on some cores, for as long as its
parent lives.

XLA makes as many threads as there are cores that its process may use when it starts, so they must be chosen before.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def wrapped(command: Sequence[str], *, cores: Sequence[int] = ()) -> list[str]:
    """The command as it is to be started by this process; no cores are all of them."""
    listed = ",".join(map(str, cores)) or "-"
    return [sys.executable, "-m", "eqcrl.jobs.child", str(os.getpid()), listed, *command]


def main() -> None:
    """Choose the cores, ask for a SIGTERM when the parent ends however it ends, and go over to the command."""
    parent, listed, *command = sys.argv[1:]
    if listed != "-":
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or no longer ours
            os.sched_setaffinity(0, [int(core) for core in listed.split(",")])
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != int(parent):
        sys.exit(75)  # it ended before we could ask
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
