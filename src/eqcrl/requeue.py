"""Under SLURM a run that was stopped before its end puts its job back into the queue."""

import os
import shutil
import subprocess

SWITCH = "EQCRL_REQUEUE"
"""Set to 0, jobs are left to end."""
SECONDS = 60
"""How long SLURM may take to answer."""


def requeue() -> bool:
    """Ask SLURM to run this job again, and say whether it will; SLURM then ends it, so this is the last thing to do.

    False outside of SLURM, with EQCRL_REQUEUE=0, for a job that was cancelled, where SLURM refuses or does not answer,
    and in all processes of a job but the first, which asks for all.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or os.environ.get(SWITCH) == "0" or os.environ.get("SLURM_PROCID", "0") != "0":
        return False
    if shutil.which("scontrol") is None or "JobState=CANCELLED" in (_scontrol("--oneliner", "show", "job", job) or ""):
        return False
    return _scontrol("requeue", job) is not None


def _scontrol(*arguments: str) -> str | None:
    """What it printed; None if it failed."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
