"""`eqcrl eval`: tables and JSON, here and elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

import eqcrl as package
from cli.conftest import Command
from eqcrl import checkpoint
from eqcrl.config import Part
from helpers import assert_message, snapshot

SCORES = ["eval/distance_end", "eval/episode_length", "eval/success_any", "eval/success_end", "eval/time_at_goal"]


def scores(eqcrl: Command, *args: Any) -> dict[str, Any]:
    answer = eqcrl("eval", *args, "--json", "--episodes", 5)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_the_table(eqcrl: Command, finished: Path) -> None:
    before = snapshot(finished)
    answer = eqcrl("eval", finished, "--episodes", 5)
    assert answer.code == 0, answer.err
    assert "5 episodes, seed 0" in answer.out
    found = package.load(finished).evaluate(episodes=5)[0]
    for name in SCORES:
        row = next(line for line in answer.out.splitlines() if name in line)
        assert f"{found[name]:.4f}" in row
    assert snapshot(finished) == before


def test_json_and_its_seed(eqcrl: Command, finished: Path) -> None:
    found = scores(eqcrl, finished)
    assert found.keys() == {"run", "env", "episodes", "seed", "actions", *SCORES}
    assert (found["run"], found["env"], found["episodes"]) == (str(finished), "point-u-maze", 5)
    assert (found["seed"], found["actions"]) == (0, "deterministic")
    assert {k: found[k] for k in SCORES} == package.load(finished).evaluate(episodes=5)[0]
    other = scores(eqcrl, finished, "--seed", 1)
    assert other["eval/distance_end"] != found["eval/distance_end"]


def test_sampled_actions(eqcrl: Command, finished: Path) -> None:
    found = scores(eqcrl, finished, "--sampled")
    assert found["actions"] == "sampled"
    assert {k: found[k] for k in SCORES} == package.load(finished).evaluate(episodes=5, deterministic=False)[0]


def test_training_starts(eqcrl: Command, finished: Path) -> None:
    found = scores(eqcrl, finished, "--training-starts")
    assert {k: found[k] for k in SCORES} == package.load(finished).evaluate(episodes=5, training_starts=True)[0]


def test_another_environment(eqcrl: Command, finished: Path) -> None:
    found = scores(eqcrl, finished, "--env", "point-big-maze", "--env.episode-length", 11)
    assert (found["env"], found["eval/episode_length"]) == ("point-big-maze", 11)
    part = Part("point-big-maze", {"episode_length": 11})
    assert {k: found[k] for k in SCORES} == package.load(finished).evaluate(env=part, episodes=5)[0]


@pytest.mark.parametrize("order", ["run first", "options first"])
def test_a_layout_of_ones_own(eqcrl: Command, finished: Path, tmp_path: Path, order: str) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("######\n#R..G#\n######\n")
    options = ["--episodes", "3", "--env.layout", file, "--json"]
    answer = eqcrl("eval", *([finished, *options] if order == "run first" else [*options, finished]))
    assert answer.code == 0, answer.err
    # The rest is as the run had it; goals are 6 m away in this corridor.
    assert json.loads(answer.out)["eval/episode_length"] == 30


def test_what_cannot_be_evaluated(eqcrl: Command, finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("######\n#R.#G#\n######\n")
    for args, parts in (
        (("--env", "point-bigmaze"), ("There is no env called 'point-bigmaze'", "'point-big-maze'")),
        (
            ("--env.layout", file),
            (f"The layout {file} has a goal that its start cannot reach", "row 2, column 5"),
        ),
        (("--env.layout", "bgi"), ("There is no layout 'bgi'", "big")),
        (("--env.episode-length", "0"), ("env.episode_length", "Expected `int` >= 1")),
    ):
        answer = eqcrl("eval", finished, *args)
        assert answer.code == 2
        assert_message(answer.err, *parts)
        assert answer.out == ""


def test_an_environment_of_other_sizes(
    eqcrl: Command, finished: Path, plank: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eqcrl import run as runs

    real = runs.build_env
    monkeypatch.setattr(runs, "build_env", lambda part: plank() if part.name == "point-big-maze" else real(part))
    answer = eqcrl("eval", finished, "--env", "point-big-maze")
    assert answer.code == 2
    assert_message(
        answer.err, "The run cannot act in 'point-big-maze'", "trained on 'point-u-maze'", "observation_size=1",
        "Choose an environment of the same sizes.",
    )  # fmt: skip


def test_help_shows_the_parameters_of_the_environment(eqcrl: Command, finished: Path) -> None:
    answer = eqcrl("eval", finished, "--help")
    assert "--env.layout" in answer.out
    assert "--env.episode-length" in answer.out


def test_other_policies_than_the_last(eqcrl: Command, finished: Path) -> None:
    folder = finished / "checkpoints"
    best = checkpoint.read_manifest(checkpoint.policy_path(folder, "best"))
    steps = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])["env_steps"]
    by_number = scores(eqcrl, finished, "--checkpoint", steps // 80)
    assert {k: by_number[k] for k in SCORES} == {k: scores(eqcrl, finished)[k] for k in SCORES}
    assert scores(eqcrl, finished, "--checkpoint", "best").keys() == by_number.keys()
    listed = eqcrl("info", finished).out
    assert "best" in listed
    assert best["score"] == max(json.loads(line)["eval/time_at_goal"] for line in (finished / "metrics.jsonl").open())
    answer = eqcrl("eval", finished, "--checkpoint", "worst")
    assert answer.code == 1
    assert_message(answer.err, "There is no policy 'worst'", "There are: last,", "best")
