"""How many runs fit side by side, and how they share the machine."""

from typing import Any

import pytest

from eqcrl.jobs import machine as machines
from eqcrl.jobs.machine import Machine, cores

GIB = 2**30


def machine(**more: Any) -> Machine:
    cpu: dict[str, Any] = {"device": "", "platform": "cpu", "device_bytes": 64 * GIB, "host_bytes": 64 * GIB}
    return Machine(**{**cpu, "cores": (0, 1, 2, 3), **more})


def test_on_a_cpu_one_run_a_core_as_far_as_memory_goes() -> None:
    assert machine().side_by_side([GIB] * 10) == 4
    assert machine().side_by_side([GIB] * 3) == 3
    # 0.9 * 8 GiB hold two of 1 + 1.5 GiB.
    assert machine(host_bytes=8 * GIB).side_by_side([GIB] * 10) == 2
    assert machine(host_bytes=8 * GIB).side_by_side([100 * GIB] * 10) == 1, (
        "it is tried; the run says that it is beyond"
    )
    assert machine(host_bytes=None, device_bytes=None).side_by_side([GIB] * 10) == 4
    assert machine().side_by_side([]) == 1


def test_on_an_accelerator_as_many_as_its_memory_holds_but_few() -> None:
    gpu = {"platform": "gpu", "cores": tuple(range(16)), "host_bytes": 128 * GIB}
    assert machine(**gpu, device_bytes=80 * GIB).side_by_side([GIB] * 10) == 4
    assert machine(**gpu, device_bytes=80 * GIB).side_by_side([30 * GIB] * 10) == 2
    assert machine(**gpu, device_bytes=80 * GIB).side_by_side([70 * GIB] * 10) == 1
    assert machine(**gpu | {"host_bytes": 4 * GIB}, device_bytes=80 * GIB).side_by_side([GIB] * 10) == 2
    assert machine(**gpu | {"cores": (0,)}, device_bytes=80 * GIB).side_by_side([GIB] * 10) == 1


def test_cores_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(machines.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machines.os, "cpu_count", lambda: 3)
    assert cores() == (0, 1, 2)
