"""What can be read is read, and what is wrong is told: which run, what kind, why, and what follows."""

import json
from pathlib import Path

from eqcrl.report.collect import Collected, collect
from report.runs import make_run, set_header


def told(collected: Collected) -> dict[str, tuple[str, str]]:
    """Name of the directory -> kind and reason."""
    return {Path(t.where).name: (t.kind, t.reason) for t in collected.troubles}


def names(collected: Collected) -> list[str]:
    return [run.path.name for run in collected.runs()]


def test_a_good_run_is_read_whole(tmp_path: Path) -> None:
    collected = collect([make_run(tmp_path / "run", seed=3)])
    (run,) = collected.runs()
    assert (run.config.seed, len(run.records), run.header["git_revision"]) == (3, 10, "abc")
    assert run.finished()
    assert run.hours() == 10 / 3600
    assert not collected.troubles


def test_every_way_to_be_broken_has_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    runs = {name: make_run(tmp_path / name, seed=i) for i, name in enumerate(("good", "config", "gone", "metrics"))}
    (runs["config"] / "config.toml").write_text("seed = 0\n[train]\nbatch_sise = 3\n")
    (runs["gone"] / "config.toml").unlink()
    lines = (runs["metrics"] / "metrics.jsonl").read_text().splitlines()
    (runs["metrics"] / "metrics.jsonl").write_text("\n".join([*lines[:3], '{"env_steps": 4', *lines[4:]]) + "\n")
    collected = collect([tmp_path])
    assert names(collected) == ["good"]
    found = told(collected)
    assert {name: kind for name, (kind, _) in found.items()} == dict.fromkeys(("config", "gone", "metrics"), "broken")
    assert "batch_sise" in found["config"][1]
    assert "config.toml cannot be read" in found["gone"][1]
    assert "metrics.jsonl:4 is not valid JSON" in found["metrics"][1]
    assert all("It is in no table and no figure." in reason for _, reason in found.values())


def test_numbers_that_no_float_holds_are_damage(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", seed=1)
    with (one / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_steps": 10**400}) + "\n")
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("batch_size = 8", f"batch_size = {10**400}"))
    third = make_run(tmp_path / "third", seed=2) / "config.toml"
    third.write_text(third.read_text().replace("batch_size = 8", f"batch_size = {'1' * 5000}"))
    collected = collect([tmp_path])
    assert names(collected) == []
    kinds = {name: kind for name, (kind, _) in told(collected).items()}
    assert kinds == dict.fromkeys(("one", "other", "third"), "broken")


def test_a_lost_header_or_a_line_cut_short_costs_only_that(tmp_path: Path) -> None:
    lost, cut = make_run(tmp_path / "lost", seed=0), make_run(tmp_path / "cut", seed=1)
    (lost / "header.json").unlink()
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 11')
    collected = collect([lost, cut])
    assert names(collected) == ["lost", "cut"]
    assert all(run.finished() for run in collected.runs())
    assert collected.runs()[0].header == {}
    found = told(collected)
    assert found["lost"][0] == found["cut"][0] == "incomplete"
    assert "header.json cannot be read" in found["lost"][1]
    assert "cut short" in found["cut"][1]


def test_unfinished_diverged_and_empty_runs(tmp_path: Path) -> None:
    half = make_run(tmp_path / "half", until=500, seed=0)
    busy = make_run(tmp_path / "busy", until=200, seed=1)
    (busy / ".writer.json").write_text("{}")
    dead = make_run(tmp_path / "dead", until=300, seed=2)
    set_header(dead, diverged={"time": "now", "message": "Training diverged: not finite after 300 steps."})
    early = make_run(tmp_path / "early", until=0, seed=3)
    collected = collect([half, busy, dead, early])
    assert names(collected) == ["half", "busy", "dead"]
    assert not any(run.finished() for run in collected.runs())
    found = told(collected)
    assert {k: v[0] for k, v in found.items()} == {
        "half": "unfinished", "busy": "unfinished", "dead": "dead", "early": "no evaluation"
    }  # fmt: skip
    assert "500 of 1,000 environment steps (50%)" in found["half"][1]
    assert f"eqcrl train --resume {half}" in found["half"][1]
    assert "seems to be training it" in found["busy"][1]
    assert "seems to be training it" not in found["half"][1]
    assert "not finite after 300 steps" in found["dead"][1]


def test_one_seed_counts_once_and_the_longest_run_of_it(tmp_path: Path) -> None:
    short, long = make_run(tmp_path / "short", until=300), make_run(tmp_path / "long")
    again = make_run(tmp_path / "again")
    other = make_run(tmp_path / "other", seed=1)
    collected = collect([short, long, again, other])
    assert names(collected) == ["long", "other"]
    duplicates = [(Path(t.where).name, t.reason) for t in collected.troubles if t.kind == "duplicate"]
    assert [name for name, _ in duplicates] == ["short", "again"]
    assert all("the same seed 0" in reason and str(long) in reason for _, reason in duplicates)


def test_a_run_given_twice_is_said_and_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    collected = collect([run, tmp_path])
    assert names(collected) == ["run"]
    assert [t.kind for t in collected.troubles] == ["given twice"]


def test_odd_values_in_records_and_header_are_no_traceback(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", until=300)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_steps": "many", "eval/success_any": None}) + "\n")
    set_header(run, versions=[1, 2], devices="cpu", argv=None, diverged="what")
    (read,) = collect([run]).runs()
    assert read.last("env_steps") == 300
