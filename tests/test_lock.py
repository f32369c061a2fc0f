"""Two processes and one run directory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eqcrl.errors import RunError
from eqcrl.lock import claimed

HOLD = """
import sys, time
from pathlib import Path
from eqcrl.lock import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_has_the_run(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(RunError) as caught, claimed(tmp_path):
            pass
        assert f"{tmp_path} is being written by another process (process {process.pid} on " in caught.value.message
        assert "SIGTERM" in caught.value.mend
        for content in ("", "[1]", '{"pid": 1}'):  # the message does without a holder's name
            (tmp_path / ".writer.json").write_text(content)
            with pytest.raises(RunError, match=r"another process\."), claimed(tmp_path):
                pass
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path, number: signal.Signals) -> None:
    process = holder(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=60)
    with claimed(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / ".writer.json").read_text()
    assert not (tmp_path / ".writer.json").exists()


def test_the_lock_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path):
            raise ZeroDivisionError
    holder_after = holder(tmp_path)
    holder_after.kill()
    holder_after.communicate()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^Cannot write .*file"), claimed(tmp_path / "file"):
        pass
