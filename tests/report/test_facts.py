"""What was run: differences stand out, what is shared stands once, commands are what was typed."""

from pathlib import Path

from eqcrl.report import facts
from eqcrl.report.collect import collect
from eqcrl.report.grouping import environments
from report.runs import HEADER, make_run, set_header


def test_what_differs_is_marked_where_it_is_unlike_the_first_row() -> None:
    found = facts.contrast([("a", {"x": "1", "y": "2"}), ("b", {"x": "1", "y": "3"}), ("c", {"x": "1"})])
    assert found.columns == ["y"]
    assert found.common == {"x": "1"}
    assert [(name, [(c.text, c.marked) for c in cells]) for name, cells in found.rows] == [
        ("a", [("2", False)]), ("b", [("3", True)]), ("c", [(facts.ABSENT, True)])
    ]  # fmt: skip
    nothing = facts.contrast([])
    assert (nothing.columns, nothing.rows, nothing.common) == ([], [], {})


def test_settings_differ_beside_the_seed(tmp_path: Path) -> None:
    for i, (depth, seed) in enumerate(((4, 0), (4, 1), (8, 0))):
        make_run(tmp_path / str(i), arch__depth=depth, seed=seed)
    found = facts.setting_differences(environments(collect([tmp_path]).runs()))
    assert found.columns == ["arch.depth"]
    assert [name for name, _ in found.rows] == ["arch.depth=4", "arch.depth=8"]
    assert found.common["train.fresh_resets"] == "true"
    assert "seed" not in found.common
    make_run(tmp_path / "other", env="point-big-maze", arch__depth=8)
    found = facts.setting_differences(environments(collect([tmp_path]).runs()))
    assert found.columns[:1] == ["env"]
    assert [name for name, _ in found.rows][-1] == "arch.depth=8 on point-big-maze"


def test_versions_of_runs_are_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    set_header(runs[1], versions={"python": "3.12.1", "eqcrl": "0.2.0", "jax": "0.10.2"}, git_revision=None)
    (runs[2] / "header.json").unlink()
    found = facts.provenance(collect([tmp_path]).runs())
    assert found.columns == ["python", "eqcrl", "jax", "devices", "git revision", "platform"]
    texts = {name: [c.text for c in cells] for name, cells in found.rows}
    assert texts[str(runs[0])] == ["3.12.1", "0.1.0", "0.10.2", "cpu:0", "abc", "Linux"]
    assert texts[str(runs[1])][1:5] == ["0.2.0", "0.10.2", "cpu:0", facts.ABSENT]
    assert set(texts[str(runs[2])]) == {facts.ABSENT}


def test_commands_are_what_was_typed() -> None:
    assert facts.command(HEADER) == "eqcrl train --out 'a b'"
    assert facts.command({"argv": ["/x/eqcrl/__main__.py", "train"]}) == "eqcrl train"
    assert facts.command({"argv": []}) == facts.command({}) == facts.command({"argv": "train"}) == ""


def test_time_of_the_start_continuations_and_seeds_beside_it() -> None:
    assert facts.started(HEADER) == "2026-01-31 23:59"
    assert facts.started({}) == "not recorded"
    assert facts.resumed({"resumed": [{}, {}]}) == 2
    assert facts.resumed({"resumed": 3}) == 0
    assert facts.together({"seed": 1, "seeds_together": [0, 1, 2]}) == "0, 2"
    assert facts.together({"seed": 1}) == ""
