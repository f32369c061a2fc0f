"""Files of arrays one behind the other in NumPy's format: written with their checksum, read without trusting them."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Written and hashed in pieces of so many bytes.
PIECE = 1 << 24
# What a header may take: ours take 128.
LONGEST_HEADER = 4096


def write(path: Path, leaves: Iterable[np.ndarray | np.generic]) -> tuple[int, str]:
    """Write arrays and flush them to the disk; the file's size in bytes and its SHA-256 in hexadecimal.

    Raises: OSError.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:

        def put(piece: bytes | memoryview) -> None:
            nonlocal size
            digest.update(piece)
            file.write(piece)
            size += len(piece)

        for leaf in leaves:
            array = np.ascontiguousarray(leaf).reshape(np.shape(leaf))
            put(_header(array.shape, _stored(array.dtype)))
            content = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
            for start in range(0, len(content), PIECE):
                put(content[start : start + PIECE])
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def read(path: Path, expected: Sequence[tuple[tuple[int, ...], Any]], rows: int | None = None) -> list[np.ndarray]:
    """Arrays of the expected shapes and types; nothing is allocated for what a file claims to hold.

    With `rows`, of each array the first so many rows are in the file, and the others are zero.
    Raises: ValueError if the file holds something else; OSError.
    """
    found = []
    with path.open("rb") as file:
        for shape, dtype in expected:
            dtype = np.dtype(dtype)
            stored = shape if rows is None else (min(rows, shape[0]), *shape[1:])
            _expect(file, stored, _stored(dtype))
            array = np.zeros(shape, dtype) if rows is not None else np.empty(shape, dtype)
            wanted = int(np.prod(stored, dtype=np.int64)) * dtype.itemsize
            if wanted:
                into = array.reshape(-1).view(np.uint8).data[:wanted]
                if file.readinto(into) != wanted:  # type: ignore[attr-defined]
                    raise ValueError("it ends too early")
            found.append(array)
        if file.read(1):
            raise ValueError("there is more in it than there should be")
    return found


def _stored(dtype: np.dtype) -> np.dtype:
    """The type in the file: NumPy has no name of its own for types such as bfloat16, so their bits stand there."""
    return np.dtype(f"<u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        text, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return text.getvalue()


def _expect(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    try:
        version = np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file, max_header_size=LONGEST_HEADER)
    except Exception as error:  # NumPy reads a header as Python does, with as many ways to fail
        raise ValueError(f"the header of an array is damaged: {type(error).__name__}") from None
    if version != (1, 0) or found != (shape, False, dtype):
        raise ValueError(f"it holds {found[2]}{list(found[0])} where {dtype}{list(shape)} is expected")
