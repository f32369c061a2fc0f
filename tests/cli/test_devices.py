"""`--devices` and the options of several processes, as typed: what is refused, before JAX is asked for anything."""

from pathlib import Path

import pytest

from eqcrl.cli.main import run as run_cli
from helpers import TINY, assert_message, flags


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        run_cli(["train", *flags(TINY), *args])
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    return said


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--devices", "many"], ["--devices many is neither a number nor `all`", "--devices 4, or all"]),
        (["--devices", "0"], ["--devices 0 is neither a number"]),
        (["--devices", "7"], ["7 devices were asked for, but there is 1", "--devices all takes what there is"]),
        (["--devices", "2", "--num-seeds", "2"], ["2 seeds side by side train on one device", "one by one"]),
        (["--coordinator", "auto", "--num-seeds", "3"], ["3 seeds side by side train on one device"]),
        (["--process-id", "1"], ["say nothing without --coordinator"]),
        (["--coordinator", "host:1", "--devices", "2"], ["exclude each other", "CUDA_VISIBLE_DEVICES"]),
        (["--coordinator", "host:1"], ["needs --num-processes and --process-id", "--coordinator auto"]),
        (["--coordinator", "auto"], ["finds no job step of SLURM here"]),
    ],
)
def test_what_does_not_go_together(
    args: list[str],
    parts: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert_message(refused(args, capsys), *parts)
    assert not list(tmp_path.iterdir())


def test_all_devices_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_cli(["train", *flags(TINY), "--devices", "all", "--help"])
    assert ended.value.code == 0
    assert "--devices N|all" in capsys.readouterr().out
