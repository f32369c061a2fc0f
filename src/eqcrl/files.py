"""Files reach the disk whole or not at all: written beside, flushed, renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eqcrl.errors import RunError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError inside the block into a RunError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot write {error.filename or path}: {error.strerror or error}.",
            mend="Free space, or choose a place that can be written to. What was saved before is intact.",
        ) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved onto `path` at the end, removed if anything fails.

    The folder is created. Raises: RunError for whatever the disk refuses; an earlier file is then intact.
    """
    # Not `tempfile`: its files are readable by their owner only, and the move would keep that.
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                os.replace(temporary, path)
            except OSError as error:
                # The person asked for `path` and never heard of the temporary file.
                error.filename = str(path)
                raise
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str) -> None:
    """Write text, flushed to the disk before the old file is exchanged. Raises: RunError."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
