"""A SLURM of one machine."""

import os
from pathlib import Path

import pytest

from eqcrl.launchers.slurm import quiet_submitit
from launchers.cluster import install


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its commands are on the path; the folder that it keeps its jobs in."""
    return make_slurm(tmp_path, monkeypatch)


def make_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for the fixtures of other folders."""
    home = tmp_path / "cluster"
    install(home / "bin")
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setattr("eqcrl.launchers.slurm.ASK_SECONDS", 0.1)
    # What submitit knows of jobs belongs to the process.
    quiet_submitit().SlurmJob.watcher.__init__(delay_s=600)
    return home
