"""`eqcrl sweep`: begun, looked at, stopped, killed, gone on with; here and on a cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command
from eqcrl.jobs import processes, sizes
from eqcrl.jobs.runs import newest_checkpoint
from eqcrl.lock import claimed
from eqcrl.sweeps.folder import SweepFolder
from helpers import TINY, Terminal, assert_message, records, snapshot
from launchers.conftest import make_slurm
from sweeps.conftest import TRAINER, quick, sweep_text

DRIVER = TRAINER.with_name("driver.py")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`eqcrl train` takes no time, and neither does asking for sizes."""
    monkeypatch.setattr(processes, "EQCRL", (sys.executable, str(TRAINER)))
    monkeypatch.setattr(sizes, "measure", quick)


def wait(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process is None or process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.02)


def plain(eqcrl: Command, folder: object = "sweeps/mine") -> dict[str, Any]:
    answer = eqcrl("sweep", "status", folder, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def begin(*arguments: object, seconds: float, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), "sweep", *map(str, arguments)], cwd=folder, text=True,
        env=os.environ | {"FAKE_SECONDS": str(seconds)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- with a quick trainer


def test_a_sweep_from_its_beginning_to_its_end(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16, 48, 13]', seeds=2))
    answer = eqcrl("sweep", "mine.toml", "--jobs", 2)
    assert answer.code == 1, "13 died"
    assert "Sweep mine: 3 settings by grid, 2 seeds each; launcher local" in answer.out
    assert "0001/seed0 done, success_any 0.8333" in answer.out
    assert "4 of 6 runs done, 2 dead" in answer.out
    out = " ".join(answer.out.split())
    assert "0002/seed0: exit code 1." in out
    assert "Training diverged: thirteen is not finite" in out
    assert re.search(r"trial arch.width .* 0001 48 done █+ 100% 0.8375 - 0000 16 done", out), "the best at the top"
    best = re.search(r"Best: 0001, eval/success_any 0.8375, width 48\n  (eqcrl train .*)", answer.out)
    assert best is not None
    assert best[1].endswith("--arch.width=48")

    found = plain(eqcrl)
    assert (found["best"], found["running"], found["runs"]) == ("0001", False, {"done": 4, "dead": 2})
    first = found["settings"][0]
    assert (first["trial"], first["values"], first["final"]) == ("0001", {"arch.width": 48}, True)
    # The mean of the last five evaluations of 12 epochs, of both seeds.
    shares = [e / 12 for e in range(8, 13)]
    assert first["score"] == pytest.approx((1.0 + 1.01) / 2 * sum(shares) / 5)
    assert [run["env_steps"] for run in first["seeds"]] == [960, 960]

    before = snapshot(tmp_path / "sweeps" / "mine")
    again = eqcrl("sweep", "run", "mine.toml")
    assert (again.code, "Nothing is left to do." in again.out) == (1, True)
    assert snapshot(tmp_path / "sweeps" / "mine") == before
    listed = eqcrl("sweep", "list")
    assert "sweeps/mine  grid    3         4 of 6 runs done, 2 dead" in listed.out
    assert json.loads(eqcrl("sweep", "list", "sweeps/mine", "--json").out)[0]["best"] == "0001"
    (tmp_path / "sweeps" / "broken").mkdir()
    (tmp_path / "sweeps" / "broken" / "sweep.toml").write_text("[search]\n")
    assert "sweeps/broken  broken: sweeps/broken/sweep.toml" in eqcrl("sweep", "list").out
    watched = eqcrl("sweep", "status", "sweeps/mine", "--watch")
    assert "4 of 6 runs done, 2 dead" in watched.out

    retried = eqcrl("sweep", "resume", "sweeps/mine", "--retry")
    assert retried.code == 1
    assert "2 runs to begin or continue" in retried.out
    changed = {k for k, v in snapshot(tmp_path / "sweeps" / "mine").items() if before.get(k) != v}
    assert not {k for k in changed if "/0000/" in k or "/0001/" in k}, "nothing finished is redone"


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_more_trials_later(fast: None, eqcrl: Command, tmp_path: Path, method: str) -> None:
    if method == "optuna":
        pytest.importorskip("optuna")
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = { integers = [8, 12] }', method=method, trials=1))
    assert eqcrl("sweep", "mine.toml").code == 0
    answer = eqcrl("sweep", "resume", "sweeps/mine", "--trials", 3)
    assert answer.code == 0, answer.err
    assert "3 of 3 runs done" in answer.out
    assert SweepFolder("sweeps/mine").sweep().trials == 3
    assert len(plain(eqcrl)["settings"]) == 3
    refused = eqcrl("sweep", "resume", "sweeps/mine", "--trials", 2)
    assert refused.code == 2
    assert_message(refused.err, "the sweep has 3 already")


def test_a_dry_run_begins_nothing(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text(seeds=2))
    answer = eqcrl("sweep", "--dry-run", "mine.toml")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("eqcrl train --preset quickstart ")
    assert lines[0].endswith("--arch.width=16 --seed 0 --out sweeps/mine/runs/0000/seed0")
    assert lines[4] == "2 settings, 2 of each; launcher local."
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.toml"]


def test_another_sweep_is_refused_and_more_seeds_are_welcome(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16]'))
    assert eqcrl("sweep", "mine.toml").code == 0
    before = snapshot(tmp_path / "sweeps")
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16, 17]'))
    answer = eqcrl("sweep", "mine.toml", "--set", "train.batch_size=4")
    assert answer.code == 2
    assert_message(
        answer.err, "sweeps/mine holds another sweep (mine)", "settings.train.batch_size is 8 there, 4 was asked",
        "search.arch.width is [16] there, [16, 17] was asked for",
    )  # fmt: skip
    assert snapshot(tmp_path / "sweeps") == before
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16]'))
    answer = eqcrl("sweep", "mine.toml", "--seeds", 2)
    assert answer.code == 0
    assert "1 runs to begin or continue" in answer.out
    with claimed(tmp_path / "sweeps" / "mine", "sweep"):
        answer = eqcrl("sweep", "mine.toml", "--seeds", 3)
    assert answer.code == 1
    assert_message(answer.err, "The sweep sweeps/mine is being written by another process", str(os.getpid()))


