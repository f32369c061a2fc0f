"""The plan of a study for people: every run, time and memory, and the exact commands."""

import shlex
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from eqcrl.jobs.machine import RUNTIME_BYTES, Machine
from eqcrl.jobs.processes import EXIT_CODES
from eqcrl.jobs.runs import last_words
from eqcrl.jobs.setting import Setting
from eqcrl.jobs.sizes import Sized
from eqcrl.plan import human_bytes, human_count
from eqcrl.progress import human_seconds
from eqcrl.studies.folder import StudyFolder
from eqcrl.studies.running import Result, Together, together
from eqcrl.studies.spec import Study
from eqcrl.studies.work import Workshop


def _side_by_side(study: Study, machine: Machine, sized: Mapping[str, Sized], jobs: int | None) -> int:
    seeds = len(study.seeds)
    if together("auto", machine):
        return jobs or machine.side_by_side([seeds * s.bytes for s in sized.values()])
    return jobs or machine.side_by_side([s.bytes for s in sized.values() for _ in range(seeds)])


def _total_seconds(study: Study, sized: Mapping[str, Sized]) -> float | None:
    seconds = [s.seconds for s in sized.values()]
    return None if any(s is None for s in seconds) else len(study.seeds) * sum(s for s in seconds if s is not None)


def plan_json(
    study: Study, settings: Sequence[Setting], machine: Machine, sized: Mapping[str, Sized], jobs: int | None
) -> dict[str, Any]:
    """The plan as numbers: bytes and seconds."""
    return {
        "study": study.name,
        "scale": study.scale,
        "device": machine.device,
        "seeds": list(study.seeds),
        "jobs": _side_by_side(study, machine, sized, jobs),
        "total_seconds": _total_seconds(study, sized),
        "runs": [
            {
                "setting": s.slug,
                "seed": seed,
                "axes": dict(s.values),
                "settings": {"preset": s.preset, **s.overrides},
                "bytes": sized[s.slug].bytes,
                "parameters": sized[s.slug].parameters,
                "env_steps": sized[s.slug].env_steps,
                "grad_steps": sized[s.slug].grad_steps,
                "seconds": sized[s.slug].seconds,
            }
            for s in settings
            for seed in study.seeds
        ],
    }


def print_plan(
    console: Console,
    study: Study,
    settings: Sequence[Setting],
    machine: Machine,
    sized: Mapping[str, Sized],
    jobs: int | None,
) -> None:
    """One row for each setting: its seeds cost the same."""
    console.print(f"{study.title}" + (f" (scale {study.scale})" if study.scale else ""), style="bold", markup=False)
    if study.question:
        console.print(study.question, highlight=False, markup=False)
    table = Table(box=None, header_style="bold")
    for axis in study.axes:
        table.add_column(axis, overflow="fold")
    for name in ("runs", "env steps", "gradient steps", "batch", "parameters", "memory", "time of one"):
        table.add_column(name, justify="right")
    table.add_column("")
    limit = machine.device_bytes
    for setting in settings:
        size = sized[setting.slug]
        beyond = limit is not None and size.bytes > limit
        table.add_row(
            *(str(v).lower() if isinstance(v, bool) else str(v) for v in setting.values.values()),
            str(len(study.seeds)),
            human_count(size.env_steps),
            human_count(size.grad_steps),
            str(size.batch_size),
            human_count(size.parameters),
            human_bytes(size.bytes),
            human_seconds(size.seconds) if size.seconds is not None else "-",
            "does not fit" if beyond else "",
        )
    console.print(table)
    common = {"preset": study.preset, **study.settings}
    console.print("common: " + ", ".join(f"{k} = {v}" for k, v in common.items()), highlight=False, markup=False)
    for evaluation in study.evaluations:
        console.print(f"evaluated at the end on: {evaluation.label}", highlight=False, markup=False)
    _print_totals(console, study, machine, sized, jobs)


def _print_totals(
    console: Console, study: Study, machine: Machine, sized: Mapping[str, Sized], jobs: int | None
) -> None:
    beside, total = _side_by_side(study, machine, sized, jobs), _total_seconds(study, sized)
    runs = len(sized) * len(study.seeds)
    how = ", the seeds of a setting as one program" if together("auto", machine) and len(study.seeds) > 1 else ""
    console.print(
        f"{runs} runs on {machine.device}, {beside} side by side{how}; seeds {', '.join(map(str, study.seeds))}.",
        highlight=False,
    )
    memory = machine.host_bytes
    if not machine.accelerated() and memory is not None:
        console.print(
            f"Memory: {human_bytes(memory)}; each process takes about {human_bytes(RUNTIME_BYTES)} beside its plan.",
            highlight=False,
        )
    if total is not None:
        console.print(
            f"Time, compiling apart: {human_seconds(total)} one after another, about "
            f"{human_seconds(total / beside)} side by side.",
            highlight=False,
        )


def print_commands(
    console: Console,
    folder: StudyFolder,
    study: Study,
    settings: Sequence[Setting],
    machine: Machine,
    sized: Mapping[str, Sized],
    vmap_seeds: Together,
    retry: bool,
) -> None:
    """What `eqcrl study run` would start now, as commands."""
    workshop = Workshop(folder, study, {k: s.bytes for k, s in sized.items()}, together=together(vmap_seeds, machine))
    runs = folder.runs_of(study, settings)
    tasks = workshop.tasks(runs, retry=retry)
    for task in tasks:
        console.print(shlex.join(["eqcrl", *task.arguments]), highlight=False, markup=False, soft_wrap=True)
    done = sum(run.status == "done" for run in runs)
    console.print(
        f"{len(tasks)} process{'' if len(tasks) == 1 else 'es'}; {done} of {len(runs)} runs are done.", highlight=False
    )


def print_end(console: Console, folder: StudyFolder, result: Result) -> int:
    """What there is now, what died and how to go on; returns the exit code."""
    done = sum(run.status == "done" for run in result.runs)
    dead = [run for run in result.runs if run.message]
    console.print(f"{done} of {len(result.runs)} runs are done, in {folder.path}", highlight=False, soft_wrap=True)
    if dead:
        table = Table(title="Died", title_justify="left")
        for name in ("run", "last words"):
            table.add_column(name, overflow="fold")
        for run in dead:
            table.add_row(run.name(), last_words(run.message))
        console.print(table)
        console.print(
            f"In full: {folder.path / 'failed'}. `eqcrl study run ... --retry` tries them again, from their newest "
            "checkpoint if they have one; to begin one anew remove its run directory.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if result.stopped_by is not None:
        console.print(
            f"Stopped by {signal.Signals(result.stopped_by).name}; the same command goes on.", highlight=False
        )
        return EXIT_CODES[signal.Signals(result.stopped_by)]
    if done == len(result.runs) and not dead:
        console.print(f"`eqcrl study report {folder.path}` shows the result.", highlight=False, soft_wrap=True)
    return 0 if done == len(result.runs) and not dead else 1
