"""How many runs fit side by side, and the process that tells their sizes."""

from pathlib import Path
from typing import Any

import pytest

from eqcrl.errors import ConfigError, RunError
from eqcrl.studies import sizes
from eqcrl.studies.grid import expand
from eqcrl.studies.sizes import Machine, cores, measure
from eqcrl.studies.source import Source
from studies.conftest import study_text

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


def test_sizes_are_told_by_another_process(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(study_text())
    study = Source(tmp_path / "t.toml").study(None)
    settings = expand(study)
    heard: list[int] = []
    found, sized = measure(study, settings, heard=heard.append)
    assert (found.platform, found.cores) == ("cpu", cores())
    assert heard == [0, 1, 2, 3, 4]
    assert list(sized) == [s.slug for s in settings]
    small, large = sized[settings[0].slug], sized[settings[2].slug]
    assert small.env_steps == 960
    assert small.grad_steps == 30
    assert small.seconds is None
    assert small.parameters < large.parameters
    assert small.bytes < large.bytes


def test_a_part_that_does_not_have_a_setting_is_refused_where_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('title = "t"\n\n[settings]\nagent.chunks = 3\n')
    study = Source(tmp_path / "t.toml").study(None)
    with pytest.raises(ConfigError, match=r"t.toml:4: there is no setting `agent.chunks`"):
        measure(study, expand(study))


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.toml").write_text('title = "t"\n')
    study = Source(tmp_path / "t.toml").study(None)
    monkeypatch.setenv("JAX_PLATFORMS", "no-such-platform")
    with pytest.raises(RunError, match=r"(?s)ended with 1.*no-such-platform"):
        measure(study, expand(study))


def test_cores_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sizes.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(sizes.os, "cpu_count", lambda: 3)
    assert cores() == (0, 1, 2)
