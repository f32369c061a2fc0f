"""A study folder: what is done, what is not, and what must not be mixed."""

import json
import shutil
from pathlib import Path

import pytest

from eqcrl.errors import UsageError
from eqcrl.jobs.runs import is_done
from eqcrl.studies.folder import StudyFolder, add_scores, open_study, read_scores
from eqcrl.studies.source import Source
from studies.conftest import study_text

LAST = "point-u-maze_resnet-8_critic_rate-0.001"


def test_an_open_study(trained: Path) -> None:
    study = open_study(trained)
    assert (study.title, study.question, study.metric, study.scale) == (
        "Tiny",
        "Does it work?",
        "eval/distance_end",
        None,
    )
    assert [run.seed for run in study.runs] == [0] * 4 + [1] * 4, "the first seed of everything comes first"
    assert [run.status for run in study.runs] == ["done"] * 3 + ["dead"] + ["done"] * 3 + ["missing"]
    first, dead = study.runs[0], study.runs[3]
    assert first.path == trained / "runs" / "point-u-maze_resnet-4_critic_rate-0.0003" / "seed0"
    assert first.settings == {"env": "point-u-maze", "arch": "resnet-4", "agent.critic_rate": 3e-4}
    assert first.evaluated["big"] == {"eval/distance_end": 2.0, "eval/success_any": 0.5}
    assert first.message == ""
    assert (dead.slug(), dead.name()) == (LAST, f"{LAST}/seed0")
    assert "Training diverged" in dead.message
    assert [run.status for run in study.of("dead", "missing")] == ["dead", "missing"]


def test_an_unfinished_run_and_a_broken_one(study: Path) -> None:
    runs = study / "runs" / "point-u-maze_resnet-4_critic_rate-0.0003"
    newest = max(p.name for p in (runs / "seed0" / "checkpoints").iterdir() if p.name.isdecimal())
    shutil.rmtree(runs / "seed0" / "checkpoints" / newest)
    (runs / "seed1" / "config.toml").write_text("seed = [")
    found = {run.name(): run for run in open_study(study).runs}
    assert found[f"{runs.name}/seed0"].status == "unfinished"
    broken = found[f"{runs.name}/seed1"]
    assert broken.status == "dead"
    assert "config.toml is not valid TOML" in broken.message


def test_a_run_that_is_continued_to_a_later_end_is_not_done(study: Path) -> None:
    run = study / "runs" / "point-u-maze_resnet-4_critic_rate-0.0003" / "seed0"
    assert is_done(run)
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("total_env_steps = 960", "total_env_steps = 9600"))
    assert not is_done(run)


def test_a_stale_message_of_a_run_that_was_finished_by_hand(study: Path) -> None:
    first = open_study(study).runs[0]
    failure = StudyFolder(study).failure(first.slug(), first.seed)
    failure.parent.mkdir(parents=True)
    failure.write_text("died")
    assert open_study(study).runs[0].message == ""
    # While an evaluation is missing, it may be why.
    StudyFolder(study).evaluated(first.slug(), first.seed).unlink()
    assert (open_study(study).runs[0].status, open_study(study).runs[0].message) == ("done", "died")


def test_scores_of_another_evaluation_do_not_count(study: Path) -> None:
    file = study / "study.toml"
    file.write_text(file.read_text().replace("point-big-maze", "point-hardest-maze"))
    assert set(open_study(study).runs[0].evaluated) == {"far"}


def test_scores_survive_one_another_and_a_broken_file(study: Path, tmp_path: Path) -> None:
    evaluation = open_study(study).study.evaluations[0]
    file = tmp_path / "scores.json"
    file.write_text("{")
    assert read_scores(file) == {}
    add_scores(file, evaluation, {"eval/success_any": 1.0})
    assert json.loads(file.read_text())["far"]["scores"] == {"eval/success_any": 1.0}


def test_another_study_is_refused_and_more_seeds_are_welcome(study: Path, tmp_path: Path) -> None:
    folder = StudyFolder(study)
    again = tmp_path / "again.toml"
    again.write_text(study_text())
    assert folder.begin(Source(again).study(None, seeds=4)).seeds == (0, 1, 2, 3)
    # Fewer seeds choose among those that there are.
    assert folder.begin(Source(again).study(None, seeds=1)).seeds == (0, 1, 2, 3)
    before = (study / "study.toml").read_bytes()
    other = Source(again).study(None, overrides={"train.batch_size": "4", "eval.every": "3"})
    with pytest.raises(UsageError, match=r"settings.eval.every is 2 there, 3 was asked for; settings.train.batch_size"):
        folder.begin(other)
    again.write_text(study_text().replace('"resnet-8"', '"resnet-16"'))
    with pytest.raises(UsageError, match=r"axes.arch is \['resnet-4', 'resnet-8'\] there, \['resnet-4', 'resnet-16'\]"):
        folder.begin(Source(again).study(None))
    assert (study / "study.toml").read_bytes() == before


def test_words_of_a_study_may_change(study: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.toml"
    again.write_text(study_text().replace("Does it work?", "Does it still?"))
    StudyFolder(study).begin(Source(again).study(None))
    assert open_study(study).question == "Does it still?"


def test_folders_that_are_no_studies(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(study_text())
    study = Source(tmp_path / "tiny.toml").study(None)
    with pytest.raises(UsageError, match="exists and is no study folder"):
        StudyFolder(tmp_path).begin(study)
    with pytest.raises(UsageError, match="exists and is no study folder"):
        StudyFolder(tmp_path / "tiny.toml").begin(study)
    with pytest.raises(UsageError, match=r"has no study.toml"):
        open_study(tmp_path)
