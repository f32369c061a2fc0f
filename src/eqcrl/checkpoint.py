"""Checkpoints: the whole TrainState in files that are complete or absent, checked before they are believed.

    checkpoints/000000123/          the number of unrolls collected
        agent.eqx                   networks and optimizers (all that a policy needs)
        rest.eqx                    replay, environments, random keys, counters
        manifest.json               format, leaves, sizes, SHA-256 of both, configuration

Leaves are NumPy arrays as Equinox writes them, with no pickle. A checkpoint is written in a hidden directory
beside the others, flushed, and renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eqcrl.epoch import TrainState
from eqcrl.errors import CheckpointError
from eqcrl.files import writing

FORMAT = 1
FILES = ("agent", "rest")


def _split(state: TrainState) -> dict[str, Any]:
    return {"agent": state.agent, "rest": (state.replay, state.env, state.key, state.unrolls)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
    """Random keys as the integers they are made of, since files hold numbers."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _leaf_table(tree: Any) -> list[list[Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(_plain, tree))
    return [[jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(folder: Path, state: TrainState, extra: Mapping[str, Any]) -> Path:
    """Write a checkpoint named after the state's unrolls; `extra` goes into its manifest.

    Raises: CheckpointError (a full disk, no permission); older checkpoints stay as they are.
    """
    number = int(state.unrolls)
    final = folder / f"{number:09d}"
    beside = folder / f".{number:09d}.{os.getpid()}.part"
    manifest: dict[str, Any] = {"format": FORMAT, "unrolls": number, **extra, "files": {}}
    try:
        shutil.rmtree(beside, ignore_errors=True)  # a killed process may have had our number (in containers)
        beside.mkdir(parents=True)
        for name, tree in _split(state).items():
            path = beside / f"{name}.eqx"
            eqx.tree_serialise_leaves(path, _plain(tree))
            _sync(path)
            manifest["files"][name] = {
                "sha256": _digest(path),
                "bytes": path.stat().st_size,
                "leaves": _leaf_table(tree),
            }
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1))
        _sync(beside / "manifest.json")
        if final.exists():
            shutil.rmtree(final)
        os.replace(beside, final)
        _sync(folder)
    except (OSError, RuntimeError) as raised:
        error = _os_error(raised)
        if error is None:
            raise
        kept = numbers(folder)
        raise CheckpointError(
            f"The checkpoint {final} cannot be written: {error.strerror or error}.",
            mend="Free space or make the directory writable, then continue with --resume. "
            + (f"The last complete checkpoint is {kept[-1]:09d}." if kept else "There is no earlier checkpoint."),
        ) from raised
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def _os_error(raised: BaseException | None) -> OSError | None:
    """The operating system's reason: Equinox says at which leaf writing failed, and keeps it as the cause."""
    while raised is not None and not isinstance(raised, OSError):
        raised = raised.__cause__
    return raised


def numbers(folder: Path) -> list[int]:
    """The checkpoints in a folder, oldest first; unfinished ones are hidden and do not count."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep`, and what killed processes left unfinished."""
    for number in numbers(folder)[:-keep]:
        shutil.rmtree(folder / f"{number:09d}", ignore_errors=True)
    for partial in folder.glob(".*.part"):
        shutil.rmtree(partial, ignore_errors=True)


