"""`slurm`: jobs of a cluster, through submitit."""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from eqcrl.errors import ConfigError, RunError, UsageError
from eqcrl.launchers.base import AbstractLauncher, Job, Site, State
from eqcrl.settings import Meta

NAME = r"^[A-Za-z0-9_.,:+=@/-]+\Z"
"""Of partitions, accounts and the like: one word."""
ASK_SECONDS = 15.0
"""Between two questions to SLURM, which are one for all jobs."""
UNKNOWN_SECONDS = 120.0
"""How long SLURM may not know of a job that was just submitted."""

LOG_LEVEL = "SUBMITIT_LOG_LEVEL"

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "READY")
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED")
EVICTED = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT")


Word = Annotated[str, Meta(pattern=NAME)]


@dataclass
class Slurm(AbstractLauncher):
    """Jobs of a SLURM cluster, those that are submitted together as one array; `pip install 'eqcrl[slurm]'`.

    SLURM warns each run some minutes before its time is up; the run saves, and its job goes back into the queue.
    """

    partition: Annotated[Word | None, Meta(description="partition to run in; by default the cluster's")] = None
    account: Annotated[Word | None, Meta(description="account to charge")] = None
    qos: Annotated[Word | None, Meta(description="quality of service")] = None
    constraint: Annotated[
        Annotated[str, Meta(pattern=r"^[^\n]+\Z")] | None, Meta(description="features that a node must have")
    ] = None
    time: Annotated[
        int, Meta(ge=1, description="limit on a job; a run that needs more goes on in the next", extra={"unit": "min"})
    ] = 240
    gpus: Annotated[int, Meta(ge=0, description="GPUs of a run", extra={"unit": "GPUs"})] = 1
    cpus: Annotated[int, Meta(ge=1, description="cores of a run", extra={"unit": "cores"})] = 4
    memory: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="main memory of a run; by default the cluster's", extra={"unit": "GiB"}),
    ] = None
    jobs: Annotated[int, Meta(ge=1, description="runs at once, at most", extra={"unit": "runs"})] = 16
    warning: Annotated[
        int,
        Meta(ge=60, description="how long before its end a job is told to save and go back", extra={"unit": "s"}),
    ] = 300
    setup: Annotated[str | None, Meta(description="shell lines before each run, such as `module load cuda`")] = None
    _executor: Any = field(init=False, default=None, repr=False)
    _active: set[str] = field(init=False, default_factory=set, repr=False)
    _asked: float = field(init=False, default=float("-inf"), repr=False)
    _known_since: dict[str, float] = field(init=False, default_factory=dict, repr=False)
    _queued: dict[str, str] = field(init=False, default_factory=dict, repr=False)

    def check(self) -> None:
        """Raises: UsageError without submitit, ConfigError if the warning is too early, RunError without SLURM."""
        if importlib.util.find_spec("submitit") is None:
            raise UsageError(
                "The launcher 'slurm' needs submitit, which is not installed.", mend="pip install 'eqcrl[slurm]'"
            )
        if self.warning >= 60 * self.time:
            raise ConfigError(
                f"launcher.warning = {self.warning} s is not shorter than launcher.time = {self.time} min.",
                mend="Give the job more time, or warn it later.",
            )
        missing = [name for name in ("sbatch", "srun", "sacct", "scancel") if shutil.which(name) is None]
        if missing:
            raise RunError(
                f"There is no SLURM here: {', '.join(missing)} cannot be found.",
                mend="Start the sweep on a login node of the cluster, or with --launcher local.",
            )

    def lasting(self) -> bool:
        """Jobs belong to the cluster."""
        return True

    def open(self, site: Site) -> None:
        """Make the executor; its files lie in `slurm/` of the sweep."""
        self._executor = quiet_submitit().SlurmExecutor(site.folder / "slurm")
        self._executor.update_parameters(**self.parameters(site.name))

    def parameters(self, name: str) -> dict[str, Any]:
        """What submitit writes into the file for sbatch.

        The signal has no `B:`: SLURM sends it to the steps of a job, that is to `eqcrl train`, and not to the script
        that waits for it. Steps are started by `command` and not by submitit, or it would be submitit that is told.
        """
        asked = {
            "job_name": f"eqcrl-{name}",
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "mem": None if self.memory is None else f"{round(1024 * self.memory)}M",
            "array_parallelism": self.jobs,
            "setup": self.setup.splitlines() if self.setup else None,
            "use_srun": False,
            "stderr_to_stdout": True,
            "additional_parameters": {"signal": f"USR1@{self.warning}", "requeue": True},
        }
        return {key: value for key, value in asked.items() if value is not None}

    def command(self, job: Job) -> list[str]:
        """What a job does: one step that begins the run, or continues it where the job is run again."""
        step = ["srun", "--ntasks=1", f"--cpus-per-task={self.cpus}", "--unbuffered", "--open-mode=append"]
        again = [sys.executable, "-m", "eqcrl.jobs.again", str(job.run), *job.command()]
        return [*step, f"--output={job.log}", *again]

    def room(self) -> int:
        """Of the runs that are allowed at once, those that are not there."""
        return self.jobs - len(self._active)

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Several jobs are one array. Raises: RunError with what sbatch said."""
        quiet_submitit()
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # no other way in
        from submitit.helpers import CommandFunction, clean_env

        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
        commands = [CommandFunction(self.command(job)) for job in jobs]
        try:
            with clean_env():  # a sweep may be started from within a job
                submitted = self._executor.submit_array(commands)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise RunError(f"SLURM takes no jobs: {str(error).strip() or error!r}.") from None
        ids = [str(job.job_id) for job in submitted]
        self._active |= set(ids)
        return ids

    def states(self, ids: Sequence[str]) -> Mapping[str, State]:
        """What sacct says, asked for all at once and at most every 15 seconds; where it does not know, squeue."""
        now = time.monotonic()
        watcher = quiet_submitit().SlurmJob.watcher
        for name in ids:
            if name not in self._known_since:
                self._known_since[name] = now
                watcher.register_job(name)
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            watcher.update()
            unknown = [name for name in ids if watcher.get_state(name, mode="cache") == "UNKNOWN"]
            self._queued = _ask_squeue(unknown) if unknown else {}
        said = {name: watcher.get_state(name, mode="cache") for name in ids}
        found = {
            name: self._state(name, self._queued.get(name, word) if word == "UNKNOWN" else word, now)
            for name, word in said.items()
        }
        self._active = (self._active | set(ids)) - {name for name, state in found.items() if state.over()}
        return found

    def _state(self, name: str, said: str, now: float) -> State:
        word = (said.split() or ["UNKNOWN"])[0].rstrip("+")  # CANCELLED by 1000
        if word == "UNKNOWN":
            young = now - self._known_since[name] < UNKNOWN_SECONDS
            return State("waiting") if young else State("lost", f"SLURM knows nothing of job {name}")
        if word in WAITING:
            return State("waiting")
        if word in RUNNING:
            return State("running")
        if word == "COMPLETED":
            return State("done")
        if word == "CANCELLED":
            return State("stopped", f"cancelled in SLURM, job {name}")
        return State(
            "evicted" if word in EVICTED else "failed", f"{word} in SLURM, job {name} (slurm/{name}_0_log.out)"
        )

    def cancel(self, ids: Sequence[str], *, hard: bool = False) -> None:
        """`scancel`: SIGTERM, and SIGKILL after the time that the cluster gives (30 seconds if not said)."""
        for start in range(0, len(ids), 100):  # a command line has its limits
            signal = ["--signal=KILL"] if hard else []
            subprocess.run(["scancel", *signal, *ids[start : start + 100]], capture_output=True, check=False)
        self._asked = float("-inf")

    def close(self) -> None:
        """Jobs go on."""


def quiet_submitit() -> Any:
    """The module submitit, which otherwise sets up the logging of the whole process when it is imported."""
    asked = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = "NOCONFIG"
    try:
        import submitit
    finally:
        # Jobs inherit the environment, and what submitit says there belongs into their logs.
        if asked is None:
            del os.environ[LOG_LEVEL]
        else:
            os.environ[LOG_LEVEL] = asked
    logging.getLogger("submitit").setLevel(logging.ERROR)
    return submitit


def _ask_squeue(names: Sequence[str]) -> dict[str, str]:
    """The states of jobs that are waiting or running, also where a cluster keeps no accounts for sacct."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={','.join(names)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.strip().split("|", 1) for line in done.stdout.splitlines() if "|" in line)
