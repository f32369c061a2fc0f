"""What README and docs say is tried: Python is executed, shell lines meet the real command line, links resolve."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import eqcrl
from eqcrl import epoch, estimate, registry
from eqcrl.assemble import complete
from eqcrl.cli.main import run as run_cli
from eqcrl.jobs import sizes
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.setting import Planned, Setting
from eqcrl.studies.folder import StudyFolder
from eqcrl.studies.grid import expand
from eqcrl.studies.source import Source
from eqcrl.sweeps.folder import SweepFolder
from eqcrl.sweeps.methods import Grid
from eqcrl.sweeps.source import Source as SweepSource
from helpers import keeping_compiled
from launchers.conftest import make_slurm

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

# A run small enough for every test to have its own; the documents call it by any name under runs/.
TINY = {
    "arch": "resnet-4", "arch.width": 8, "train.num_envs": 8, "train.unroll_length": 20, "train.batch_size": 16,
    "train.updates_per_epoch": 2, "train.total_env_steps": 640, "replay.min_filled": 20, "eval.num_envs": 4,
    "eval.every": 1,
}  # fmt: skip
# What a shell block may call beside eqcrl: recorded, not executed.
OTHER_PROGRAMS = ("python3", "python", "pip", "git", "pytest", "nox", "mkdocs", "nohup", "kill")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    return [b for b in _blocks(page) if not languages or b.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    fence, opened, language, inside = "", 0, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        mark = re.match(r"\s*(```+)\s*(\S*)", line)
        if not fence and mark:
            fence, language, opened, inside = mark[1], mark[2], number, []
        elif fence and line.strip() == fence:
            yield Block(page, opened, language, "".join(inside))
            fence = ""
        elif fence:
            inside.append(line)
    assert not fence, f"{page}:{opened}: the block is not closed"


def unfenced(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^(```+).*?^\1\s*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, *languages)]


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pages repeat each other's commands on one tiny run: their programs are compiled once, through JAX's cache."""
    with keeping_compiled(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run, trained once for this file."""
    path = tmp_path_factory.mktemp("docs") / "run"
    return eqcrl.fit(eqcrl.Config.load(overrides=TINY), path).directory.path


@pytest.fixture
def place(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a run in runs/first, where a reader of the quickstart stands."""
    monkeypatch.chdir(tmp_path)
    copy_run(tiny_run, tmp_path / "runs" / "first")
    return tmp_path


def copy_run(source: Path, target: Path) -> None:
    """A copy of a run; `depth16-seed3` in its name becomes its configuration, since plots tell runs by that."""
    if target.exists():
        return
    shutil.copytree(source, target)
    config = target / "config.toml"
    for setting, value in re.findall(r"(depth|seed)(\d+)", target.name):
        config.write_text(re.sub(rf"^{setting} = \d+$", f"{setting} = {value}", config.read_text(), flags=re.MULTILINE))


def checked_only(plan: Planned, settings: Sequence[Setting], **_: Any) -> tuple[Machine, dict[str, sizes.Sized]]:
    """The settings of a study, checked part by part and not sized: that takes a process and a second each."""
    for setting in settings:
        complete(setting.config)
    machine = Machine("a device", "cpu", None, None, (0,))
    return machine, {s.slug: sizes.Sized(s.slug, 1, 1, 1, 1, 1, None, ()) for s in settings}


def make_study(run: Path, folder: Path) -> None:
    """A study folder with a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    StudyFolder(folder).study_file.write_text('title = "Tiny"\nseeds = 1\n')
    copy_run(run, StudyFolder(folder).run("all", 0))


def make_sweep(run: Path, folder: Path) -> None:
    """A sweep folder with a finished run."""
    at = SweepFolder(folder)
    folder.mkdir(parents=True)
    at.sweep_file.write_text("[search]\narch.width = [8]\n")
    trial = Grid(at.sweep()).next(0)
    at.add(trial)
    copy_run(run, at.run(trial.name(), 0))


# ---------------------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_blocks_run_in_order(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one page they share a namespace, as in a session; a traceback points at the line of the page."""
    session = types.ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, session.__name__, session)
    for block in blocks(page, "python"):
        code = compile("\n" * block.line + block.text, str(page), "exec")
        exec(code, session.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """So that no example escapes: what is neither run nor parsed is called text."""
    for block in blocks(page):
        assert block.language in ("python", "sh", "toml", "text"), f"{block.place()}: ```{block.language}"


def test_the_quoted_epoch_is_the_real_one() -> None:
    (quote,) = [b for b in blocks(README, "text") if b.text.startswith("def epoch(")]
    assert quote.text.strip() == inspect.getsource(epoch.epoch).strip(), "README.md quotes another version of `epoch`"


# ----------------------------------------------------------------------------------------------------- shell


def shell(block: Block, folder: Path) -> list[list[str]]:
    """The commands that a block runs, as a real shell expands them; every program is a stub that takes notes."""
    stubs, notes = folder / ".stubs", folder / ".notes"
    stub = '#!/bin/sh\n{ printf "%s\\037" "${0##*/}" "$@"; printf "\\036"; } >> "$NOTES"\n'
    for path in [stubs / name for name in ("eqcrl", *OTHER_PROGRAMS)] + [
        folder / ".venv/bin" / name for name in ("eqcrl", "pip", "python", "activate")
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if path.name == "activate" else stub)
        path.chmod(0o755)
    for real in ("cat", "mkdir"):
        (stubs / real).unlink(missing_ok=True)
        (stubs / real).symlink_to(str(shutil.which(real)))
    notes.write_text("")
    done = subprocess.run(
        [str(shutil.which("sh")), "-eu", "-c", block.text],
        cwd=folder, env={"PATH": str(stubs), "NOTES": str(notes), "HOME": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.place()}: {done.stderr}"
    return [call.split("\037")[:-1] for call in notes.read_text().split("\036")[:-1]]


def runs_named_in(args: list[str]) -> list[str]:
    """Run directories that a command reads; the one after --out is what it makes."""
    return [a for before, a in zip(["", *args], args, strict=False) if a.startswith("runs/") and before != "--out"]


@pytest.mark.parametrize("page", pages_with("sh"), ids=name_of)
def test_shell_blocks_are_commands_that_exist(
    page: Path, place: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eqcrl train` up to its plan, every other command of eqcrl for real, on a tiny run."""
    # Timing steps of every network that the pages mention would take longer than all other tests of them.
    monkeypatch.setattr(estimate, "estimate", lambda *_: estimate.Estimate(1.0, 1.0))
    monkeypatch.setattr(sizes, "measure", checked_only)
    make_slurm(place, monkeypatch)
    tried = 0
    for block in blocks(page, "sh"):
        for program, *args in shell(block, place):
            if program != "eqcrl":
                continue
            tried += 1
            for run in runs_named_in(args):
                copy_run(tiny_run, place / run)
            if args[:2] == ["study", "report"]:
                make_study(tiny_run, place / args[2])
            shutil.rmtree(place / "sweeps", ignore_errors=True)
            if args[:1] == ["sweep"] and args[1] in ("status", "stop", "resume", "list"):
                make_sweep(tiny_run, place / (args[2] if len(args) > 2 else "sweeps/any"))
            begins = args[:1] == ["sweep"] and args[1].endswith(".toml")
            trains = args[:1] == ["train"] or args[:2] == ["study", "run"] or begins
            plan_only = ["--dry-run"] if trains and not {"--dry-run", "--help"} & set(args) else []
            # What a diagnosis tells of 1024 layers of 256 units has tests of its own.
            fresh = args[:1] == ["diagnose"] and "--run" not in args
            narrow = ["--arch.width", "8", "--train.batch-size", "8"] if fresh else []
            with pytest.raises(SystemExit) as ended:
                run_cli([*args, *plan_only, *narrow])
            said = capsys.readouterr()
            assert ended.value.code == 0, f"{block.place()}: eqcrl {' '.join(args)}\n{said.err}"
    written = [line for b in blocks(page, "sh") for line in b.text.splitlines() if line.startswith("eqcrl ")]
    assert tried or not written, "no command was recognized"


def test_readme_begins_with_the_main_job_and_the_tests() -> None:
    main, tests = blocks(README, "sh")[:2]
    assert main.text.strip().count("\n") == 0
    assert tests.text.strip().count("\n") == 0
    assert main.text.strip().endswith(".venv/bin/eqcrl train")
    assert "-m pytest" in tests.text


def test_ci_runs_the_tests_as_the_readme_says_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line.strip() for line in script if line.strip() and not line.startswith("#")]
    assert commands == [blocks(README, "sh")[1].text.strip()]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# ------------------------------------------------------------------------------------------------------ TOML


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_toml_blocks_mean_something(page: Path, tmp_path: Path) -> None:
    """A configuration loads, a study expands, a sweep is read; a pyproject.toml declares parts under known groups."""
    for number, block in enumerate(blocks(page, "toml")):
        tree = tomllib.loads(block.text)
        if "project" in tree:
            assert tree["project"].get("entry-points", {}).keys() <= set(registry.GROUPS.values()), block.place()
            continue
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        if "search" in tree:
            assert SweepSource(file).sweep().axes, block.place()
            continue
        if "title" in tree:
            assert expand(Source(file).study(None)), block.place()
            continue
        eqcrl.Config.load(file=file)


# ----------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", unfenced(page))):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        file = (page.parent / parts.path).resolve() if parts.path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if parts.fragment:
            assert parts.fragment in anchors(file), f"{name_of(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+\s+(.*)$", unfenced(page).replace("`", ""), flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    entries = re.findall(r"^\s+- .*?(\S+\.md)\s*$", text.partition("\nnav:")[2], flags=re.MULTILINE)
    assert sorted(entries) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


def test_pictures_are_small() -> None:
    pictures = sorted((DOCS / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < {".png": 150_000, ".gif": 500_000}[picture.suffix], picture.name


def test_every_command_is_documented() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    for entry in registry.entries("command"):
        if entry.distribution == "eqcrl":
            assert f"## `eqcrl {entry.name}`" in page


@pytest.mark.parametrize("kind", [k for k in registry.GROUPS if k != "command"])
def test_every_part_is_mentioned(kind: str) -> None:
    """A part that is in no page is one that nobody finds."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [e.name for e in registry.entries(kind) if e.distribution == "eqcrl" and f"`{e.name}`" not in text]
    assert not missing


def test_every_recorded_number_is_explained(tiny_run: Path) -> None:
    """The columns of metrics.jsonl, all of them, in the page that says what a run leaves behind."""
    page = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    record = json.loads((tiny_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert [key for key in record if f"`{key}`" not in page] == []
