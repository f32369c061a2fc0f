"""Files from a stranger: loading them says what is wrong, or gives what they say; it runs nothing of theirs."""

import hashlib
import io
import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eqcrl
from eqcrl import arrays, checkpoint
from eqcrl.config import Config
from eqcrl.epoch import TrainState
from eqcrl.errors import CheckpointError, ConfigError, EqcrlError
from eqcrl.plan import state_shapes
from eqcrl.recorded import recorded_config
from eqcrl.rundir import RunDir
from helpers import first_state, tiny, tiny_system

MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@pytest.fixture(scope="module")
def like() -> TrainState:
    return state_shapes(tiny_system())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint. Copy it before writing."""
    path = tmp_path_factory.mktemp("run") / "run"
    run = RunDir.create(path, tiny(), {"versions": {"eqcrl": "0"}, "resumed": []})
    run.append_metrics({"env_steps": 80, "eval/success_any": 0.5, "wall_seconds": 1.0})
    checkpoint.save(run.checkpoints, first_state(), {"config": tiny().to_toml(), "wall_seconds": 1.0})
    return path


@pytest.fixture(scope="module")
def run(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(original, tmp_path_factory.mktemp("copy") / "run"))


def spliced(data: bytes, place: float, put: bytes, cut: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + put + data[at + cut :]


@MANY
@given(
    name=st.sampled_from(["agent", "rest"]),
    place=st.floats(0, 1, exclude_max=True),
    put=st.binary(max_size=200),
    cut=st.integers(0, 200),
)
def test_a_checkpoint_with_checksums_that_agree(
    run: Path, like: TrainState, name: str, place: float, put: bytes, cut: int
) -> None:
    """Whoever changes a file can change its manifest too: then other numbers are read, of the right shapes, or none."""
    path = checkpoint.latest(run / "checkpoints")
    file, manifest = path / f"{name}.eqx", path / "manifest.json"
    whole, facts = file.read_bytes(), manifest.read_text()
    changed = spliced(whole, place, put, cut)
    edited = json.loads(facts)
    edited["files"][name] |= {"sha256": hashlib.sha256(changed).hexdigest(), "bytes": len(changed)}
    file.write_bytes(changed)
    manifest.write_text(json.dumps(edited))
    try:
        loaded = checkpoint.load(path, like)
    except CheckpointError:
        pass
    else:
        for leaf, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(like), strict=True):
            assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
    finally:
        file.write_bytes(whole)
        manifest.write_text(facts)


def npy(shape: tuple[int, ...], dtype: Any, content: bytes = b"") -> bytes:
    text = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(text, {"descr": descr, "fortran_order": False, "shape": shape})
    return text.getvalue() + content


@pytest.mark.parametrize(
    "content",
    [
        npy((10**9, 10**9), np.float32),
        npy((2, 3), np.float64, b"\0" * 48),
        npy((2, 3), np.float32, b"\0" * 23),
        npy((2, 3), np.float32, b"\0" * 25),
        npy((2, 3), np.float32)[:8] + b"\xff\xff" + b"(" * 60_000,
        npy((2, 3), np.float32).replace(b"False", b"True "),
        npy((2, 3), "O", b"\x80\x04cos\nsystem\n"),
        b"\x80\x04\x95", b"PK\x03\x04", b"\x93NUMPY\x02\x00", b"",
    ],
)  # fmt: skip
def test_memory_is_taken_for_what_is_expected_not_for_what_is_claimed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError):  # noqa: PT011  (each says something else)
        arrays.read(tmp_path / "x", [((2, 3), np.float32)])
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@MANY
@given(content=st.binary(max_size=400))
def test_any_bytes_for_arrays(run: Path, content: bytes) -> None:
    file = run / "bytes"
    for begin in (b"", npy((4,), np.float32)):
        file.write_bytes(begin + content)
        try:
            (found,) = arrays.read(file, [((4,), np.float32)])
        except ValueError:
            continue
        assert found.tobytes() == content


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.bool_, np.float64, "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (5, 2)])
def test_arrays_come_back(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    dtype = jax.numpy.dtype(dtype)
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 3).astype(dtype)
    size, digest = arrays.write(tmp_path / "x", [array, array])
    assert (tmp_path / "x").stat().st_size == size
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == digest
    for found in arrays.read(tmp_path / "x", [(shape, dtype)] * 2):
        assert found.dtype == dtype
        assert found.tobytes() == array.tobytes()


@MANY
@given(
    name=st.sampled_from(["config.toml", "header.json", "metrics.jsonl"]),
    place=st.floats(0, 1, exclude_max=True),
    put=st.one_of(st.binary(max_size=3), st.sampled_from([b"[" * 9000, b"9" * 5000, b"\x00", b"{}", b"1e999", b"nan"])),
    cut=st.integers(0, 3),
)
def test_text_of_a_run(run: Path, name: str, place: float, put: bytes, cut: int) -> None:
    """Read as any command reads it: an error that says what to do, or a value of the right kind."""
    file = run / name
    whole = file.read_bytes()
    file.write_bytes(spliced(whole, place, put, cut))
    try:
        opened = RunDir.open(run)
        for read, kind in ((opened.config, Config), (opened.header, dict), (opened.metrics, list)):
            found = answer(read)
            assert isinstance(found, kind) or (isinstance(found, EqcrlError) and found.mend)
    finally:
        file.write_bytes(whole)


def answer(read: Callable[[], Any]) -> Any:
    """What it returns, or the error that it raises on purpose."""
    try:
        return read()
    except EqcrlError as error:
        return error


@pytest.mark.parametrize(
    "name",
    ["os:system", "os.system", "eqcrl.envs.point:PointMaze", "antigravity", "../../etc/passwd", "__import__('os')"],
)
@pytest.mark.parametrize("field", ["env", "arch", "agent", "loss"])
def test_names_in_a_file_are_looked_up_and_never_imported(field: str, name: str) -> None:
    text = tiny().to_toml().replace(f'[{field}]\nname = "', f'[{field}]\nname = "{name}" # ', 1)
    assert name in text
    before = set(sys.modules)
    with pytest.raises(EqcrlError):
        recorded_config(text, "config.toml")
    assert "antigravity" not in set(sys.modules) - before


def test_opening_such_a_run_says_so(run: Path) -> None:
    config = run / "config.toml"
    whole = config.read_text()
    config.write_text(whole.replace('name = "point-u-maze"', 'name = "os:system"'))
    try:
        with pytest.raises(EqcrlError, match="os:system"):
            eqcrl.load(run)
    finally:
        config.write_text(whole)


@pytest.mark.parametrize("text", ["seed = " + "9" * 5000, "seed = " + "[" * 9000, "seed = 1e400"])
def test_values_that_no_setting_has(text: str) -> None:
    with pytest.raises(ConfigError):
        Config.from_toml(text, "a file")
