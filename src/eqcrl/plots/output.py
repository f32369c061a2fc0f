"""Pictures reach the disk whole or not at all."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from eqcrl.errors import RunError, UsageError

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_suffix(path: Path, known: Iterable[str], what: str) -> str:
    """The suffix of the path in lower case. Raises: UsageError if it is not one of the known."""
    known = tuple(known)
    if path.suffix.lower() not in known:
        raise UsageError(
            f"A {what} cannot be written as {str(path)!r}: {path.suffix or 'no suffix'} is no format for it.",
            mend=f"Give the file the suffix {' or '.join(known)}.",
        )
    return path.suffix.lower()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved onto `path` at the end, removed if anything fails.

    The folder is created. Raises: RunError for whatever the disk refuses; an earlier file is then intact.
    """
    # Not `tempfile`: its files are readable by their owner only, and the move would keep that.
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}.",
            mend="Choose a folder that can be written to and has space left.",
        ) from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix. Raises: UsageError, RunError."""
    suffix = check_suffix(path, FIGURE_SUFFIXES, "figure")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=suffix[1:])
