"""`eqcrl study run`: the runs of a study that are not done yet, side by side, whatever happens to single ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eqcrl.files import write_atomically
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.processes import STOPPED, how_it_ended
from eqcrl.jobs.runs import obituary
from eqcrl.jobs.setting import Setting
from eqcrl.jobs.sizes import Sized
from eqcrl.lock import claimed
from eqcrl.studies.folder import StudyFolder, StudyRun
from eqcrl.studies.pool import Pool, Running
from eqcrl.studies.screen import Screen
from eqcrl.studies.spec import Study
from eqcrl.studies.work import Task, Workshop

Together = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class Result:
    """How it ended: the runs that were asked for, and the signal if one came."""

    runs: list[StudyRun]
    stopped_by: int | None


def together(asked: Together, machine: Machine) -> bool:
    """Whether the seeds of a setting are one program: on an accelerator; on a CPU processes are as fast."""
    return machine.accelerated() if asked == "auto" else asked == "yes"


def make_pool(machine: Machine, jobs: int, environment: dict[str, str]) -> Pool:
    """As many processes as asked for, with cores and memory shared out among them."""
    shared = machine.shared(jobs, environment)
    return Pool(jobs, limit=machine.limit(), share=machine.shares(jobs), environment=shared)


def settled(folder: StudyFolder, study: Study, settings: Sequence[Setting], *, retry: bool) -> Result | None:
    """The result, if nothing is left to do; None if something is."""
    runs = [folder.look(setting, seed, study.evaluations) for seed in study.seeds for setting in settings]
    left = Workshop(folder, study, {}, together=False).tasks(runs, retry=retry)
    return None if left else Result(runs, None)


def run_study(
    folder: StudyFolder,
    study: Study,
    settings: Sequence[Setting],
    machine: Machine,
    sized: dict[str, Sized],
    *,
    jobs: int | None,
    vmap_seeds: Together,
    retry: bool,
    screen: Screen,
    environment: dict[str, str],
) -> Result:
    """Begin or continue every run of these settings; what is done is left alone, what died too unless `retry`.

    Raises: UsageError if the folder holds another study, RunError if another process runs it or the disk refuses.
    """
    # The lock first: it makes the folder, and nobody else writes what decides whether it is ours.
    folder.refuse_foreign(study)
    folder.make()
    with claimed(folder.path, "study"):
        asked = study.seeds
        study = folder.begin(study)
        overhead = machine.overhead()
        needs = {slug: s.bytes + overhead for slug, s in sized.items()}
        workshop = Workshop(folder, study, needs, together=together(vmap_seeds, machine))
        runs = [workshop.look(setting, seed) for seed in asked for setting in settings]
        tasks = workshop.tasks(runs, retry=retry)
        if jobs is None:
            jobs = machine.side_by_side([task.bytes - overhead for task in tasks])
        keeper = _Keeper(folder, workshop, screen)
        pool = make_pool(machine, jobs, environment)
        with screen.showing(runs, jobs):
            stopped = pool.run(
                tasks,
                started=keeper.started,
                ended=keeper.ended,
                waiting=screen.waiting,
                renewed=workshop.renewed,
                tick=screen.tick,
            )
        return Result([workshop.look(run.setting, run.seed) for run in runs], stopped)


class _Keeper:
    """Writes down what became of each process."""

    def __init__(self, folder: StudyFolder, workshop: Workshop, screen: Screen):
        self.folder = folder
        self.workshop = workshop
        self.screen = screen

    def started(self, task: Task) -> None:
        for run in task.runs:
            self.folder.failure(run.slug(), run.seed).unlink(missing_ok=True)
        self.screen.started(task)

    def ended(self, one: Running, code: int) -> list[Task]:
        """What is to be done next for its runs."""
        task = one.task
        if task.evaluation is not None:
            kept = code == 0 and self.workshop.keep_scores(task, one.started.printed())
            run = task.runs[0]
            if not kept and code not in STOPPED:
                self._died(task, run, code)
            self.screen.ended(task, self._now(run), one)
            return []
        more: list[Task] = []
        for before in task.runs:
            run = self._now(before)
            if run.status == "done":
                more += self.workshop.evaluations(run)
            elif code not in STOPPED:
                self._died(task, run, code)
            self.screen.ended(task, self._now(run), one)
        return more

    def _now(self, run: StudyRun) -> StudyRun:
        return self.workshop.look(run.setting, run.seed)

    def _died(self, task: Task, run: StudyRun, code: int) -> None:
        text = obituary(task.name(), how_it_ended(code), task.log)
        write_atomically(self.folder.failure(run.slug(), run.seed), text)
