"""A finished study, trained once for the tests of this folder."""

import json
import shutil
from pathlib import Path

import pytest

from eqcrl import run as runs
from eqcrl.assemble import complete
from eqcrl.rundir import RunDir
from eqcrl.studies.folder import StudyFolder, add_scores
from eqcrl.studies.grid import expand
from eqcrl.studies.source import Source
from helpers import TINY, keeping_compiled

TEXT = """\
title = "Tiny"
question = "Does it work?"
metric = "eval/distance_end"
seeds = 2

[axes]
env = ["point-u-maze"]
arch = ["resnet-4", "resnet-8"]
"agent.critic_rate" = [3e-4, 1e-3]

[[evaluations]]
label = "far"
env.start = "fixed"

[[evaluations]]
label = "big"
env = "point-big-maze"
"""


def study_text(**more: str) -> str:
    """The tiny study; `figures` and the like are added as they are."""
    settings = "".join(f'"{k}" = {v!r}\n' for k, v in TINY.items() if k not in ("env", "arch"))
    return "\n".join([TEXT, *more.values(), "[settings]", settings])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both seeds of all settings but the last are done; of the last one died and one has not begun.

    One run is real; the others are copies of it with their own configuration and scores.
    """
    base = tmp_path_factory.mktemp("study")
    (base / "tiny.toml").write_text(study_text())
    study = Source(base / "tiny.toml").study(None)
    folder = StudyFolder(base / "out")
    study = folder.begin(study)
    settings = expand(study)
    real = folder.run(settings[0].slug, 0)
    with keeping_compiled(base / "compiled"):
        runs.fit(settings[0].config, real)
    for i, setting in enumerate(settings[:-1]):
        for seed in study.seeds:
            run = folder.run(setting.slug, seed)
            if run != real:
                shutil.copytree(real, run)
                RunDir(run).write_config(complete(setting.config.replace(seed=seed)))
                lines = [r | {study.metric: r[study.metric] + i + seed} for r in RunDir(real).metrics()]
                (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for number, evaluation in enumerate(study.evaluations):
                scores = {"eval/distance_end": 1.0 + number + seed, "eval/success_any": 0.5}
                add_scores(folder.evaluated(setting.slug, seed), evaluation, scores)
    died = folder.failure(settings[-1].slug, 0)
    died.parent.mkdir(parents=True)
    died.write_text("it: exit code 1.\nError: Training diverged: not finite.\n  Lower it.\n\nAll that it printed: x\n")
    return folder.path


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(trained, tmp_path / "study"))
