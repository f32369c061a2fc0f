"""The plan of a study in words, and what is said at its end."""

import io
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eqcrl.jobs.machine import FRACTION, Machine
from eqcrl.jobs.setting import Setting
from eqcrl.jobs.sizes import Sized
from eqcrl.studies.folder import StudyFolder, open_study
from eqcrl.studies.grid import expand
from eqcrl.studies.plans import plan_json, print_commands, print_end, print_plan
from eqcrl.studies.running import Result, make_pool, settled, together
from eqcrl.studies.source import Source
from eqcrl.studies.spec import Study
from eqcrl.studies.work import Workshop
from studies.conftest import study_text

GIB = 2**30
CPU = Machine("2 x cpu (cpu)", "cpu", 16 * GIB, 16 * GIB, (0, 1))
GPU = Machine("1 x H100 (gpu)", "gpu", 60 * GIB, 128 * GIB, tuple(range(16)))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "tiny.toml").write_text(study_text())
    return Source(tmp_path / "tiny.toml").study(None)


def sized(settings: Sequence[Setting], seconds: float | None = 30.0, need: int = GIB) -> dict[str, Sized]:
    return {s.slug: Sized(s.slug, need, 1200, 960, 30, 8, seconds, ()) for s in settings}


def said(function: Any, *args: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    function(console, *args)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_a_plan_for_a_cpu(study: Study) -> None:
    settings = expand(study)
    text = said(print_plan, study, settings, CPU, sized(settings), None)
    assert "point-u-maze resnet-4 0.0003 2 960 30 8 1.2 k 1.0 GiB 30 s" in text
    assert "8 runs on 2 x cpu (cpu), 2 side by side; seeds 0, 1." in text
    assert "Time, compiling apart: 4 min 00 s one after another, about 2 min 00 s side by side." in text
    assert "evaluated at the end on: big" in text
    assert "does not fit" not in text
    assert "Time, compiling" not in said(print_plan, study, settings, CPU, sized(settings, None), None)
    assert "does not fit" in said(print_plan, study, settings, CPU, sized(settings, need=17 * GIB), None)


def test_a_plan_for_an_accelerator(study: Study) -> None:
    settings = expand(study)
    text = said(print_plan, study, settings, GPU, sized(settings), None)
    assert "8 runs on 1 x H100 (gpu), 4 side by side, the seeds of a setting as one program; seeds 0, 1." in text
    assert plan_json(study, settings, GPU, sized(settings, need=20 * GIB), None)["jobs"] == 1
    assert plan_json(study, settings, GPU, sized(settings), 2)["jobs"] == 2


def test_seeds_are_one_program_where_that_helps() -> None:
    assert [together("auto", m) for m in (CPU, GPU)] == [False, True]
    assert [together(asked, CPU) for asked in ("yes", "no")] == [True, False]


def test_processes_share_the_machine() -> None:
    pool = make_pool(CPU, 2, {})
    assert [list(cores) for cores in pool.share] == [[0], [1]]
    assert [list(cores) for cores in make_pool(CPU, 1, {}).share] == [[0, 1]]
    assert make_pool(CPU, 4, {}).share == [], "more processes than cores: the system shares them out"
    assert pool.limit == int(0.9 * 16 * GIB)
    gpu = make_pool(GPU, 3, {})
    assert gpu.environment[FRACTION] == "0.300"
    assert (gpu.limit, gpu.share) == (None, [])
    assert make_pool(GPU, 3, {FRACTION: "0.5"}).environment.get(FRACTION) != "0.300", "what the user chose stays"


def test_the_commands(study: Study, tmp_path: Path) -> None:
    settings = expand(study)
    folder = StudyFolder(tmp_path / "a b")
    text = said(print_commands, folder, study, settings, CPU, sized(settings), "auto", False)
    assert "eqcrl train --preset quickstart " in text
    assert f"--seed 1 --out '{tmp_path}/a b/runs/" in text
    assert "8 processes; 0 of 8 runs are done." in text
    text = said(print_commands, folder, study, settings, GPU, sized(settings), "auto", False)
    assert "--seed 0 --num-seeds 2 --out" in text
    assert "4 processes" in text


def test_the_end(trained: Path) -> None:
    opened = open_study(trained)
    folder = StudyFolder(trained)
    done = [run for run in opened.runs if run.status == "done"]
    assert "`eqcrl study report" in said(print_end, folder, Result(done, None))
    codes = []
    for result in (
        Result(done, None),
        Result(opened.runs, None),
        Result(done, signal.SIGINT),
        Result(opened.runs, signal.SIGTERM),
        Result(opened.of("missing"), None),
    ):
        codes.append(print_end(Console(file=io.StringIO()), folder, result))
    assert codes == [0, 1, 130, 75, 1]
    text = said(print_end, folder, Result(opened.runs, None))
    assert "6 of 8 runs are done" in text
    assert "Error: Training diverged: not finite." in text


class TestTasks:
    """What is left to do."""

    @pytest.fixture
    def shop(self, trained: Path) -> Workshop:
        return Workshop(StudyFolder(trained), open_study(trained).study, {}, together=False)

    def test_what_is_done_is_not_redone_and_the_dead_need_to_be_asked_for(self, trained: Path, shop: Workshop) -> None:
        runs = open_study(trained).runs
        (only,) = shop.tasks(runs, retry=False)
        assert only.name() == "point-u-maze_resnet-8_critic_rate-0.001/seed1"
        assert only.arguments[0] == "train"
        assert "--resume" not in only.arguments
        assert len(shop.tasks(runs, retry=True)) == 2
        opened = open_study(trained)
        assert settled(StudyFolder(trained), opened.study, expand(opened.study), retry=False) is None
        assert settled(StudyFolder(trained), opened.study, expand(opened.study)[:-1], retry=True) is not None

    def test_an_evaluation_that_is_missing(self, trained: Path, shop: Workshop) -> None:
        run = open_study(trained).runs[0]
        more = replace(shop.study, evaluations=(*shop.study.evaluations, replace(shop.study.evaluations[0], label="x")))
        (task,) = Workshop(shop.folder, more, {}, together=False).tasks([run], retry=False)
        assert task.arguments == (
            "eval", str(run.path), "--json", "--episodes", "4", "--env.start=fixed",
        )  # fmt: skip
        assert task.name() == f"{run.name()}, evaluation x"
        assert not Workshop(shop.folder, more, {}, together=False).keep_scores(task, "no JSON\n[1]\n")

    def test_seeds_go_together_only_as_a_whole(self, trained: Path, shop: Workshop, tmp_path: Path) -> None:
        setting = open_study(trained).runs[0].setting
        fresh = Workshop(StudyFolder(tmp_path), shop.study, {setting.slug: 7}, together=True)

        def tasks(*seeds: int) -> list[tuple[str, ...]]:
            return [t.arguments for t in fresh.tasks([fresh.look(setting, s) for s in seeds], retry=False)]

        parent = tmp_path / "runs" / setting.slug
        assert tasks(0, 1, 2) == [
            ("train", *setting.flags(), "--seed", "0", "--num-seeds", "3", "--out", str(parent))
        ]  # fmt: skip
        assert [t.bytes for t in fresh.tasks([fresh.look(setting, s) for s in (0, 1)], retry=False)] == [14]
        assert len(tasks(0, 2)) == 2, "no gaps"
        for seed in (0, 1):
            (parent / f"seed{seed}").mkdir(parents=True)
            (parent / f"seed{seed}" / "config.toml").write_text(setting.config.to_toml())
        assert tasks(0, 1) == [("train", "--resume", str(parent))]
        assert len(tasks(0, 1, 2)) == 3, "one of them has not begun"
        assert tasks(1) == [("train", "--resume", str(parent / "seed1"))]
        assert tasks(2, 3) == [("train", *setting.flags(), "--seed", "2", "--num-seeds", "2", "--out", str(parent))]
