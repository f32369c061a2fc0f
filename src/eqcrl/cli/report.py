"""`eqcrl report`: one self-contained page about runs and studies."""

from pathlib import Path

import click


@click.command()
@click.argument("sources", metavar="RUN|STUDY...", nargs=-1, required=True)
@click.option("--out", metavar="FILE", default="report.html", show_default=True, help="HTML file to write.")
@click.option("--title", help="Heading of the page; by default what it is about.")
@click.option(
    "--media-limit",
    metavar="MB",
    type=click.FloatRange(min=0),
    default=40.0,
    show_default=True,
    help="How much of the runs' pictures and films is taken up; the page says what was left out.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is no report.")
def report(sources: tuple[str, ...], out: str, title: str | None, media_limit: float, force: bool) -> None:
    """Write one page about runs, folders of runs, and studies.

    The page needs no network and no file beside it: tables with intervals, learning curves, films, versions, what
    differs between the configurations, and what failed and why. A folder is searched two levels deep. Runs that are
    broken or unfinished are told in the page, and the rest is reported.

    \b
    Examples:
      eqcrl report runs/first
      eqcrl report runs --out all.html
    """
    from eqcrl.report.collect import collect
    from eqcrl.report.page import make_page
    from eqcrl.report.write import check_out, write_page

    check_out(Path(out), force=force)
    page = make_page(collect([Path(s) for s in sources]), title=title, media_limit=round(media_limit * 1e6))
    write_page(page, Path(out))
    click.echo(f"{_count(len(page.runs), 'run')} of {_count(page.num_settings(), 'setting')}")
    for trouble in page.troubles:
        click.echo(f"{trouble.kind}: {trouble.where}: {' '.join(trouble.reason.split())}", err=True)
    click.echo(out)


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
