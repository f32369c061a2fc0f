"""Jobs of a cluster: the file for sbatch, the warning before the end, the way back into the queue."""

import importlib.util
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eqcrl.errors import ConfigError, RunError, UsageError
from eqcrl.jobs import processes
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.runs import is_done, newest_checkpoint
from eqcrl.launchers.base import Job, Site
from eqcrl.launchers.slurm import Slurm, quiet_submitit
from launchers import cluster
from sweeps.conftest import BASE, TRAINER

FLAGS = [f"--{k.replace('_', '-')}={v}" for k, v in {**BASE, "arch.width": 16}.items()]


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "EQCRL", (sys.executable, str(TRAINER)))


def job(folder: Path, name: str = "0000/seed0", **more: str) -> Job:
    flags = [*FLAGS, *(f"--{k}={v}" for k, v in more.items())]
    run = folder / "runs" / name
    arguments = ("train", "--preset", "quickstart", *flags, "--seed", "0", "--out", str(run))
    return Job(name, run, arguments, folder / "logs" / f"{name}.log", 1)


def opened(folder: Path, **settings: object) -> Slurm:
    launcher = Slurm(**settings)  # type: ignore[arg-type]
    launcher.check()
    launcher.open(Site("mine", folder, Machine("", "cpu", None, None, (0,)), (1,)))
    return launcher


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_file_for_sbatch(slurm: Path, tmp_path: Path) -> None:
    launcher = opened(
        tmp_path, partition="gpu", account="me", qos="low", constraint="a100&nvlink", time=90, gpus=2, cpus=8,
        memory=1.5, jobs=3, warning=600, setup="module load cuda\nexport A=1",
    )  # fmt: skip
    assert launcher.room() == 3
    ids = launcher.submit([job(tmp_path), job(tmp_path, "0001/seed0")])
    assert ids == ["100_0", "100_1"]
    assert launcher.room() == 1
    lines = (slurm / "script-100.sh").read_text().splitlines()
    for line in (
        "--job-name=eqcrl-mine", "--partition=gpu", "--account=me", "--qos=low", "--constraint='a100&nvlink'",
        "--time=90", "--gpus-per-node=2", "--cpus-per-task=8", "--mem=1536M", "--array=0-1%2", "--nodes=1",
        "--ntasks-per-node=1", "--requeue", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    # Without `B:` the signal goes to steps; a step is what our own srun starts, and the script has none.
    assert "#SBATCH --signal=USR1@600" in lines
    script = lines[lines.index("# command") :]
    assert not any("srun" in line for line in script)
    assert any(line.endswith(f"-u -m submitit.core._submit {tmp_path / 'slurm'}") for line in script)
    assert lines.index("module load cuda") < lines.index("# command")
    command = launcher.command(job(tmp_path))
    assert command[:3] == ["srun", "--ntasks=1", "--cpus-per-task=8"]
    assert f"--output={tmp_path}/logs/0000/seed0.log" in command
    wait(lambda: all(state.over() for state in launcher.states(ids).values()))
    assert {state.kind for state in launcher.states(ids).values()} == {"done"}
    assert is_done(tmp_path / "runs" / "0001" / "seed0")
    assert launcher.room() == 3


def test_what_is_left_out_is_the_clusters_choice(slurm: Path, tmp_path: Path) -> None:
    text = "\n".join(map(str, Slurm(gpus=0).parameters("mine").items()))
    for word in ("partition", "account", "qos", "constraint", "gpus", "mem", "setup"):
        assert word not in text


def test_nothing_of_ours_is_pickled(slurm: Path, tmp_path: Path) -> None:
    launcher = opened(tmp_path)
    (name,) = launcher.submit([job(tmp_path)])
    file = tmp_path / "slurm" / f"{name}_submitted.pkl"
    modules = set()

    class Watched(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            modules.add(module.split(".")[0])
            return pickle.Unpickler.find_class(self, module, name)

    with file.open("rb") as content:
        submission = Watched(content).load()
    assert modules == {"submitit"}
    assert submission.function.command == launcher.command(job(tmp_path)), "words"
    wait(lambda: launcher.states([name])[name].over())


def test_a_warned_run_saves_and_its_job_goes_on(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.2")
    launcher = opened(tmp_path)
    one = job(tmp_path)
    (name,) = launcher.submit([one])
    wait(lambda: newest_checkpoint(one.run) >= 2)
    assert launcher.states([name])[name].kind == "running"
    cluster.warn(slurm, name)
    wait(lambda: cluster.named(slurm, name).get("again") == 1)
    saved = newest_checkpoint(one.run)
    assert not is_done(one.run)
    wait(lambda: launcher.states([name])[name].over())
    assert launcher.states([name])[name].kind == "done"
    assert is_done(one.run)
    lines = (one.run / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == newest_checkpoint(one.run) + 1, "no epoch was done twice"
    assert saved < len(lines) - 1
    assert "Stopped; everything is saved." in one.log.read_text()


def test_where_slurm_refuses_the_run_has_failed(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.2")
    (slurm / "refuses").touch()
    launcher = opened(tmp_path)
    one = job(tmp_path)
    (name,) = launcher.submit([one])
    wait(lambda: newest_checkpoint(one.run) >= 1)
    cluster.warn(slurm, name)
    wait(lambda: launcher.states([name])[name].over())
    assert launcher.states([name])[name].kind == "failed"
    assert "FAILED in SLURM, job 100" in launcher.states([name])[name].how


def test_a_cancelled_run_saves_and_stays_cancelled(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.2")
    launcher = opened(tmp_path)
    one = job(tmp_path)
    (name,) = launcher.submit([one])
    wait(lambda: newest_checkpoint(one.run) >= 1)
    # Another process may cancel it: the id says all.
    other = Slurm()
    assert other.states([name])[name].kind == "running"
    other.cancel([name])
    wait(lambda: launcher.states([name])[name].over())
    assert launcher.states([name])[name].kind == "stopped"
    wait(lambda: "saved" in one.log.read_text())
    assert cluster.named(slurm, name).get("requeued") is None


def test_a_cluster_without_accounts(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqcrl.launchers.slurm.UNKNOWN_SECONDS", 0.0)
    monkeypatch.setenv("FAKE_SECONDS", "0.1")
    (slurm / "no-accounts").touch()
    launcher = opened(tmp_path)
    one = job(tmp_path)
    (name,) = launcher.submit([one])
    wait(lambda: newest_checkpoint(one.run) >= 0)
    assert launcher.states([name])[name].kind == "running"
    wait(lambda: launcher.states([name])[name].over())
    assert launcher.states([name])[name].kind == "lost"
    assert is_done(one.run), "which is what counts"


def test_the_same_by_submitits_own_executor(slurm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a job does, without a cluster: begun once, left alone when it is done."""
    from submitit.helpers import CommandFunction

    executor = quiet_submitit().LocalExecutor(tmp_path / "local")
    executor.update_parameters(timeout_min=10)
    one = job(tmp_path)
    one.log.parent.mkdir(parents=True)
    command = CommandFunction(Slurm().command(one))
    executor.submit(command).result()
    assert is_done(one.run)
    before = (one.run / "metrics.jsonl").read_bytes()
    executor.submit(command).result()
    assert (one.run / "metrics.jsonl").read_bytes() == before
    assert f"{one.run} is done." in one.log.read_text()


def test_sbatch_says_why_it_takes_no_jobs(slurm: Path, tmp_path: Path) -> None:
    launcher = opened(tmp_path, partition="closed")
    for count in (1, 2):
        with pytest.raises(RunError, match=r"SLURM takes no jobs: .*Invalid partition name"):
            launcher.submit([job(tmp_path, f"{i}/seed0") for i in range(count)])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("PENDING", "waiting"), ("REQUEUED", "waiting"), ("RUNNING", "running"), ("COMPLETING", "running"),
        ("COMPLETED", "done"), ("CANCELLED by 1000", "stopped"), ("CANCELLED+", "stopped"), ("FAILED", "failed"),
        ("OUT_OF_MEMORY", "failed"), ("PREEMPTED", "evicted"), ("NODE_FAIL", "evicted"), ("TIMEOUT", "evicted"),
        ("UNKNOWN", "waiting"), ("", "waiting"),
    ],
)  # fmt: skip
def test_words_of_slurm(said: str, kind: str) -> None:
    launcher = Slurm()
    launcher._known_since["7"] = 0.0
    assert launcher._state("7", said, 1.0).kind == kind
    if kind == "waiting" and said in ("UNKNOWN", ""):
        assert launcher._state("7", said, 1000.0).kind == "lost"


def test_what_must_be_there(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Slurm().check()
    with pytest.raises(ConfigError, match=r"launcher.warning = 300 s is not shorter than launcher.time = 5 min"):
        Slurm(time=5).check()
    (slurm / "bin" / "sacct").unlink()
    with pytest.raises(RunError, match="There is no SLURM here: sacct cannot be found"):
        Slurm().check()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"(?s)needs submitit.*pip install 'eqcrl\[slurm\]'"):
        Slurm().check()


def test_a_signal_of_ours_that_submitit_does_not_take() -> None:
    """It ends its command on this signal; ours must be another."""
    assert quiet_submitit().JobEnvironment._usr_sig() != signal.SIGUSR1