def test_a_metric_that_is_not_recorded(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text(metric="eval/succes_any"))
    answer = eqcrl("sweep", "mine.toml", "--jobs", 1)
    assert answer.code == 2
    assert_message(answer.err, "its runs record no `eval/succes_any`", "Did you mean 'eval/success_any'?")


def test_stopped_by_another_process_and_gone_on_with(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16, 17, 18]'))
    process = begin("mine.toml", "--jobs", 1, seconds=0.3, folder=tmp_path)
    first = tmp_path / "sweeps/mine/runs/0000/seed0"
    wait(lambda: newest_checkpoint(first) >= 1, process)
    found = plain(eqcrl)
    assert found["running"]
    assert found["settings"][0]["state"] == "running"
    answer = eqcrl("sweep", "stop", "sweeps/mine")
    assert answer.code == 0
    assert "Stopped; go on with `eqcrl sweep resume sweeps/mine`." in answer.out
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 75, out
    assert "Stopping 3 runs; each saves first." in out
    assert plain(eqcrl)["runs"] == {"missing": 2, "unfinished": 1}
    assert "is not running" in eqcrl("sweep", "stop", "sweeps/mine").out
    saved = newest_checkpoint(first)
    assert eqcrl("sweep", "resume", "sweeps/mine").code == 0
    assert len(records(first)) == 13, "it went on where it was"
    assert saved < 12