def forget_after(folder: Path, number: int) -> None:
    """Remove the checkpoints beyond this one. Raises: RunError."""
    for later in numbers(folder):
        if later > number:
            hidden = folder / f".{later:09d}.{os.getpid()}.part"  # at once: half a checkpoint is never seen
            with writing(folder):
                os.replace(folder / f"{later:09d}", hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def latest(folder: Path) -> Path:
    """The newest checkpoint. Raises: CheckpointError if there is none."""
    known = numbers(folder)
    if not known:
        raise CheckpointError(
            f"There is no complete checkpoint in {folder}.", mend="The run ended before its first one: start it anew."
        )
    return folder / f"{known[-1]:09d}"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises: CheckpointError if it is missing, damaged or of another format."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        known = manifest["format"] == FORMAT and isinstance(manifest["unrolls"], int)
        files = manifest["files"]
        complete = all({"sha256", "bytes", "leaves"} <= files[name].keys() for name in FILES)
        if not all(len(row) == 3 for name in FILES for row in files[name]["leaves"]):
            raise ValueError("its list of arrays is malformed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"its manifest.json cannot be read ({type(error).__name__}: {error})") from None
    if not known or not complete:
        raise CheckpointError(
            f"The checkpoint {path} has format {manifest['format']!r}; this version reads {FORMAT}.",
            mend="Use the version of eqcrl that is named in the run's header.json.",
        )
    return manifest


def damaged(path: Path, why: str) -> CheckpointError:
    """The error for a checkpoint that cannot be believed, with the way back to an older one."""
    others = [n for n in numbers(path.parent) if f"{n:09d}" != path.name]
    mend = (
        f"Remove {path} to continue from {others[-1]:09d}."
        if others
        else "There is no other checkpoint: start the run anew."
    )
    return CheckpointError(f"The checkpoint {path} is damaged: {why}.", mend=mend)


def _load_file(path: Path, name: str, like: Any, manifest: Mapping[str, Any]) -> Any:
    file, facts = path / f"{name}.eqx", manifest["files"][name]
    shapes = jax.eval_shape(_plain, like)
    if facts["leaves"] != _leaf_table(like):
        raise _wrong_shapes(path, facts["leaves"], _leaf_table(like))
    if not file.is_file():
        raise damaged(path, f"{file.name} is missing")
    if file.stat().st_size != facts["bytes"]:
        raise damaged(path, f"{file.name} has {file.stat().st_size} bytes instead of {facts['bytes']}")
    if _digest(file) != facts["sha256"]:
        raise damaged(path, f"the content of {file.name} does not match its checksum")
    try:
        plain = eqx.tree_deserialise_leaves(file, shapes)
    except Exception as error:
        raise damaged(path, f"{file.name} cannot be read ({type(error).__name__}: {error})") from error
    return jax.tree.map(lambda p, leaf: jax.random.wrap_key_data(p) if _is_key(leaf) else p, plain, like)


def _wrong_shapes(path: Path, found: list[Any], expected: list[Any]) -> CheckpointError:
    other = next(
        (f"{f[0]} is {f[2]}{f[1]}, expected {e[2]}{e[1]}" for f, e in zip(found, expected, strict=False) if f != e),
        f"{len(found)} arrays, expected {len(expected)}",
    )
    return CheckpointError(
        f"The checkpoint {path} does not fit the configuration of its run: {other}.",
        mend="config.toml was edited, or a plugin changed its networks; restore what the run was started with.",
    )


def load(path: Path, like: TrainState) -> TrainState:
    """The whole state; `like` gives its structure and shapes (as from `jax.eval_shape`).

    Raises: CheckpointError if anything is missing, truncated, edited, or of other shapes.
    """
    manifest = read_manifest(path)
    parts = {name: _load_file(path, name, tree, manifest) for name, tree in _split(like).items()}
    state = TrainState(parts["agent"], *parts["rest"])
    if int(state.unrolls) != manifest["unrolls"]:
        raise damaged(path, "its manifest.json was edited")
    return state


def load_agent(path: Path, like: TrainState) -> Any:
    """The agent alone, without reading the replay. Raises: CheckpointError."""
    return _load_file(path, "agent", like.agent, read_manifest(path))


def stacked(states: Iterable[TrainState]) -> TrainState:
    """One state with a leading axis over these, put together leaf by leaf on the host: nothing is there twice."""
    rows: list[list[Any]] = []
    keys: list[bool] = []
    structure: Any = None
    for state in states:
        keys = [_is_key(leaf) for leaf in jax.tree.leaves(state)]
        plain, structure = jax.tree.flatten(_plain(state))
        rows.append(jax.device_get(plain))
    leaves = []
    for i, is_key in enumerate(keys):
        leaf = jnp.asarray(np.stack([row[i] for row in rows]))
        leaves.append(jax.random.wrap_key_data(leaf) if is_key else leaf)
        for row in rows:
            row[i] = None
    return jax.tree.unflatten(structure, leaves)


def nbytes(shapes: Any) -> int:
    """Bytes of all arrays of a tree of arrays or shapes."""
    leaves = jax.tree.leaves(jax.eval_shape(_plain, shapes))
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
