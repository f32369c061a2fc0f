"""Figures and tables of a study, drawn from real runs, some of which are missing."""

from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from eqcrl.studies.figures import draw
from eqcrl.studies.folder import StudyFolder, open_study
from eqcrl.studies.scores import finished, grouped
from eqcrl.studies.tables import as_json, print_result

KINDS = {
    "score": 'x = "arch.depth"',
    "curves": 'lines = "arch"',
    "bars": "",
    "heatmap": 'x = "arch.depth"\ny = "agent.critic_rate"',
    "profiles": 'where = { arch.depth = 4 }',
    "evaluations": 'x = "arch.depth"\nwhere = { agent.critic_rate = 3e-4 }',
    "q-map": 'lines = "arch.depth"\nwhere = { arch.depth = 4, agent.critic_rate = 3e-4 }',
    "embeddings": 'lines = "arch.depth"\nwhere = { arch.depth = 4, agent.critic_rate = 3e-4 }',
    "residual-norms": 'lines = "arch.depth"\nwhere = { arch.depth = 4, agent.critic_rate = 3e-4 }',
}  # fmt: skip


def with_figures(study: Path, *figures: str) -> Path:
    """The same study with other figures."""
    file = StudyFolder(study).study_file
    text = file.read_text().replace("figures = []\n", "")
    file.write_text("figures = [\n" + "".join(f"    {{ {f} }},\n" for f in figures) + "]\n" + text)
    return study


def figure(kind: str, more: str) -> str:
    return ", ".join([f'kind = "{kind}"', *more.splitlines()])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(study: Path, tmp_path: Path, kind: str) -> None:
    with_figures(study, figure(kind, KINDS[kind]))
    problems: list[str] = []
    drawn = draw(open_study(study), tmp_path / "figures", problems)
    assert problems == []
    assert len(drawn) == 1
    (caption, path) = drawn[0]
    assert caption.startswith("Tiny")
    assert path.parent == tmp_path / "figures"
    with Image.open(path) as picture:
        assert picture.width > 200


def test_every_built_in_kind_is_tried_here() -> None:
    from eqcrl.studies.figures import DRAWERS

    assert KINDS.keys() == DRAWERS.keys()


def test_one_that_cannot_be_drawn_does_not_stop_the_others(study: Path, tmp_path: Path) -> None:
    with_figures(
        study, 'kind = "score", x = "arch.block"', 'kind = "bars", where = { arch.depth = 16 }',
        'kind = "bars", metric = "eval/nothing"', 'kind = "bars"',
    )  # fmt: skip
    problems: list[str] = []
    drawn = draw(open_study(study), tmp_path / "figures", problems)
    assert [path.name for _, path in drawn] == ["04-bars.png"]
    assert [p.split(":")[0] for p in problems] == ["figure 1 (score)", "figure 2 (bars)", "figure 3 (bars)"]
    assert "only numbers make an axis" in problems[0]
    assert "none of its runs is done" in problems[1]


def test_a_broken_run_is_told_and_left_out(study: Path, tmp_path: Path) -> None:
    opened = open_study(study)
    (opened.runs[0].path / "metrics.jsonl").write_text("not json\n")
    runs, problems = finished(opened)
    assert len(runs) == 5
    assert len(problems) == 1
    assert opened.runs[0].name() in problems[0]


def test_values_by_which_runs_are_grouped(trained: Path) -> None:
    runs, _ = finished(open_study(trained))
    run = runs[0]
    assert (run.value("arch"), run.value("arch.name"), run.value("arch.depth")) == ("resnet-4", "resnet", 4)
    assert run.value("actor_arch.depth") == 4, "it inherits from arch"
    assert run.value("actor_arch.name") == "resnet"
    assert run.value("nothing.of.it") is None
    assert (run.word("arch"), run.word("arch.depth"), run.word("arch.name")) == ("resnet-4", "depth 4", "resnet")
    assert run.word("train.fresh_resets") == "fresh resets true"
    assert list(grouped(runs, "arch.depth", "agent.critic_rate")) == [(4, 3e-4), (4, 1e-3), (8, 3e-4)]


def test_the_table(study: Path) -> None:
    console = Console(width=160, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_result(console, open_study(study))
    text = console.export_text()
    rows = [line.split() for line in text.splitlines() if line.startswith(" point-u-maze")]
    assert [row[3:6] for row in rows[:3]] == [["2", "of", "2"]] * 3
    assert "1.50 [1.00, 2.00]" in text, "a further evaluation with its interval"
    assert "0 of 2, 1 dead, 1 missing" in text
    assert "critic_rate-0.001/seed0: dead. Error: Training diverged: not finite." in text
    assert "Not begun: point-u-maze_resnet-8_critic_rate-0.001/seed1." in text


def test_one_seed_has_no_interval(study: Path) -> None:
    import shutil

    for run in open_study(study).runs:
        if run.seed == 1:
            shutil.rmtree(run.path, ignore_errors=True)
    found = as_json(open_study(study))
    assert found["settings"][0]["score"]["low"] is None
    assert found["settings"][0]["score"]["runs"] == 1
    assert found["settings"][3]["score"] is None
    assert found["settings"][3]["statuses"] == {"dead": 1, "missing": 1}
    assert any("Training diverged" in p for p in found["problems"])
