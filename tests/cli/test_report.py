"""`eqcrl report`: a page of really trained runs, opened in a browser, and what it does with bad input."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Command
from helpers import assert_message, copy_run, snapshot
from scene.browser import Seen, chromium, visit

EVIL = "<script>alert(1)</script>"
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
SCROLLS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BROKEN_PICTURES = """Promise.all([...document.images].map(i => i.decode().then(() => '', () => i.alt))).then(
    all => [document.images.length, all.filter(a => a)])"""
OUTSIDE = """[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.wide, pre')
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
SHOWN_PANELS = "[...document.querySelectorAll('#TABS .panel')].map(p => getComputedStyle(p).display != 'none')"


@pytest.fixture(scope="module")
def folder(finished_of: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of depth 4 and what stands for a run of depth 8, and one in another maze; four that are in trouble."""
    runs = tmp_path_factory.mktemp("report") / "runs"
    for seed in (0, 1):
        copy_run(finished_of(seed), runs / f"shallow-{seed}")
    for name, old, new in (
        ("deep", "depth = 4", "depth = 8"),
        ("elsewhere", 'name = "point-u-maze"', 'name = "point-big-maze"'),
        (f"half {EVIL[:8]}", "seed = 0", "seed = 2"),
        ("broken", "depth = 4", "depht = ["),
        ("headless", "seed = 0", "seed = 3"),
        ("early", "seed = 0", "seed = 4"),
    ):
        run = copy_run(finished_of(0), runs / name)
        config = run / "config.toml"
        assert config.read_text().count(old) == 1
        config.write_text(config.read_text().replace(old, new))
    half, early = runs / f"half {EVIL[:8]}" / "metrics.jsonl", runs / "early" / "metrics.jsonl"
    half.write_text("".join(half.read_text().splitlines(keepends=True)[:20]))
    early.unlink()
    (runs / "headless" / "header.json").unlink()
    return runs


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about all of them."""
    from eqcrl.report import write_report

    return write_report([folder], tmp_path_factory.mktemp("page") / "report.html", title=EVIL)


def opened(page: Path, profile: Path, size: tuple[int, int], ask: dict[str, str]) -> Seen | None:
    """What a browser shows, None without one."""
    program = chromium()
    if program is None:
        return None
    seen = visit(program, page, profile, lambda pictures: len(pictures) > 1, size=size, ask=ask)
    assert seen.errors == []
    assert {url.partition(":")[0] for url in seen.requests} <= {"file", "data"}
    assert [url for url in seen.requests if url.startswith("file:")] == [page.as_uri()]
    return seen


def test_a_wide_window_shows_everything(page: Path, tmp_path: Path) -> None:
    """In headless Chromium without any network; where there is none, the page's text is all that can be tested."""
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count('<table class="scores">') == 2
    tabs = "[name=part-1-env-1-curve-1]"
    panels = SHOWN_PANELS.replace("#TABS", f".tabs:has({tabs})")
    seen = opened(page, tmp_path / "profile", (1280, 900), {
        "headings": "[...document.querySelectorAll('h2')].map(h => h.firstChild.textContent)",
        "places": "[...document.querySelectorAll('h3[id*=env]')].map(h => h.firstChild.textContent)",
        "scores": "[...document.querySelectorAll('table.scores tbody th')].map(h => h.textContent.trim())",
        "intervals": "[...document.querySelectorAll('.scores td:nth-of-type(2) .interval')].map(e => e.textContent)",
        "troubles": "[...document.querySelectorAll('table.troubles .badge')].map(b => b.textContent)",
        "marked": "[...document.querySelectorAll('mark')].map(m => m.textContent)",
        "before": panels,
        "click": f"document.querySelectorAll('{tabs}')[2].click()",
        "after": panels,
        "beside": "document.querySelector('nav').getBoundingClientRect().right"
        " <= document.querySelector('main').getBoundingClientRect().left",
        "open": OPEN_ALL,
        "pictures": BROKEN_PICTURES,
        "scrolls": SCROLLS,
    })  # fmt: skip
    if seen is None:
        return
    answers = seen.answers
    assert seen.title == EVIL
    assert answers["headings"] == ["Runs", "What failed, and remarks", "What was run", "Versions", "How to read this"]
    assert answers["places"] == ["point-u-maze", "point-big-maze"]
    assert answers["scores"] == ["arch.depth=4", "arch.depth=8", "arch.depth=4"]
    assert [text == "one seed, no interval" for text in answers["intervals"]] == [False, True, True]
    assert sorted(answers["troubles"]) == ["broken", "incomplete", "no evaluation", "unfinished"]
    assert {"8", "point-big-maze"} <= set(answers["marked"])
    assert answers["before"] == [True, False, False]
    assert answers["after"] == [False, False, True]
    assert answers["beside"]
    count, broken = answers["pictures"]
    assert broken == []
    assert count > 2 * 9 + 4
    assert answers["scrolls"] == 0
    assert len(np.unique(seen.pictures[-1].reshape(-1, 3), axis=0)) > 100


def test_a_narrow_window_scrolls_in_one_direction(page: Path, tmp_path: Path) -> None:
    ask = {"open": OPEN_ALL, "pictures": BROKEN_PICTURES, "scrolls": SCROLLS, "outside": OUTSIDE}
    seen = opened(page, tmp_path / "profile", (360, 740), ask)
    if seen is not None:
        assert seen.answers["scrolls"] == 0
        assert seen.answers["outside"] == []
        assert seen.answers["pictures"][1] == []


def test_the_command_says_what_it_wrote_and_what_is_wrong(eqcrl: Command, folder: Path, tmp_path: Path) -> None:
    answer = eqcrl("report", folder / "shallow-0", folder / "deep", folder / "broken")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["2 runs of 2 settings", "report.html"]
    assert answer.err.startswith(f"broken: {folder / 'broken'}: ")
    assert "Traceback" not in answer.err
    assert "nothing failed" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_what_is_refused(eqcrl: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = snapshot(tmp_path)
    run = folder / "shallow-0"
    for args, parts in (
        (["gone"], ("gone does not exist", "eqcrl train")),
        (["empty"], ("empty holds no run and no study",)),
        ([run, "--out", "notes.html"], ("notes.html exists and is no report of eqcrl.", "--force")),
        ([run, "--out", "report.txt"], ("report.txt", ".html")),
    ):
        answer = eqcrl("report", *args)
        assert answer.code == 2
        assert_message(answer.err, *parts)
    assert eqcrl("report").code == 2
    assert eqcrl("report", run, "--media-limit", "-1").code == 2
    assert snapshot(tmp_path) == before
