"""Several processes that train one run together, by `jax.distributed`; most likely one for each host."""

import contextlib
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from eqcrl.errors import EqcrlError, UsageError
from eqcrl.peers import GATHER_SECONDS, SILENCE_SECONDS, end_at_once, gather
from eqcrl.rundir import RunDir

AUTO = "auto"
# The first process may write figures and films for a long time while the others have nothing left to do.
FAREWELL_SECONDS = 3600


@dataclass(frozen=True)
class Cluster:
    """Who takes part, and which of them this process is."""

    host: str
    """Of process 0."""
    port: int
    """Of JAX's coordinator; ours listens on the one after it."""
    processes: int
    process: int
    local_devices: tuple[int, ...] | None = None
    """The devices of this host that are this process's, by number; None for all that it sees."""


def described(coordinator: str, processes: int | None, process: int | None) -> Cluster:
    """The cluster of these options: HOST:PORT with both numbers, or `auto` as the job of SLURM says.

    Raises: UsageError for what does not fit together.
    """
    if coordinator == AUTO:
        return of_slurm(os.environ)
    found = re.fullmatch(r"\[?([^\]\s]+?)\]?:(\d{1,5})", coordinator)
    if found is None or not 0 < int(found[2]) < 65535:
        raise UsageError(
            f"--coordinator {coordinator!r} is not HOST:PORT.",
            mend="Host and a free port of process 0, say node1:12400; or auto under SLURM.",
        )
    if processes is None or process is None:
        raise UsageError(
            "--coordinator HOST:PORT needs --num-processes and --process-id.",
            mend="Under SLURM, --coordinator auto finds all three by itself.",
        )
    if process >= processes:
        raise UsageError(
            f"--process-id {process} does not exist among {processes} processes.", mend=f"Use 0 to {processes - 1}."
        )
    return Cluster(found[1], int(found[2]), processes, process)


def of_slurm(environment: Mapping[str, str]) -> Cluster:
    """The tasks of a job step of SLURM; the first host of its list has process 0. Raises: UsageError outside of one."""
    try:
        job, count = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_NTASKS"])
        process, hosts = int(environment["SLURM_PROCID"]), environment["SLURM_STEP_NODELIST"]
        nodes, local = int(environment.get("SLURM_STEP_NUM_NODES", "1")), int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"--coordinator auto finds no job step of SLURM here ({error}).",
            mend="Start it by srun, or give --coordinator HOST:PORT, --num-processes and --process-id.",
        ) from None
    # Several tasks on a host have a device each, unless SLURM shows each task its own alone (--gpus-per-task).
    shown = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    alone = count <= nodes or (len(shown) == 1 and shown[0] != "")
    port = 20000 + 2 * (job % 10000)
    return Cluster(first_host(hosts), port, count, process, None if alone else (local,))


def first_host(hosts: str) -> str:
    """Of a list as SLURM writes it: node[003-010,12],other -> node003."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", hosts)
    return "" if found is None else found[1] + (found[2] or "") + (found[3] or "")


@contextmanager
def together(cluster: Cluster, gather_seconds: float = GATHER_SECONDS) -> Iterator[None]:
    """Within the block this process is one of a cluster, and JAX has the devices of all of them.

    If another process is lost, this one ends with a message and exit code 1, whatever it is doing; and if the block
    raises, the others are told and this one ends at once. Must come before anything is computed.
    Raises: RunError if not all processes come.
    """
    peers = gather((cluster.host, cluster.port + 1), cluster.processes, cluster.process, gather_seconds)
    peers.watch(end_at_once)
    try:
        jax.distributed.initialize(
            f"{cluster.host}:{cluster.port}",
            cluster.processes,
            cluster.process,
            local_device_ids=cluster.local_devices,
            cluster_detection_method="deactivate",
            # Ours speak first, and more clearly.
            heartbeat_timeout_seconds=int(4 * SILENCE_SECONDS),
            shutdown_timeout_seconds=FAREWELL_SECONDS,
        )
        # On CPUs whoever comes to the first collective waits for the others for 30 s, later as long as it takes: so it
        # is done now, and not after compiling, for which one host may need longer than another.
        multihost_utils.process_allgather(np.zeros((), np.int32))
        yield
    except BaseException as error:
        # A sum that broke off says no more than that; who it was, the watch knows in a moment.
        if not isinstance(error, EqcrlError | KeyboardInterrupt) and peers.told.wait(2 * SILENCE_SECONDS / 10):
            end_at_once(peers.what)
        peers.leave(str(error).partition("\n")[0] or type(error).__name__)
        _end(error)
    jax.distributed.shutdown()
    peers.leave()


def _end(error: BaseException) -> None:
    """Say what is wrong and end, without the goodbye of `jax.distributed`, which waits for all others."""
    sys.stdout.flush()
    if os.environ.get("EQCRL_DEBUG") == "1" or not isinstance(error, EqcrlError | KeyboardInterrupt):
        traceback.print_exc()
    print(f"Error: {error or 'Interrupted.'}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, EqcrlError) else 1)


@contextmanager
def books(directory: RunDir, writes: bool, goes_on: bool = False) -> Iterator[RunDir]:
    """The run directory for the process that writes, and for the others one that is thrown away.

    All processes keep books, so that they decide alike; those of the first one are kept. Of a run that goes on the
    others have copies, and its checkpoints by reference.
    """
    if writes:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="eqcrl-") as folder:
        copy = RunDir(Path(folder) / "run")
        if goes_on:
            copy.checkpoints.mkdir(parents=True)
            for name in (directory.config_file.name, directory.header_file.name, directory.metrics_file.name):
                with contextlib.suppress(FileNotFoundError):
                    (copy.path / name).write_bytes((directory.path / name).read_bytes())
            for path in directory.checkpoints.glob("[!.]*"):
                (copy.checkpoints / path.name).symlink_to(path.resolve())
        yield copy
