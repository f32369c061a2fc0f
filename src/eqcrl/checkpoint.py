"""Checkpoints: the whole TrainState in files that are complete or absent, checked before they are believed.

    checkpoints/000000123/          the number of unrolls collected
        agent.eqx                   networks and optimizers (all that a policy needs)
        rest.eqx                    environments, random keys, counters
        replay.eqx                  the rows of the replay that hold something; absent if it was not to be kept
        manifest.json               format, leaves, sizes, SHA-256 of each, configuration
    checkpoints/best-000000123/     the policy of the best evaluation: agent.eqx and manifest.json
    checkpoints/policy-000000100/   one that is kept for good

Leaves are NumPy arrays one behind the other, as Equinox writes them, with no pickle. A checkpoint is written in a
hidden directory beside the others, flushed, and renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqcrl import arrays
from eqcrl.epoch import TrainState
from eqcrl.errors import CheckpointError
from eqcrl.files import writing
from eqcrl.replay import Replay

FORMAT = 2
# What a checkpoint of each format holds at least.
REQUIRED_FILES = {1: ("agent", "rest"), FORMAT: ("agent",)}
BEST, KEPT = "best", "policy"


def _split(state: TrainState) -> dict[str, Any]:
    return {
        "agent": state.agent,
        "rest": (state.env, state.key, state.unrolls, state.replay.inserted),
        "replay": (state.replay.data, state.replay.last),
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def plain(tree: Any) -> Any:
    """Random keys as the integers they are made of, since files hold numbers."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _leaf_table(tree: Any) -> list[list[Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(plain, tree))
    return [[jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def filled_rows(replay: Replay) -> int:
    """Rows of the ring that hold something: the first ones, until it is full."""
    return min(int(replay.inserted), replay.last.shape[0])


def save(folder: Path, state: TrainState, extra: Mapping[str, Any], *, replay: bool = True) -> Path:
    """Write a checkpoint named after the state's unrolls; `extra` goes into its manifest.

    The state may be on the device or, as `plain` makes it, on the host. Without `replay` its transitions are left out.
    Raises: CheckpointError (a full disk, no permission); older checkpoints stay as they are.
    """
    number = int(state.unrolls)
    parts = _split(state)
    if not replay:
        del parts["replay"]
    rows = filled_rows(state.replay) if replay else 0
    facts = {"unrolls": number, "rows": rows if replay else None, **extra}
    return _write(folder, f"{number:09d}", parts, facts, rows)


def save_policy(folder: Path, kind: str, number: int, agent: Any, extra: Mapping[str, Any]) -> Path:
    """Write the networks alone; of the `best` one is there at a time. Raises: CheckpointError."""
    path = _write(folder, f"{kind}-{number:09d}", {"agent": agent}, {"unrolls": number, **extra}, 0)
    if kind == BEST:
        for other in _named(folder, BEST):
            if other != path:
                shutil.rmtree(other, ignore_errors=True)
    return path


def _write(folder: Path, name: str, parts: Mapping[str, Any], facts: Mapping[str, Any], rows: int) -> Path:
    final, beside = folder / name, folder / f".{name}.{os.getpid()}.part"
    manifest: dict[str, Any] = {"format": FORMAT, **facts, "files": {}}
    try:
        shutil.rmtree(beside, ignore_errors=True)  # a killed process may have had our number (in containers)
        beside.mkdir(parents=True)
        for part, tree in parts.items():
            leaves = jax.tree.leaves(jax.device_get(plain(tree)))
            # Rows that were never written hold nothing.
            kept = [leaf[:rows] for leaf in leaves] if part == "replay" else leaves
            size, digest = arrays.write(beside / f"{part}.eqx", kept)
            manifest["files"][part] = {"sha256": digest, "bytes": size, "leaves": _leaf_table(tree)}
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1))
        _sync(beside / "manifest.json")
        _sync(beside)
        if final.exists():
            os.replace(final, folder / f".{name}.{os.getpid()}.old.part")
        os.replace(beside, final)
        _sync(folder)
    except OSError as error:
        kept_numbers = numbers(folder)
        raise CheckpointError(
            f"The checkpoint {final} cannot be written: {error.strerror or error}.",
            mend="Free space or make the directory writable, then continue with --resume. "
            + (
                f"The last complete checkpoint is {kept_numbers[-1]:09d}."
                if kept_numbers
                else "There is no earlier checkpoint."
            ),
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def numbers(folder: Path) -> list[int]:
    """The checkpoints in a folder, oldest first; unfinished ones are hidden and do not count."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())


def _named(folder: Path, kind: str) -> list[Path]:
    """Policies of a kind, oldest first."""
    return sorted(p for p in folder.glob(f"{kind}-*") if p.name.partition("-")[2].isdecimal() and p.is_dir())


def policies(folder: Path) -> dict[str, Path]:
    """Every policy in a folder by the word that asks for it: numbers, oldest first, and `best`."""
    found = {str(int(p.name.partition("-")[2])): p for p in _named(folder, KEPT)}
    found |= {str(number): folder / f"{number:09d}" for number in numbers(folder)}
    found = dict(sorted(found.items(), key=lambda item: int(item[0])))
    best = _named(folder, BEST)
    return found | ({BEST: best[-1]} if best else {})


def best_score(folder: Path) -> float:
    """The score of the best policy in a folder; -inf if there is none, or it cannot be read."""
    for path in reversed(_named(folder, BEST)):
        try:
            return float(read_manifest(path)["score"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            continue
    return float("-inf")


def policy_path(folder: Path, which: str) -> Path:
    """Where the policy is that `last`, `best` or a number of unrolls names. Raises: CheckpointError."""
    if which == "last":
        return latest(folder)
    known = policies(folder)
    if which not in known:
        raise CheckpointError(
            f"There is no policy {which!r} in {folder}.",
            mend=f"There are: last, {', '.join(known)}." if known else "The run ended before its first checkpoint.",
        )
    return known[which]


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
    """The manifest of a checkpoint. Raises: CheckpointError if it is missing, damaged or of an unknown format."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        version = manifest["format"]
        known = type(version) is int and version in REQUIRED_FILES and type(manifest["unrolls"]) is int
        files = manifest["files"]
        needed = REQUIRED_FILES.get(version, ()) if known else ()
        complete = all(name in files for name in needed)
        for facts in files.values():
            complete &= isinstance(facts["sha256"], str) and type(facts["bytes"]) is int
            if not all(len(row) == 3 for row in facts["leaves"]):
                raise ValueError("its list of arrays is malformed")
        if not complete:
            raise ValueError("its list of files is malformed")
    # RecursionError: brackets a thousand deep.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its manifest.json cannot be read ({type(error).__name__}: {error})") from None
    if not known:
        raise CheckpointError(
            f"The checkpoint {path} has format {version!r}; this version reads {FORMAT}.",
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


def _load_file(path: Path, name: str, like: Any, manifest: Mapping[str, Any], rows: int | None = None) -> Any:
    """A part of a checkpoint; of the replay so many rows, the others are zero."""
    if name not in manifest["files"]:
        raise damaged(path, f"its manifest.json does not mention {name}.eqx")
    file, facts = path / f"{name}.eqx", manifest["files"][name]
    shapes = jax.eval_shape(plain, like)
    if facts["leaves"] != _leaf_table(like):
        raise _wrong_shapes(path, facts["leaves"], _leaf_table(like))
    if not file.is_file():
        raise damaged(path, f"{file.name} is missing")
    if file.stat().st_size != facts["bytes"]:
        raise damaged(path, f"{file.name} has {file.stat().st_size} bytes instead of {facts['bytes']}")
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != facts["sha256"]:
            raise damaged(path, f"the content of {file.name} does not match its checksum")
    leaves, structure = jax.tree.flatten(shapes)
    try:
        read = arrays.read(file, [(leaf.shape, leaf.dtype) for leaf in leaves], rows)
    except (OSError, ValueError) as error:
        raise damaged(path, f"{file.name} cannot be read ({error})") from error
    found = jax.tree.unflatten(structure, read)
    return jax.tree.map(
        lambda p, leaf: jax.random.wrap_key_data(jnp.asarray(p)) if _is_key(leaf) else jnp.asarray(p), found, like
    )


def _wrong_shapes(path: Path, found: list[Any], expected: list[Any]) -> CheckpointError:
    other = next(
        (f"{f[0]} is {f[2]}{f[1]}, expected {e[2]}{e[1]}" for f, e in zip(found, expected, strict=False) if f != e),
        f"{len(found)} arrays, expected {len(expected)}",
    )
    return CheckpointError(
        f"The checkpoint {path} does not fit the configuration of its run: {other}.",
        mend="config.toml was edited, or eqcrl or a plugin is another version; restore what the run was started with.",
    )


def load(path: Path, like: TrainState) -> TrainState:
    """The whole state; `like` gives its structure and shapes (as from `jax.eval_shape`).

    A replay that was not saved is empty. Raises: CheckpointError if anything is missing, truncated, edited, or of other
    shapes.
    """
    manifest = read_manifest(path)
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has format {manifest['format']}: an earlier version of eqcrl made it, and its "
            "training cannot go on in this one.",
            mend="Its policy can be used (eval, render, plot, export); train on with the version in header.json.",
        )
    shapes = _split(like)
    agent = _load_file(path, "agent", shapes["agent"], manifest)
    env, key, unrolls, inserted = _load_file(path, "rest", shapes["rest"], manifest)
    if int(unrolls) != manifest["unrolls"]:
        raise damaged(path, "its manifest.json was edited")
    capacity, rows = like.replay.last.shape[0], manifest.get("rows")
    if rows is None:
        return TrainState(agent, _empty(like.replay), env, key, unrolls)
    if rows != min(int(inserted), capacity):
        written = int(inserted)
        raise damaged(path, f"its manifest.json was edited: {rows!r} rows of the replay where {written} were written")
    data, last = _load_file(path, "replay", shapes["replay"], manifest, rows)
    return TrainState(agent, Replay(data, last, inserted), env, key, unrolls)


def _empty(like: Replay) -> Replay:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


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
        found, structure = jax.tree.flatten(plain(state))
        rows.append(jax.device_get(found))
    leaves = []
    for i, is_key in enumerate(keys):
        leaf = jnp.asarray(np.stack([row[i] for row in rows]))
        leaves.append(jax.random.wrap_key_data(leaf) if is_key else leaf)
        for row in rows:
            row[i] = None
    return jax.tree.unflatten(structure, leaves)


def nbytes(shapes: Any) -> int:
    """Bytes of all arrays of a tree of arrays or shapes."""
    leaves = jax.tree.leaves(jax.eval_shape(plain, shapes))
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
