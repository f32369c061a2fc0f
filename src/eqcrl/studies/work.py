"""What is left to do of a study, as processes: trainings to begin or continue, evaluations of finished policies."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqcrl.jobs import processes
from eqcrl.jobs.runs import has_begun, held
from eqcrl.jobs.setting import Setting
from eqcrl.studies.folder import StudyFolder, StudyRun, add_scores, is_evaluated, read_scores
from eqcrl.studies.spec import Evaluation, Study


@dataclass(frozen=True, eq=False)
class Task:
    """One process: arguments of `eqcrl`, and the runs that it works on."""

    arguments: tuple[str, ...]
    runs: tuple[StudyRun, ...]
    log: Path
    bytes: int
    evaluation: Evaluation | None = None
    together: bool = False
    """Several seeds as one program."""

    def name(self) -> str:
        """Setting and seeds, for people."""
        seeds = [run.seed for run in self.runs]
        numbers = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}..{seeds[-1]}"
        what = f", evaluation {self.evaluation.label}" if self.evaluation else ""
        return f"{self.runs[0].slug()}/seed{numbers}{what}"

    def command(self) -> list[str]:
        """What is executed."""
        return [*processes.EQCRL, *self.arguments]

    def busy(self) -> bool:
        """Whether another process writes one of the runs, such as one that outlived the study that began it."""
        return any(held(run.path) for run in self.runs)


class Workshop:
    """Makes the tasks of one study folder."""

    def __init__(self, folder: StudyFolder, study: Study, needs: dict[str, int], *, together: bool):
        self.folder = folder
        self.study = study
        self.needs = needs
        self.together = together

    def look(self, setting: Setting, seed: int) -> StudyRun:
        """A run as it is now."""
        return self.folder.look(setting, seed, self.study.evaluations)

    def tasks(self, runs: Sequence[StudyRun], *, retry: bool) -> list[Task]:
        """All that is left: nothing for runs that are done, for dead ones only with `retry`."""
        open_runs = [run for run in runs if run.status in ("missing", "unfinished") or (retry and run.status == "dead")]
        found = self._trainings(open_runs)
        return found + [task for run in runs if run.status == "done" for task in self.evaluations(run, retry=retry)]

    def renewed(self, task: Task) -> list[Task]:
        """What is left of a task after another process had its runs."""
        if task.evaluation is not None:
            return [task]
        return self.tasks([self.look(run.setting, run.seed) for run in task.runs], retry=True)

    def _trainings(self, runs: Sequence[StudyRun]) -> list[Task]:
        if not self.together:
            return [self._training(run) for run in runs]
        groups: dict[str, list[StudyRun]] = {}
        for run in runs:
            groups.setdefault(run.slug(), []).append(run)
        return [task for group in groups.values() for task in self._group(group)]

    def _group(self, runs: Sequence[StudyRun]) -> Iterable[Task]:
        """Seeds of one setting as one program, if they follow one another and none of them has begun without others."""
        seeds = [run.seed for run in runs]
        whole = len(runs) > 1 and seeds == list(range(seeds[0], seeds[0] + len(runs)))
        begun = [run for run in runs if has_begun(run.path)]
        parent, setting = runs[0].path.parent, runs[0].setting
        # `--resume` continues every seed that lies there.
        others = {p.name for p in _runs_in(parent)} - {f"seed{s}" for s in seeds}
        if not whole or (begun and (len(begun) < len(runs) or others)):
            return [self._training(run) for run in runs]
        arguments = (
            ("train", "--resume", str(parent))
            if begun
            else (
                "train",
                *setting.flags(),
                "--seed",
                str(seeds[0]),
                "--num-seeds",
                str(len(runs)),
                "--out",
                str(parent),
            )
        )
        need = self.needs.get(setting.slug, 0) * len(runs)
        log = self.folder.log(setting.slug, seeds[0])
        return [Task(arguments, tuple(runs), log, need, together=True)]

    def _training(self, run: StudyRun) -> Task:
        resume = ("train", "--resume", str(run.path))
        anew = ("train", *run.setting.flags(), "--seed", str(run.seed), "--out", str(run.path))
        arguments = resume if has_begun(run.path) else anew
        return Task(arguments, (run,), self.folder.log(run.slug(), run.seed), self.needs.get(run.slug(), 0))

    def evaluations(self, run: StudyRun, *, retry: bool = True) -> list[Task]:
        """The further evaluations that a finished run lacks."""
        if run.message and not retry:
            return []
        scores = read_scores(self.folder.evaluated(run.slug(), run.seed))
        return [self._evaluation(run, e) for e in self.study.evaluations if not is_evaluated(scores, e)]

    def _evaluation(self, run: StudyRun, evaluation: Evaluation) -> Task:
        arguments = ["eval", str(run.path), "--json", "--episodes", str(run.setting.config.eval.num_envs)]
        arguments += ["--env", evaluation.env] if evaluation.env else []
        arguments += [f"--env.{k.replace('_', '-')}={v}" for k, v in evaluation.params.items()]
        log = self.folder.path / "logs" / run.slug() / f"seed{run.seed}.eval.log"
        return Task(tuple(arguments), (run,), log, self.needs.get(run.slug(), 0), evaluation)

    def keep_scores(self, task: Task, printed: str) -> bool:
        """Keep what an evaluation printed; False if it is not what it should be."""
        assert task.evaluation is not None
        scores = _last_object(printed)
        if not any(key.startswith("eval/") for key in scores):
            return False
        run = task.runs[0]
        kept = {k: v for k, v in scores.items() if k.startswith("eval/")}
        add_scores(self.folder.evaluated(run.slug(), run.seed), task.evaluation, kept)
        return True


def _runs_in(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if has_begun(p)] if folder.is_dir() else []


def _last_object(text: str) -> dict[str, Any]:
    for line in reversed(text.splitlines()):
        try:
            tree = json.loads(line)
        except ValueError:
            continue
        if isinstance(tree, dict):
            return tree
    return {}