@pytest.mark.faults
def test_killed_in_the_midst_and_gone_on_with(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    """By SIGKILL, at several moments: what is tried, and what comes of it, is what it would have been."""
    pytest.importorskip("optuna")
    text = sweep_text('"arch.width" = { integers = [20, 100] }', method="optuna", trials=4)
    (tmp_path / "mine.toml").write_text(text)
    whole = eqcrl("sweep", "mine.toml", "--jobs", 1, "--out", "whole")
    assert whole.code == 0
    runs = tmp_path / "killed" / "runs"
    moments = [
        lambda: (tmp_path / "killed" / "optuna.journal").exists(),
        lambda: newest_checkpoint(runs / "0001/seed0") >= 2,
        lambda: newest_checkpoint(runs / "0002/seed0") >= 11,
    ]
    finished: dict[str, bytes] = {}
    for moment in moments:
        process = begin("mine.toml", "--jobs", 1, "--out", "killed", seconds=0.05, folder=tmp_path)
        wait(moment, process)
        process.kill()
        process.communicate()
        for path, content in finished.items():
            assert (tmp_path / path).read_bytes() == content, "nothing finished is redone"
        done = [row["trial"] for row in plain(eqcrl, "killed")["settings"] if row["state"] == "done"]
        finished = {
            str(file.relative_to(tmp_path)): file.read_bytes()
            for name in done for file in (runs / name).rglob("*") if file.is_file()
        }  # fmt: skip
    assert finished
    answer = eqcrl("sweep", "resume", "killed", "--jobs", 1)
    assert answer.code == 0, answer.out + answer.err
    for path, content in finished.items():
        assert (tmp_path / path).read_bytes() == content
    one, other = plain(eqcrl, "whole"), plain(eqcrl, "killed")
    assert [(s["trial"], s["values"], s["score"]) for s in one["settings"]] == [
        (s["trial"], s["values"], s["score"]) for s in other["settings"]
    ]


# ------------------------------------------------------------------------------------------------------ a cluster


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_slurm(tmp_path, monkeypatch)


def test_a_sweep_on_a_cluster(fast: None, slurm: Path, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16, 48, 13]'))
    answer = eqcrl("sweep", "mine.toml", "--launcher", "slurm", "--launcher.partition", "gpu", "--jobs", 2)
    assert answer.code == 1, answer.err
    assert "2 of 3 runs done, 1 dead" in answer.out
    out = " ".join(answer.out.split())
    assert "0002/seed0: FAILED in SLURM, job 100_2 (slurm/100_2_0_log.out)." in out
    assert "thirteen is not finite" in out
    text = (slurm / "script-100.sh").read_text()
    assert "#SBATCH --array=0-2%2" in text
    assert "#SBATCH --partition=gpu" in text
    # Where it is computed is kept, and may be changed.
    retried = eqcrl("sweep", "resume", "sweeps/mine", "--retry")
    assert "FAILED in SLURM, job 110" in " ".join(retried.out.split())
    assert "#SBATCH --partition=gpu" in (slurm / "script-110.sh").read_text()
    assert eqcrl("sweep", "resume", "sweeps/mine", "--retry", "--launcher", "local").code == 1
    assert SweepFolder("sweeps/mine").sweep().launcher_settings == {}


def test_jobs_outlive_the_process_that_submitted_them(
    fast: None, slurm: Path, eqcrl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16, 48]'))
    with (tmp_path / "mine.toml").open("a") as file:
        file.write("[launcher]\nname = 'slurm'\n")
    answer = eqcrl("sweep", "mine.toml", "--detach")
    assert answer.code == 0, answer.err
    assert "2 jobs are the cluster's now" in answer.out
    wait(lambda: "running" in plain(eqcrl)["runs"])
    assert not plain(eqcrl)["running"], "nobody waits for them"
    again = eqcrl("sweep", "resume", "sweeps/mine")
    assert again.code == 0, again.out + again.err
    assert "is submitted" not in again.out, "the jobs that are there were taken up"
    assert [p.name for p in slurm.glob("script-*")] == ["script-100.sh"]
    assert SweepFolder("sweeps/mine").jobs() == {}


def test_jobs_that_nobody_waits_for_are_stopped(
    fast: None, slurm: Path, eqcrl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16]'))
    assert eqcrl("sweep", "mine.toml", "--launcher", "slurm", "--detach").code == 0
    run = tmp_path / "sweeps/mine/runs/0000/seed0"
    wait(lambda: newest_checkpoint(run) >= 0)
    answer = eqcrl("sweep", "stop", "sweeps/mine")
    assert answer.out == "1 jobs are asked to save and stop.\n"
    wait(lambda: "unfinished" in plain(eqcrl)["runs"])
    answer = eqcrl("sweep", "resume", "sweeps/mine")
    assert answer.code == 0, answer.out + answer.err
    assert len(records(run)) == 13


def test_what_can_be_told_without_a_cluster(fast: None, eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text())
    for arguments, code, said in (
        (("--detach",), 2, "the launcher's jobs end with the sweep"),
        (("--launcher", "slurm"), 1, "There is no SLURM here"),
        (("--launcher", "slrum"), 2, "There is no launcher called 'slrum'"),
        (("--launcher.jobs", "0"), 2, "`launcher.jobs = '0'` does not fit"),
        (("--set", "width"), 2, "--set width: not a key with a value"),
    ):
        answer = eqcrl("sweep", "mine.toml", *arguments)
        assert answer.code == code, answer.err
        assert_message(answer.err, said)
    assert not (tmp_path / "sweeps").exists()


# ---------------------------------------------------------------------------------------------------- bad input


def test_what_is_neither_a_file_nor_a_command(eqcrl: Command, tmp_path: Path) -> None:
    for arguments, said in (
        (("statsu", "x"), "Did you mean 'status'?"),
        (("mine.tml",), "neither a file that ends in .toml nor a command"),
        (("none.toml",), "none.toml cannot be read"),
        (("status", "none"), "none is no sweep folder"),
        (("resume", "none"), "none is no sweep folder"),
        (("stop", "none"), "none is no sweep folder"),
        (("list", "none"), "There is no folder none"),
    ):
        answer = eqcrl("sweep", *arguments)
        assert answer.code == 2
        assert_message(answer.err, said)
    (tmp_path / "sweep.toml").write_text(sweep_text())
    assert_message(eqcrl("sweep", tmp_path).err, f"eqcrl sweep resume {tmp_path}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    answer = eqcrl("sweep", "sweep.toml", "--out", "other")
    assert answer.code == 2
    assert_message(answer.err, "other exists and is no sweep folder")
    assert eqcrl("sweep", "status", ".", "--watch", "--json").code == 2
    assert "Usage: eqcrl sweep run" in eqcrl("sweep", "run", "--help").out
    assert eqcrl("sweep").code == 2


@pytest.mark.parametrize("arguments", [("wrong.toml",), ("status", "sweeps/mine"), ("list",)])
def test_neither_a_look_nor_a_mistake_imports_jax(fast: None, eqcrl: Command, tmp_path: Path, arguments: Any) -> None:
    (tmp_path / "mine.toml").write_text(sweep_text('"arch.width" = [16]'))
    (tmp_path / "wrong.toml").write_text("[search]\narhc = [1]\n")
    assert eqcrl("sweep", "mine.toml").code == 0
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "eqcrl", "sweep", *arguments], capture_output=True, text=True
    )
    assert done.returncode == (2 if "wrong.toml" in arguments else 0)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "eqcrl.sweeps.folder" in imported
    assert not {name.partition(".")[0] for name in imported} & {"jax", "equinox", "optuna", "submitit"}


