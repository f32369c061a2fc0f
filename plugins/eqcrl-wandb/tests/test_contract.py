"""The contract of trackers, and what is special about W&B: offline files, ids, uploads."""

import json
import os
import struct
import time
from pathlib import Path

import pytest
from eqcrl_wandb.tracker import WandB

from eqcrl import registry
from eqcrl.trackers.check import check_tracker, tracked
from eqcrl.trackers.choose import settings_of

BLOCK = 32 * 1024
WHOLE, LAST = 1, 4


@pytest.fixture(autouse=True)
def no_account(monkeypatch):
    """Nothing of the user's, and nothing on a network."""
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def offline_files(path: Path) -> list[Path]:
    return sorted(path.glob("wandb/offline-run-*/*.wandb"))


def records(file: Path):
    """What is in a file, once the process that W&B writes with has ended it, which may be after `finish`."""
    for _ in range(100):
        found = list(records_so_far(file))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file} was not ended")


def records_so_far(file: Path):
    """Messages in pieces, in blocks of 32 KiB, after a head of seven bytes (a LevelDB log)."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    data, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        message += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(message)
            message = b""


def read(path: Path) -> dict[int, dict[str, float]]:
    """Numbers by step, over all files that `wandb sync` would upload."""
    found: dict[int, dict[str, float]] = {}
    for file in offline_files(path):
        for record in records(file):
            if record.WhichOneof("record_type") == "history":
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                numbers = {k: float(v) for k, v in row.items() if not k.startswith("_")}
                if not numbers:
                    continue
                assert row["_step"] not in found, "a step twice"
                found[row["_step"]] = numbers
    return found


def test_offline_it_keeps_the_contract(tmp_path):
    check_tracker(WandB, tmp_path, read)


def test_the_name_leads_to_the_tracker():
    assert registry.load("tracker", "eqcrl-wandb/wandb") is WandB
    assert {"project", "entity", "mode", "group", "tags"} == settings_of("eqcrl-wandb/wandb").keys()


def test_the_run_in_the_file_is_the_one_that_was_asked_for(tmp_path):
    tracker = WandB(project="depths", tags="one, two", group="all")
    tracker.start(tracked(tmp_path))
    tracker.log({"env_steps": 100, "train/critic_loss": 1.0})
    tracker.finish("finished")
    (file,) = offline_files(tmp_path)
    (run,) = [r.run for r in records(file) if r.WhichOneof("record_type") == "run"][:1]
    assert (run.project, run.run_group, list(run.tags)) == ("depths", "all", ["one", "two"])
    assert run.display_name == tmp_path.name
    assert run.run_id == (tmp_path / "wandb" / "id.txt").read_text().strip()
    config = {c.key: json.loads(c.value_json) for c in run.config.update}
    assert config["arch.depth"] == 64


def test_files_that_were_uploaded_stay_and_the_next_id_takes_over(tmp_path):
    """`wandb sync` leaves a mark beside what it uploaded; W&B cannot forget that."""
    tracker = WandB()
    tracker.start(tracked(tmp_path))
    tracker.log({"env_steps": 100, "train/critic_loss": 1.0})
    tracker.finish("stopped")
    (uploaded,) = offline_files(tmp_path)
    uploaded.with_name(uploaded.name + ".synced").touch()
    tracker = WandB()
    tracker.start(tracked(tmp_path, [{"env_steps": 100, "train/critic_loss": 1.0}]))
    tracker.log({"env_steps": 200, "train/critic_loss": 2.0})
    tracker.finish("finished")
    assert uploaded.exists()
    (fresh,) = set(offline_files(tmp_path)) - {uploaded}
    assert (tmp_path / "wandb" / "id.txt").read_text().strip() in fresh.name
    steps = [r.history.step.num for r in records(fresh) if r.WhichOneof("record_type") == "history"]
    assert steps == [100, 200]
