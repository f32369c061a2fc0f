"""A SLURM of one machine, as far as a sweep meets it: sbatch, srun, sacct, squeue, scancel, scontrol.

What it keeps to: `sbatch` runs the script of each task of an array, with SLURM's variables; `srun` starts a step; a
warning goes to steps and not to the script; `scancel` sends SIGTERM to the step, and the job is then cancelled;
`scontrol requeue` ends the job and runs its script again.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

HOME = Path(os.environ.get("FAKE_SLURM", "."))
COMMANDS = ("sbatch", "srun", "sacct", "squeue", "scancel", "scontrol")


def install(bin_folder: Path) -> None:
    """The commands, to be put on the path."""
    bin_folder.mkdir(parents=True)
    for name in COMMANDS:
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        script.chmod(0o755)


def jobs(home: Path) -> dict[str, dict]:
    """Every job by its public name, such as 100_1."""
    found = {}
    for file in sorted(home.glob("job-*.json")):
        with contextlib.suppress(ValueError):  # it is being written
            job = json.loads(file.read_text())
            found[job["name"]] = job
    return found


def change(home: Path, raw: str, **values: object) -> dict:
    """Several processes write a job: the node, its step, who cancels it."""
    file = home / f"job-{raw}.json"
    with FileLock(home / ".lock"):
        job = (json.loads(file.read_text()) if file.exists() else {"raw": raw}) | values
        fresh = home / f"new-{raw}"
        fresh.write_text(json.dumps(job))
        fresh.rename(file)
    return job


def named(home: Path, name: str) -> dict:
    return next(job for job in jobs(home).values() if name in (job["name"], job["raw"]))


def warn(home: Path, name: str, number: int = signal.SIGUSR1) -> None:
    """What SLURM does before the end of a job."""
    os.kill(named(home, name)["step"], number)


def sbatch(script: str) -> int:
    text = Path(script).read_text()
    if "#SBATCH --partition=closed" in text:
        print("sbatch: error: Batch job submission failed: Invalid partition name", file=sys.stderr)
        return 1
    main = 100 + 10 * len(list(HOME.glob("script-*")))
    kept = HOME / f"script-{main}.sh"
    kept.write_text(text)
    array = re.search(r"--array=0-(\d+)", text)
    for task in range(int(array[1]) + 1) if array else [None]:
        raw = str(main + (task or 0))
        change(HOME, raw, name=str(main) if task is None else f"{main}_{task}", state="PENDING", step=0)
        mine = {"SLURM_JOB_ID": raw, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
        mine |= {} if task is None else {"SLURM_ARRAY_JOB_ID": str(main), "SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.Popen(
            [sys.executable, __file__, "_node", raw, str(kept)], env=os.environ | mine, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    print(f"Submitted batch job {main}")
    return 0


def _node(raw: str, script: str) -> int:
    pattern = re.search(r"#SBATCH --output=(\S+)", Path(script).read_text())
    assert pattern is not None
    name = named(HOME, raw)["name"]
    main, _, task = name.partition("_")
    log = pattern[1].replace("%j", name).replace("%A", main).replace("%a", task)
    while True:
        if named(HOME, raw)["state"] == "CANCELLED":
            return 0
        job = change(HOME, raw, state="RUNNING")
        with Path(log).open("a") as out:
            code = subprocess.call(["bash", script], stdout=out, stderr=subprocess.STDOUT)
        job = named(HOME, raw)
        if job.get("requeued"):
            change(HOME, raw, state="PENDING", requeued=False, again=job.get("again", 0) + 1)
        elif job["state"] == "CANCELLED":
            return 0
        else:
            change(HOME, raw, state="COMPLETED" if code == 0 else "FAILED")
            return 0


def srun(*arguments: str) -> int:
    options = [a for a in arguments if a.startswith("--")][: next(i for i, a in enumerate(arguments) if a[0] != "-")]
    output = next(a.partition("=")[2] for a in options if a.startswith("--output="))
    with Path(output).open("a") as log:
        step = subprocess.Popen(arguments[len(options) :], stdout=log, stderr=subprocess.STDOUT)
    if "SLURM_JOB_ID" in os.environ:
        change(HOME, os.environ["SLURM_JOB_ID"], step=step.pid)
    return step.wait()


def sacct(*arguments: str) -> int:
    wanted = [b for a, b in itertools.pairwise(arguments) if a == "-j"]
    if (HOME / "no-accounts").exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    print("JobID|State|NodeList")
    for name, job in jobs(HOME).items():
        if name.split("_")[0] in wanted:
            print(f"{name}|{job['state']}{' by 1000' if job['state'] == 'CANCELLED' else ''}|here")
            print(f"{name}.batch|RUNNING|here")
    return 0


def squeue(*arguments: str) -> int:
    wanted = next(a.partition("=")[2].split(",") for a in arguments if a.startswith("--jobs="))
    for name, job in jobs(HOME).items():
        if name in wanted and job["state"] in ("PENDING", "RUNNING"):
            print(f"{name}|{job['state']}")
    return 0


def scancel(*arguments: str) -> int:
    hard = "--signal=KILL" in arguments
    for name in (a for a in arguments if not a.startswith("-")):
        job = named(HOME, name)
        if job["state"] in ("PENDING", "RUNNING"):
            change(HOME, job["raw"], state="CANCELLED")
            with contextlib.suppress(ProcessLookupError):
                if job["step"]:
                    os.kill(job["step"], signal.SIGKILL if hard else signal.SIGTERM)
    return 0


def scontrol(*arguments: str) -> int:
    job = named(HOME, arguments[-1])
    if "show" in arguments:
        print(f"JobId={job['raw']} JobName=eqcrl JobState={job['state']} Requeue=1")
        return 0
    if (HOME / "refuses").exists():
        print("scontrol: error: Requested operation is presently disabled", file=sys.stderr)
        return 1
    change(HOME, job["raw"], requeued=True)
    time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit({**globals()}[sys.argv[1]](*sys.argv[2:]))
