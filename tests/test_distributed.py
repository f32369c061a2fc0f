"""Several processes: what the options mean; and, killed for real, what the others do (`nox -s faults`)."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from eqcrl import checkpoint, trainer
from eqcrl.distributed import Cluster, books, described, first_host, of_slurm
from eqcrl.errors import UsageError
from eqcrl.rundir import RunDir
from helpers import TINY, Terminal, assert_message, flags, records, snapshot, tiny, tiny_programs

SLURM = {
    "SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip


def test_host_port_and_numbers() -> None:
    assert described("node1:12400", 4, 3) == Cluster("node1", 12400, 4, 3)
    assert described("[fe80::1]:12400", 2, 0) == Cluster("fe80::1", 12400, 2, 0)


@pytest.mark.parametrize(
    ("coordinator", "processes", "process", "message"),
    [
        ("node1", 2, 0, "'node1' is not HOST:PORT"),
        ("node1:0", 2, 0, "'node1:0' is not HOST:PORT"),
        ("node1:65535", 2, 0, "is not HOST:PORT"),  # the port after it must exist
        ("node1:12400", None, 0, "needs --num-processes and --process-id"),
        ("node1:12400", 2, 2, r"--process-id 2 does not exist among 2 processes.\n.*0 to 1"),
    ],
)
def test_options_that_say_too_little(coordinator: str, processes: int | None, process: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        described(coordinator, processes, process)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("node1", "node1"), ("a,b", "a"), ("gpu[07-08]", "gpu07"), ("n[3,5-9],x", "n3"), ("r[1-2]-ib,z", "r1-ib")],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


@pytest.mark.parametrize(
    ("more", "devices"),
    [
        ({}, (1,)),  # two tasks on a host: each has a device
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "1"}, None),  # SLURM shows each its own
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}, None),  # a task on a host has them all
    ],
)
def test_a_job_of_slurm(more: Mapping[str, str], devices: tuple[int, ...] | None) -> None:
    found = of_slurm(SLURM | more)
    assert (found.host, found.local_devices) == ("gpu07", devices)
    assert found.process == int((SLURM | more)["SLURM_PROCID"])
    assert 1024 < found.port < found.port + 1 < 65536


def test_no_job_of_slurm() -> None:
    with pytest.raises(UsageError, match=r"finds no job step of SLURM here .*SLURM_JOB_ID.*\n.*srun"):
        of_slurm({})


def test_books_of_those_that_do_not_write(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", tiny(), {"a": 1})
    (run.checkpoints / "000000003").mkdir()
    (run.checkpoints / "000000003" / "agent.eqx").write_bytes(b"x")
    before = snapshot(run.path)
    with books(run, writes=True) as kept:
        assert kept is run
    with books(run, writes=False, goes_on=True) as kept:
        assert kept.config() == run.config()
        assert checkpoint.numbers(kept.checkpoints) == [3]
        assert (kept.checkpoints / "000000003" / "agent.eqx").read_bytes() == b"x"
        kept.append_metrics({"env_steps": 1.0})
        checkpoint.forget_after(kept.checkpoints, 0)
    assert not kept.path.exists()
    with books(run, writes=False) as kept:
        assert not kept.path.exists()  # a new run has nothing yet
    assert snapshot(run.path) == before


ENDLESS = TINY | {"train.total_env_steps": 8 * 10 * 4000, "eval.every": 1, "checkpoint.every": 1}
PATIENCE = 240.0


class Pair:
    """Two processes that train one run."""

    def __init__(self, folder: Path, cache: Path):
        self.terminal = Terminal(folder, cache)
        self.run = folder / "run"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *args: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        together = ("--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id")
        self.processes = [self.terminal.start("train", *args, *together, process) for process in (0, 1)]

    def saved(self) -> int:
        """The number of the newest checkpoint."""
        return max(checkpoint.numbers(self.run / "checkpoints"), default=-1)

    def until_saved_after(self, number: int) -> None:
        ends = time.monotonic() + PATIENCE
        while self.saved() <= number:
            assert all(process.poll() is None for process in self.processes), [p.communicate() for p in self.processes]
            assert time.monotonic() < ends
            time.sleep(0.1)

    def ends(self, process: int, within: float = PATIENCE) -> tuple[int, str]:
        out, err = self.processes[process].communicate(timeout=within)
        return self.processes[process].returncode, out + err


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, tmp_path / "compiled")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


@pytest.mark.faults
def test_one_of_two_is_killed_and_the_run_goes_on(pair: Pair) -> None:
    pair.start(*flags(ENDLESS), "--out", str(pair.run))
    pair.until_saved_after(-1)
    pair.processes[1].kill()
    # At once, and not when some timeout has passed; half a minute is for a machine with other work.
    code, said = pair.ends(0, within=30.0)
    assert code == 1
    assert_message(said, "process 1 ended without a word", "--resume")

    state = tiny_programs().init(trainer.stream(0, trainer.INIT_STREAM))
    for _ in range(2):
        state = tiny_programs().collect(state)
    _, alone = tiny_programs().epoch(state)
    first = records(pair.run)[0]
    for name in ("critic_loss", "actor_loss", "logits_neg"):
        assert first[f"train/{name}"] == pytest.approx(float(alone[name]), rel=1e-4)

    last = pair.saved()
    pair.start("--resume", str(pair.run))
    pair.until_saved_after(last)
    # A signal to one of them stops both, in the same epoch.
    pair.processes[1].send_signal(signal.SIGTERM)
    codes, said = zip(*(pair.ends(process) for process in (0, 1)), strict=True)
    assert codes == (75, 75)
    assert f"eqcrl train --resume {pair.run}" in said[0]
    assert "eqcrl train" not in said[1]
    assert pair.saved() > last
    lines = [line["env_steps"] for line in records(pair.run)]
    assert lines == sorted(set(lines))


@pytest.mark.faults
def test_the_first_is_killed(pair: Pair) -> None:
    """Then JAX ends the other one as well: by whom it is ended first, it is at once, and its last line says why."""
    pair.start(*flags(ENDLESS), "--out", str(pair.run))
    pair.until_saved_after(-1)
    pair.processes[0].kill()
    code, said = pair.ends(1, within=30.0)
    assert code in (1, -signal.SIGABRT)
    assert "process 0 ended without a word" in said or "another task died" in said


@pytest.mark.faults
def test_one_that_hangs_is_given_up(pair: Pair) -> None:
    pair.start(*flags(ENDLESS), "--out", str(pair.run))
    pair.until_saved_after(-1)
    os.kill(pair.processes[1].pid, signal.SIGSTOP)
    code, said = pair.ends(0, within=90.0)
    assert code == 1
    assert_message(said, "process 1 has not been heard of for 30 s")


@pytest.mark.faults
def test_one_that_fails_tells_the_others(pair: Pair) -> None:
    """The run directory exists, which only the first process looks for."""
    pair.run.mkdir()
    (pair.run / "config.toml").write_text("")
    pair.start(*flags(ENDLESS), "--out", str(pair.run))
    code, said = pair.ends(0)
    assert code == 2
    assert_message(said, "holds a run already")
    code, said = pair.ends(1)
    assert code == 1
    assert_message(said, "process 0 gave up: The run directory", "holds a run already")
