"""A process that lives as long as the one that started it."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from eqcrl.jobs.child import wrapped


@pytest.mark.skipif(sys.platform != "linux", reason="asked for on Linux only")
def test_a_child_is_asked_to_stop_when_its_parent_is_gone(tmp_path: Path) -> None:
    parent = textwrap.dedent("""
        import subprocess, sys, time
        from eqcrl.jobs.child import wrapped
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = subprocess.Popen(wrapped(command), start_new_session=True)
        time.sleep(1.5)
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.kill(pid, 0)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    command = wrapped([sys.executable, "-c", "print('begun')"])
    command[3] = "1"  # whose parent is another
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (75, "")
