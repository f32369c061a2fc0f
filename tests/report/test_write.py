"""The page as HTML: all that comes from runs is escaped, nothing is fetched, and no file of others is overwritten."""

import html
import re
from pathlib import Path

import pytest

from eqcrl.errors import UsageError
from eqcrl.report import figures, write, write_report
from helpers import snapshot
from report.runs import add_pictures, make_run, set_header

EVIL = "<script>alert('$x$')</script>"


@pytest.fixture(autouse=True)
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the learning curves one figure: pages with all of them are tested in a browser, and drawing takes time."""
    monkeypatch.setattr(figures, "CURVES", ())
    monkeypatch.setattr(figures, "AXES", {"env_steps": "environment steps"})


def written(tmp_path: Path, *sources: Path, **options: object) -> str:
    return write_report(list(sources), tmp_path / "out" / "report.html", **options).read_text(encoding="utf-8")


def test_names_and_values_are_text_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "<script>bad()<" / "x", env="point-maze", env__layout=EVIL)
    other = make_run(tmp_path / "<script>bad()<" / "y", env="point-maze", env__layout="u")
    set_header(run, argv=["eqcrl", EVIL], versions={EVIL: EVIL}, platform=EVIL, diverged={"message": EVIL})
    add_pictures(run)
    page = written(tmp_path, run, other, title=EVIL)
    assert "<script" not in page
    assert page.count(html.escape(EVIL).replace("&#x27;", "&#39;")) > 8
    assert "&lt;script&gt;bad()&lt;" in page


def test_nothing_is_fetched(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_pictures(run)
    page = written(tmp_path, run)
    addresses = re.findall(r"""\s(?:src|href|srcset|action|poster|data)="([^"]*)\"""", page)
    assert {a.partition(":")[0] if not a.startswith("#") else "#" for a in addresses} == {"data", "#"}
    assert "url(" not in page.partition("</style>")[0]
    assert "@import" not in page
    assert "default-src 'none'" in page
    anchors = {a[1:] for a in addresses if a.startswith("#")}
    assert anchors <= set(re.findall(r'\sid="([^"]*)"', page))
    assert page.count("data:image/svg+xml") == 1
    assert page.count("data:image/gif") == 1


def test_what_failed_is_told_with_its_reason(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "good")
    (make_run(tmp_path / "runs" / "bad", seed=1) / "config.toml").write_text("[arch\n")
    make_run(tmp_path / "runs" / "half", seed=2, until=500)
    page = written(tmp_path, tmp_path / "runs")
    assert '<b class="bad">2</b> failed or incomplete' in page
    assert "500 of 1,000 environment steps" in page
    assert "1 unfinished, not counted" in page
    assert "one seed, no interval" in page
    whole = written(tmp_path, tmp_path / "runs" / "good")
    assert "nothing failed" in whole
    assert "Nothing: every run that was found is finished" in whole


def test_a_page_of_broken_runs_alone_says_so(tmp_path: Path) -> None:
    (make_run(tmp_path / "bad") / "config.toml").write_text("[arch\n")
    page = written(tmp_path, tmp_path / "bad")
    assert "No run could be read." in page
    assert "is not valid TOML" in page


def test_configurations_are_whole_and_differences_marked(tmp_path: Path) -> None:
    for depth in (4, 8):
        make_run(tmp_path / "runs" / str(depth), arch__depth=depth)
    page = written(tmp_path, tmp_path / "runs")
    assert page.count('<details class="configuration">') == 2
    for text in ("<mark>4</mark>", "<mark>8</mark>", "train.total_env_steps"):
        assert text in page
    assert "<mark>1000</mark>" not in page


def test_several_environments_are_apart_and_compared(tmp_path: Path) -> None:
    for env in ("point-u-maze", "point-big-maze"):
        for seed in (0, 1):
            for depth in (4, 8):
                make_run(tmp_path / "runs" / f"{env}{depth}{seed}", env=env, arch__depth=depth, seed=seed)
    page = written(tmp_path, tmp_path / "runs")
    headings = re.findall(r'<h3 id="([^"]*)">([^<]*)<', page)
    assert headings[:3] == [
        ("part-1-env-1", "point-big-maze"), ("part-1-env-2", "point-u-maze"), ("part-1-compared", "Settings compared")
    ]  # fmt: skip
    assert "over all 2 environments" in page
    columns = "".join(
        f'<th scope="col" class="num">{c}</th>' for c in ("point-big-maze", "point-u-maze", "all together")
    )
    assert columns in page
    assert len(re.findall(r'<input type="radio"', page)) == 2


def test_pictures_that_do_not_fit_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_pictures(run)
    page = written(tmp_path, run, media_limit=0)
    assert "data:image/gif" not in page
    for name in ("trajectories.png", "learning_curve.png", "policy.gif"):
        assert name in page
    assert page.count("left out</span>") == 3
    assert "nothing failed" in page


def test_only_our_own_pages_are_overwritten(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run"), tmp_path / "report.html"
    out.write_text("<p>my notes")
    with pytest.raises(UsageError, match=r"exists and is no report of eqcrl\.\n.*--force"):
        write_report([run], out)
    assert out.read_text() == "<p>my notes"
    write_report([run], out, force=True)
    assert write.GENERATOR in out.read_text()
    assert "second time" in write_report([run], out, title="second time").read_text()


def test_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "folder.html").mkdir()
    before = snapshot(tmp_path)
    for sources, out, message in (
        ([run], "report.pdf", r"report\.pdf.*\n.*\.html"),
        ([run], "folder.html", "is a directory"),
        ([tmp_path / "gone"], "report.html", "gone does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            write_report(sources, tmp_path / out)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("value", "beside", "text"),
    [(0.12345, 0.5, "0.123"), (4.719, 12.2, "4.7"), (1234.5, 1234.5, "1,234"), (-3.0, -3.0, "-3.000")],
)
def test_numbers_have_the_digits_of_their_cell(value: float, beside: float, text: str) -> None:
    assert write.number(value, beside) == text


def test_durations_and_steps() -> None:
    assert (write.duration(1.5), write.steps(250000.0), write.steps(None)) == ("1:30:00", "250,000", "0")
