"""What a report is asked to be about: run directories, folders of them, and studies, each found once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eqcrl.errors import UsageError

SEARCHED_LEVELS = 2
"""So deep runs are searched for in a folder: `runs/NAME`, and the seeds in it, `runs/NAME/seed0`."""
RUN_FILES = ("config.toml", "metrics.jsonl", "header.json")
"""Any of them makes a directory a run, perhaps a broken one."""
STUDY_FILE = "study.toml"


@dataclass(frozen=True)
class Found:
    """Directories in the order in which they were given or, within a folder, of their names."""

    runs: list[Path] = field(default_factory=list)
    studies: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    """Runs and studies that were met a second time."""


def is_run(path: Path) -> bool:
    """Whether a run was written here, whatever became of it."""
    return any((path / name).is_file() for name in RUN_FILES)


def find(sources: Sequence[Path]) -> Found:
    """The runs and studies that the sources name or hold.

    A run inside a study counts as part of the study. Raises: UsageError for no sources, or one that does not exist,
    cannot be read, or holds neither run nor study.
    """
    if not sources:
        raise UsageError("There is nothing to report on.", mend="Give at least one run directory, folder or study.")
    found, seen = Found(), set[Path]()
    for source in sources:
        if not source.is_dir():
            raise UsageError(
                f"{source} {'is not a directory' if source.exists() else 'does not exist'}.",
                mend="Give run directories that `eqcrl train` wrote, folders of them, or studies.",
            )
        held = list(within(source))
        if not held:
            raise UsageError(
                f"{source} holds no run and no study: no {', '.join(RUN_FILES)} or {STUDY_FILE} in it or "
                f"{SEARCHED_LEVELS} levels below.",
                mend="Give run directories that `eqcrl train` wrote, folders of them, or studies.",
            )
        for path in held:
            kind = found.studies if (path / STUDY_FILE).is_file() else found.runs
            (found.repeated if path.resolve() in seen else kind).append(path)
            seen.add(path.resolve())
    return found


def within(folder: Path, levels: int = SEARCHED_LEVELS) -> Iterator[Path]:
    """The folder itself if it is a run or a study, else those up to so many levels below it.

    Raises: UsageError if a folder cannot be read.
    """
    if (folder / STUDY_FILE).is_file() or is_run(folder):
        yield folder
    elif levels and folder.is_dir():
        try:
            inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be read: {error.strerror or error}.", mend="Make it readable, or leave it out."
            ) from None
        for path in inner:
            yield from within(path, levels - 1)