# ----------------------------------------------------------------------------------------------- real training


@pytest.fixture(scope="module")
def swept(terminal: Terminal, shared: Path) -> tuple[Path, str]:
    """A sweep of two real runs, stopped by Ctrl-C in the second and gone on with."""
    file = shared / "real.toml"
    rows = [f'"{k}" = {json.dumps(v)}' for k, v in (dict(TINY) | {"eval.every": 4}).items() if k != "agent.critic_rate"]
    search = '[search]\n"agent.critic_rate" = [1e-3, 3e-3]\n'
    file.write_text("\n".join(['metric = "eval/distance_end"', 'direction = "minimize"', search, "[settings]", *rows]))
    folder = shared / "sweep"
    process = terminal.start("sweep", file, "--out", folder, "--jobs", 1)
    wait(lambda: (folder / "runs" / "0001" / "seed0" / "config.toml").exists(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode in (130, 0), out + err
    done = terminal.call("sweep", "resume", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, out


def test_a_real_sweep(swept: tuple[Path, str], eqcrl: Command) -> None:
    folder, out = swept
    assert "0000/seed0 done, distance_end" in out
    found = plain(eqcrl, folder)
    assert found["runs"] == {"done": 2}
    rows = {row["trial"]: row for row in found["settings"]}
    for name, rate in (("0000", 1e-3), ("0001", 3e-3)):
        lines = records(folder / "runs" / name / "seed0")
        assert rows[name]["values"] == {"agent.critic_rate": rate}
        assert rows[name]["score"] == pytest.approx(sum(r["eval/distance_end"] for r in lines) / len(lines))
        assert lines[-1]["env_steps"] == 960
    assert found["best"] == min(rows, key=lambda name: rows[name]["score"])


def test_a_part_that_has_no_such_setting_is_refused_before_anything_runs(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[search]\nagent.chunks = [1, 2]\n")
    done = terminal.call("sweep", file, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert_message(done.stderr, f"{file}:2: there is no setting `agent.chunks`")
    assert not (tmp_path / "out").exists()
