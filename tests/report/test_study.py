"""A study in a report: its own figures, settings by its axes, and every run that is missing, dead or broken."""

import json
from pathlib import Path

import pytest

from eqcrl.jobs.runs import last_unroll
from eqcrl.report import figures
from eqcrl.report.collect import Collected, collect
from eqcrl.report.page import Page, make_page
from eqcrl.report.write import render
from eqcrl.rundir import RunDir
from eqcrl.studies.folder import StudyFolder, open_study
from report.runs import HEADER, make_run, record

STUDY = """
title = "Score against depth"
question = "Does <depth> help?"
seeds = 2
budget = 1000

[settings]
train.num_envs = 4
train.unroll_length = 10
train.batch_size = 8
replay.min_filled = 20

[axes]
env = ["point-u-maze", "point-big-maze"]
arch = ["resnet-4", "resnet-8"]

[[evaluations]]
label = "elsewhere"
env = "point-hardest-maze"

[[figures]]
kind = "score"
x = "arch.depth"
lines = "env"
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Eight runs: one died, one is unfinished, one is broken, one has not begun, and the others are done."""
    path = tmp_path / "depth"
    path.mkdir()
    (path / "study.toml").write_text(STUDY)
    folder = StudyFolder(path)
    for i, run in enumerate(open_study(path).runs):
        if i == 7:
            continue
        config = run.setting.config.replace(seed=run.seed)
        directory = RunDir.create(run.path, config, HEADER)
        until = 500 if i in (4, 5) else 1000
        for steps in range(250, until + 1, 250):
            directory.append_metrics(record(steps, 0.1 * i))
        if until == 1000:
            (directory.checkpoints / f"{last_unroll(config):09d}").mkdir()
        if i == 4:
            folder.failure(run.slug(), run.seed).parent.mkdir(parents=True, exist_ok=True)
            folder.failure(run.slug(), run.seed).write_text("Killed by signal 9: out of <memory>?")
        if i == 6:
            directory.metrics_file.write_text("no\n")
    return path


def page_of(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setattr(figures, "CURVES", ())
    monkeypatch.setattr(figures, "AXES", {"env_steps": "environment steps"})
    return make_page(collected, title=None, media_limit=0)


def test_a_study_is_a_chapter_of_its_own(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = make_run(tmp_path / "lone")
    page = page_of(collect([study, lone]), monkeypatch)
    first, second = page.sections
    assert (first.title, first.question, second.title) == ("Score against depth", "Does <depth> help?", "Runs")
    assert page.title == "Score against depth; Runs"
    assert [(p.label, [r.setting.label for r in p.rows]) for p in first.places] == [
        ("point-u-maze", ["resnet-4", "resnet-8"]), ("point-big-maze", ["resnet-4", "resnet-8"])
    ]  # fmt: skip
    assert any("against depth" in getattr(picture, "caption", "") for picture in first.overview)
    html = render(page)
    assert "Does &lt;depth&gt; help?" in html
    assert "out of &lt;memory&gt;?" in html


def test_what_is_missing_dead_or_broken_is_told(study: Path) -> None:
    collected = collect([study])
    found = {(t.kind, Path(t.where).parent.name + "/" + Path(t.where).name): t.reason for t in collected.troubles}
    kinds = sorted(kind for kind, _ in found)
    assert kinds == ["broken", "dead", "not run", "unfinished"]
    dead = next(reason for (kind, _), reason in found.items() if kind == "dead")
    assert dead.startswith("Killed by signal 9")
    assert len(collected.runs()) == 6
    assert [run.died for run in collected.runs() if run.died] == ["Killed by signal 9: out of <memory>?"]


def test_further_evaluations_are_in_the_table(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_study(study).runs[0]
    file = StudyFolder(study).evaluated(run.slug(), run.seed)
    file.parent.mkdir(parents=True)
    of = ["point-hardest-maze", {}]
    file.write_text(json.dumps({"elsewhere": {"of": of, "scores": {"eval/success_any": 0.25}}}))
    page = page_of(collect([study]), monkeypatch)
    place = page.sections[0].places[0]
    assert place.further == ["elsewhere"]
    it = place.rows[0].further["elsewhere"]
    assert it is not None
    assert (it.value, it.low) == (0.25, None)
    assert "Further evaluations of the finished policies" in render(page)


def test_a_broken_study_file_leaves_its_runs(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study / "study.toml").write_text("titel = 3\n")
    collected = collect([study])
    (trouble,) = [t for t in collected.troubles if t.where == str(study)]
    assert trouble.kind == "broken"
    assert "titel" in trouble.reason
    assert {run.config.env.name for run in collected.runs()} == {"point-u-maze", "point-big-maze"}
    assert page_of(collected, monkeypatch).sections[0].title == "Runs"


def test_a_run_of_a_study_that_is_given_too_counts_there(study: Path) -> None:
    run = open_study(study).runs[0].path
    collected = collect([run, study])
    assert len(collected.chapters) == 1
    assert [t.where for t in collected.troubles if t.kind == "given twice"] == [str(run)]


def test_a_study_without_a_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "depth"
    path.mkdir()
    (path / "study.toml").write_text(STUDY)
    page = page_of(collect([path]), monkeypatch)
    assert {t.kind for t in page.troubles} == {"not run"}
    assert len(page.troubles) == 8
    assert "No run of it can be shown" in render(page)


def test_a_figure_that_fails_costs_only_itself(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (study / "study.toml").read_text()
    (study / "study.toml").write_text(text.replace('x = "arch.depth"', 'x = "energy"'))
    page = page_of(collect([study]), monkeypatch)
    (trouble,) = [t for t in page.troubles if t.kind == "not drawn"]
    assert trouble.where == str(study)
    assert "only numbers make an axis" in trouble.reason
    assert page.sections[0].places
