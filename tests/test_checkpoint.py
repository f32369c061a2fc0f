"""Checkpoints: whole or absent, checked before they are believed, and never a traceback."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqcrl import arrays, checkpoint
from eqcrl.assemble import assemble
from eqcrl.epoch import TrainState
from eqcrl.errors import CheckpointError, EqcrlError
from eqcrl.plan import state_shapes
from helpers import first_state, snapshot, tiny, tiny_programs, tiny_system

FILES = ("agent.eqx", "rest.eqx", "replay.eqx", "manifest.json")


def trained_state() -> TrainState:
    """Two unrolls and one epoch: every part of the state has something in it."""
    programs = tiny_programs()
    return programs.epoch(programs.collect(programs.collect(first_state())))[0]


def data(leaf: Any) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def assert_equal_states(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(data(a), data(b))


@pytest.fixture(scope="module")
def like() -> TrainState:
    return state_shapes(tiny_system())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint. Copy it before writing."""
    folder = tmp_path_factory.mktemp("checkpoints")
    extra = {"config": tiny().to_toml(), "wall_seconds": 1.5}
    checkpoint.save(folder, first_state(), extra)
    return checkpoint.save(folder, trained_state(), extra)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.parent, tmp_path / "checkpoints")) / saved.name


def test_what_is_loaded_is_what_was_saved(saved: Path, like: TrainState) -> None:
    state = trained_state()
    loaded = checkpoint.load(saved, like)
    assert_equal_states(loaded, state)
    assert_equal_states(checkpoint.load_agent(saved, like), state.agent)
    # ... and training goes on from either in the same way.
    assert_equal_states(tiny_programs().epoch(loaded), tiny_programs().epoch(state))


def test_layout_and_manifest(saved: Path) -> None:
    assert saved.name == "000000003"
    assert sorted(p.name for p in saved.iterdir()) == sorted(FILES)
    manifest = checkpoint.read_manifest(saved)
    assert manifest["unrolls"] == 3
    assert manifest["wall_seconds"] == 1.5
    assert manifest["rows"] == 30
    for name in ("agent", "rest", "replay"):
        assert manifest["files"][name]["bytes"] == (saved / f"{name}.eqx").stat().st_size
    assert checkpoint.latest(saved.parent) == saved
    assert checkpoint.numbers(saved.parent) == [0, 3]


def test_no_pickle(saved: Path, like: TrainState) -> None:
    for name in ("agent", "rest", "replay"):
        arrays = 0
        with (saved / f"{name}.eqx").open("rb") as file:
            while file.peek(1):
                np.load(file, allow_pickle=False)
                arrays += 1
        assert arrays == len(checkpoint.read_manifest(saved)["files"][name]["leaves"]) > 3


def test_nbytes_counts_what_the_arrays_take(like: TrainState) -> None:
    state = trained_state()
    assert checkpoint.nbytes(state) == checkpoint.nbytes(like) == sum(data(x).nbytes for x in jax.tree.leaves(state))


def damaged(copy: Path, like: TrainState) -> str:
    """The message on loading; the files must be left as they are."""
    before = snapshot(copy.parent)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(copy, like)
    assert snapshot(copy.parent) == before
    assert str(copy) in str(caught.value)
    assert caught.value.mend
    return str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(copy: Path, like: TrainState, name: str, share: float) -> None:
    file = copy / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    message = damaged(copy, like)
    assert "is damaged" in message
    assert name in message
    assert f"Remove {copy} to continue from 000000000" in message
    # As the message says: the checkpoint before is whole.
    assert int(checkpoint.load(copy.with_name("000000000"), like).unrolls) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(copy: Path, like: TrainState, name: str) -> None:
    (copy / name).unlink()
    message = damaged(copy, like)
    assert name in message
    assert "is damaged" in message


def test_the_only_checkpoint_has_none_before_it(copy: Path, like: TrainState) -> None:
    shutil.rmtree(copy.with_name("000000000"))
    (copy / "rest.eqx").unlink()
    assert "There is no other checkpoint: start the run anew." in damaged(copy, like)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(FILES[:3]), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused(copy: Path, like: TrainState, name: str, place: float, flip: int) -> None:
    file = copy / name
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= flip
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        assert f"the content of {name} does not match its checksum" in damaged(copy, like)
    finally:
        file.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), put=st.binary(min_size=0, max_size=3), cut=st.integers(1, 3))
def test_an_edited_manifest_is_refused_or_harmless(
    copy: Path, like: TrainState, place: float, put: bytes, cut: int
) -> None:
    file = copy / "manifest.json"
    whole = file.read_bytes()
    at = int(place * len(whole))
    file.write_bytes(whole[:at] + put + whole[at + cut :])
    try:
        loaded = checkpoint.load(copy, like)
    except CheckpointError:
        pass
    else:
        assert int(loaded.unrolls) == 3
    finally:
        file.write_bytes(whole)


