"""A study folder: which runs it should hold, and what became of each.

study.toml               the study at its scale      evaluated/SETTING/seedK.json   further evaluations
runs/SETTING/seedK/      run directories             failed/SETTING/seedK.txt       why a run died
logs/SETTING/seedK.log   what a run printed          figures/, report.html
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqcrl.errors import UsageError
from eqcrl.files import write_atomically, writing
from eqcrl.jobs.runs import Status, status_of
from eqcrl.jobs.setting import Setting
from eqcrl.lock import claimed
from eqcrl.studies.grid import expand
from eqcrl.studies.source import Source
from eqcrl.studies.spec import Evaluation, Figure, Study


@dataclass(frozen=True)
class StudyRun:
    """One run of a study, and how far it is."""

    path: Path
    settings: dict[str, Any]
    """Axis -> value."""
    seed: int
    status: Status
    message: str
    """Of a dead run, or of an evaluation that failed, its last words."""
    setting: Setting
    evaluated: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Label of a further evaluation -> its scores."""

    def slug(self) -> str:
        """Name of the setting, the same for all seeds."""
        return self.setting.slug

    def name(self) -> str:
        """Setting and seed, for people."""
        return f"{self.setting.slug}/seed{self.seed}"


@dataclass(frozen=True)
class OpenStudy:
    """A study folder as it is now."""

    path: Path
    study: Study
    runs: list[StudyRun]

    @property
    def title(self) -> str:
        """What is compared."""
        return self.study.title

    @property
    def question(self) -> str:
        """What it should answer."""
        return self.study.question

    @property
    def metric(self) -> str:
        """The number of metrics.jsonl that is compared."""
        return self.study.metric

    @property
    def scale(self) -> str | None:
        """Of its budgets."""
        return self.study.scale

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn."""
        return self.study.figures

    def of(self, *statuses: Status) -> list[StudyRun]:
        """The runs with one of these statuses."""
        return [run for run in self.runs if run.status in statuses]


class StudyFolder:
    """Paths of a study folder; holds no state of its own."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.study_file = self.path / "study.toml"
        self.figures = self.path / "figures"
        self.report = self.path / "report.html"

    def run(self, slug: str, seed: int) -> Path:
        """The run directory."""
        return self.path / "runs" / slug / f"seed{seed}"

    def log(self, slug: str, seed: int) -> Path:
        """What the run printed."""
        return self.path / "logs" / slug / f"seed{seed}.log"

    def failure(self, slug: str, seed: int) -> Path:
        """Why the run died; absent if it did not."""
        return self.path / "failed" / slug / f"seed{seed}.txt"

    def evaluated(self, slug: str, seed: int) -> Path:
        """Scores of the further evaluations."""
        return self.path / "evaluated" / slug / f"seed{seed}.json"

    def begin(self, study: Study) -> Study:
        """Write the study down, or go on with the one that is there; its seeds are the old and the new ones.

        Raises: UsageError if the folder holds another study or other files.
        """
        self.refuse_foreign(study)
        seeds = study.seeds
        if self.study_file.is_file():
            seeds = tuple(dict.fromkeys((*Source(self.study_file).study(None).seeds, *seeds)))
        merged = Study(**{**vars(study), "seeds": seeds})
        write_atomically(self.study_file, merged.to_toml())
        return merged

    def refuse_foreign(self, study: Study) -> None:
        """Raises: UsageError if the folder holds another study or other files."""
        if self.study_file.is_file():
            refuse_other(self.path, Source(self.study_file).study(None), study)
        elif self.path.exists() and (not self.path.is_dir() or any(p.name[0] != "." for p in self.path.iterdir())):
            raise UsageError(f"{self.path} exists and is no study folder.", mend="Choose another --out.")

    def refuse_busy(self) -> None:
        """Raises: RunError if another process runs the study."""
        if self.path.is_dir():
            with claimed(self.path, "study"):
                pass

    def make(self) -> None:
        """Create the folder. Raises: RunError."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def runs_of(self, study: Study, settings: Sequence[Setting]) -> list[StudyRun]:
        """Every run of the study in its present state: the first seed of all settings, then the next."""
        return [self.look(setting, seed, study.evaluations) for seed in study.seeds for setting in settings]

    def look(self, setting: Setting, seed: int, evaluations: Sequence[Evaluation] = ()) -> StudyRun:
        """One run in its present state."""
        path, failure = self.run(setting.slug, seed), self.failure(setting.slug, seed)
        status, message = status_of(path, failure)
        scores = read_scores(self.evaluated(setting.slug, seed))
        wanted = {e.label: scores[e.label]["scores"] for e in evaluations if is_evaluated(scores, e)}
        if status == "done" and len(wanted) == len(evaluations):
            message = ""  # it died once, and was continued by hand
        return StudyRun(path, dict(setting.values), seed, status, message, setting, wanted)


def read_scores(file: Path) -> dict[str, Any]:
    """What `add_scores` wrote; nothing if the file is missing or broken: an evaluation is soon made again."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def add_scores(file: Path, evaluation: Evaluation, scores: dict[str, Any]) -> None:
    """Keep the scores of one evaluation with what it was. Raises: RunError."""
    kept = read_scores(file) | {evaluation.label: {"of": _identity(evaluation), "scores": scores}}
    write_atomically(file, json.dumps(kept, indent=1) + "\n")


def is_evaluated(scores: dict[str, Any], evaluation: Evaluation) -> bool:
    """Whether these scores are of this evaluation."""
    kept = scores.get(evaluation.label)
    return isinstance(kept, dict) and kept.get("of") == _identity(evaluation) and isinstance(kept.get("scores"), dict)


def _identity(evaluation: Evaluation) -> list[Any]:
    return [evaluation.env, dict(evaluation.params)]


def refuse_other(path: Path, before: Study, now: Study) -> None:
    """Raises: UsageError with what differs, if the two are not the same study at the same scale."""
    old, new = before.definition(), now.definition()
    keys = [k for k in dict.fromkeys((*old, *new)) if old.get(k) != new.get(k)]
    if keys:
        rows = "; ".join(f"{k} is {_shown(old.get(k))} there, {_shown(new.get(k))} was asked for" for k in keys)
        raise UsageError(
            f"{path} holds another study ({before.name}{f' at scale {before.scale}' if before.scale else ''}): {rows}.",
            mend="Choose another --out; or ask for the same settings to continue it.",
        )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def open_study(path: str | Path) -> OpenStudy:
    """The study in a folder with the present state of its runs. Raises: UsageError, ConfigError, PluginError."""
    folder = StudyFolder(path)
    if not folder.study_file.is_file():
        raise UsageError(f"{path} is no study folder: it has no study.toml.", mend="Give what `eqcrl study run` made.")
    study = Source(folder.study_file).study(None)
    return OpenStudy(folder.path, study, folder.runs_of(study, expand(study)))
