"""The page as HTML: everything that comes from runs is escaped, and nothing is fetched."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path

import jinja2

from eqcrl import __version__, statistics
from eqcrl.errors import UsageError
from eqcrl.files import write_atomically, writing
from eqcrl.plots.output import check_suffix
from eqcrl.report.collect import collect
from eqcrl.report.facts import minute, texts
from eqcrl.report.page import Page, make_page
from eqcrl.rundir import timestamp

GENERATOR = '<meta name="generator" content="eqcrl report'
"""By this a page is known as ours, and may be written again."""
HEAD = 4000
"""Bytes at the beginning of a file in which it stands."""
MEDIA_LIMIT = 40_000_000
"""Bytes of pictures and films that a page takes up, if not said otherwise."""


def write_report(
    sources: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    media_limit: int = MEDIA_LIMIT,
    force: bool = False,
) -> Path:
    """Write one self-contained page about runs, folders of runs and studies.

    What is broken in them is told in the page. `media_limit` bounds the bytes of pictures and films that the runs left.
    Raises: UsageError for a source that does not exist or holds nothing, and an `out` that is not .html or is a file
    that is no report (unless `force`); RunError if the disk refuses.
    """
    check_out(out, force=force)
    page = make_page(collect(sources), title=title, media_limit=media_limit)
    write_page(page, out)
    return out


def check_out(out: Path, *, force: bool = False) -> None:
    """Raises: UsageError if the report cannot or should not be written there."""
    check_suffix(out, (".html",), "report")
    if out.is_dir():
        raise UsageError(f"{out} is a directory.", mend="Choose another --out.")
    if out.exists() and not force and not _is_report(out):
        raise UsageError(
            f"{out} exists and is no report of eqcrl.", mend="Choose another --out, or overwrite it with --force."
        )


def _is_report(path: Path) -> bool:
    with writing(path), path.open("rb") as file:
        return GENERATOR.encode() in file.read(HEAD)


def write_page(page: Page, out: Path) -> None:
    """Write the page whole or not at all. Raises: RunError."""
    write_atomically(out, render(page))


def render(page: Page) -> str:
    """The page as HTML."""
    template = _templates().get_template("page.html")
    return template.render(page=page, made=minute(timestamp()), version=__version__, last=statistics.LAST)


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("eqcrl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "duration": duration, "steps": steps, "texts": texts}
    return templates


def number(value: float, beside: float) -> str:
    """A score with as many digits as the one `beside` which it stands should have."""
    if abs(beside) < 10:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(beside) < 1000 else f"{value:,.0f}"


def steps(value: float | None) -> str:
    """Such as `250,000`."""
    return f"{value or 0:,.0f}"


def duration(hours: float) -> str:
    """Such as `1:04:09`, hours, minutes and seconds."""
    return str(timedelta(seconds=round(3600 * hours)))
