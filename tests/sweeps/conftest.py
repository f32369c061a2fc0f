"""A small sweep, and a trainer that takes no time."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eqcrl.jobs import processes, sizes
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.setting import Planned, Setting
from helpers import TINY

TRAINER = Path(__file__).with_name("trainer.py")
BASE = {k: v for k, v in TINY.items() if k not in ("arch.width",)}


def sweep_text(search: str = '"arch.width" = [16, 48]', **more: Any) -> str:
    """A sweep file on the tiny configuration."""
    rows = [f"{k} = {v!r}" for k, v in {"method": "grid", **more}.items()]
    settings = [f'"{k}" = {v!r}' for k, v in BASE.items()]
    return "\n".join([*rows, "[search]", search, "[settings]", *settings]) + "\n"


def quick(plan: Planned, settings: Sequence[Setting], **_: Any) -> tuple[Machine, dict[str, sizes.Sized]]:
    """Settings that take nothing, on a machine of two cores."""
    machine = Machine("a device", "cpu", None, None, (0, 1))
    return machine, {s.slug: sizes.Sized(s.slug, 1, 1, 1, 1, 1, None, ()) for s in settings}


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`eqcrl train` takes no time, and neither does asking for sizes."""
    monkeypatch.setattr(processes, "EQCRL", (sys.executable, str(TRAINER)))
    monkeypatch.setattr(sizes, "measure", quick)
