"""The process that tells the sizes of settings."""

from pathlib import Path

import pytest

from eqcrl.errors import ConfigError, RunError
from eqcrl.jobs.machine import cores
from eqcrl.jobs.sizes import measure
from eqcrl.studies.grid import expand
from eqcrl.studies.source import Source
from studies.conftest import study_text


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