def edited(copy: Path, change: Any) -> None:
    file = copy / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format=99), "has format 99; this version reads 2"),
        (lambda m: m.update(unrolls=4), "its manifest.json was edited"),
        (lambda m: m.pop("files"), "manifest.json cannot be read"),
        (lambda m: m.update(files=[]), "manifest.json cannot be read"),
        (lambda m: m["files"].pop("agent"), "manifest.json cannot be read"),
        (lambda m: m["files"].pop("rest"), "manifest.json does not mention rest.eqx"),
        (lambda m: m["files"].pop("replay"), "manifest.json does not mention replay.eqx"),
        (lambda m: m.update(rows=29), "its manifest.json was edited: 29 rows"),
        (lambda m: m.update(rows=10**15), "its manifest.json was edited"),
        (lambda m: m.update(rows="all"), "its manifest.json was edited"),
        (lambda m: m.update(format=1), "has format 1: an earlier version"),
        (lambda m: m["files"].update(more=3), "manifest.json cannot be read"),
        (lambda m: m["files"]["agent"].update(bytes=3), "instead of 3"),
        (lambda m: m["files"]["agent"].update(sha256="0" * 64), "does not match its checksum"),
        (lambda m: m["files"]["agent"]["leaves"].pop(), "arrays, expected"),
        (lambda m: m["files"]["rest"]["leaves"][0].__setitem__(1, [7, 7]), "float32[7, 7], expected"),
        (lambda m: m["files"]["rest"].update(leaves=5), ""),
        (lambda m: m["files"]["rest"].update(leaves=[1, 2, 3]), ""),
        (lambda m: m["files"]["rest"].update(leaves=None), ""),
    ],
)
def test_an_edited_manifest(copy: Path, like: TrainState, change: Any, said: str) -> None:
    edited(copy, change)
    assert said in damaged(copy, like)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "\x00\x01", "{}"])
def test_garbage_for_a_manifest(copy: Path, like: TrainState, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    assert "its manifest.json cannot be read" in damaged(copy, like)


def test_bytes_that_are_no_text_for_a_manifest(copy: Path, like: TrainState) -> None:
    (copy / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert "its manifest.json cannot be read" in damaged(copy, like)


def test_networks_of_another_shape_are_refused(saved: Path) -> None:
    other = state_shapes(assemble(tiny(arch__width=24)))
    with pytest.raises(CheckpointError, match=r"does not fit the configuration of its run: .*16.*expected .*24"):
        checkpoint.load(saved, other)
    with pytest.raises(CheckpointError, match="restore what the run was started with"):
        checkpoint.load_agent(saved, other)


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert checkpoint.numbers(folder) == []
        with pytest.raises(CheckpointError, match="There is no complete checkpoint in"):
            checkpoint.latest(folder)


def test_what_is_not_a_checkpoint_does_not_count(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved.parent, tmp_path / "checkpoints"))
    (folder / ".000000009.123.part").mkdir()
    (folder / "notes").mkdir()
    (folder / "000000010").write_text("a file")
    assert checkpoint.numbers(folder) == [0, 3]


def test_prune_keeps_the_newest_and_clears_away_halves(tmp_path: Path) -> None:
    for number in (1, 2, 3, 10):
        (tmp_path / f"{number:09d}").mkdir()
    half = tmp_path / ".000000011.5.part"
    half.mkdir()
    (half / "agent.eqx").write_bytes(b"x")
    checkpoint.prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000003", "000000010"]
    checkpoint.prune(tmp_path, 5)
    assert checkpoint.numbers(tmp_path) == [3, 10]


def test_saving_again_replaces_the_checkpoint_of_that_number(copy: Path, like: TrainState) -> None:
    (copy / "rest.eqx").write_bytes(b"broken")
    assert checkpoint.save(copy.parent, trained_state(), {}) == copy
    assert_equal_states(checkpoint.load(copy, like), trained_state())


def test_saving_over_the_half_of_a_killed_process_with_the_same_id(tmp_path: Path, like: TrainState) -> None:
    """In a container the process often has the same number every time."""
    half = tmp_path / f".{3:09d}.{os.getpid()}.part"
    half.mkdir()
    (half / "agent.eqx").write_bytes(b"half")
    path = checkpoint.save(tmp_path, trained_state(), {})
    assert_equal_states(checkpoint.load(path, like), trained_state())
    assert checkpoint.numbers(tmp_path) == [3]


@pytest.mark.parametrize("fails", ["agent", "rest", "replay", "manifest", "rename"])
def test_a_refusing_disk_leaves_the_older_checkpoints(
    copy: Path, like: TrainState, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """An OSError at any step of writing: a message, no half, nothing lost."""
    before = snapshot(copy.parent)
    refused = OSError(28, "No space left on device")

    def refuse(real: Any, when: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                raise refused
            return real(*args, **kwargs)

        return call

    if fails in ("agent", "rest", "replay"):
        monkeypatch.setattr(arrays, "write", refuse(arrays.write, lambda path, leaves: path.stem == fails))
    elif fails == "manifest":
        monkeypatch.setattr(checkpoint, "_sync", refuse(checkpoint._sync, lambda path: path.stem == "manifest"))
    else:
        monkeypatch.setattr(checkpoint.os, "replace", refuse(os.replace, lambda *_: True))
    state = tiny_programs().epoch(trained_state())[0]
    with pytest.raises(CheckpointError) as caught:
        checkpoint.save(copy.parent, state, {})
    message = str(caught.value)
    assert f"The checkpoint {copy.with_name('000000004')} cannot be written: No space left on device" in message
    assert "The last complete checkpoint is 000000003." in message
    assert snapshot(copy.parent) == before
    monkeypatch.undo()
    assert int(checkpoint.load(checkpoint.latest(copy.parent), like).unrolls) == 3


def test_a_first_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(EqcrlError, match=r"cannot be written: Not a directory[\s\S]*There is no earlier checkpoint"):
        checkpoint.save(occupied, first_state(), {})
