"""Pictures on the disk."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from eqcrl.errors import UsageError
from eqcrl.files import atomic

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


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix. Raises: UsageError, RunError."""
    suffix = check_suffix(path, FIGURE_SUFFIXES, "figure")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=suffix[1:])
