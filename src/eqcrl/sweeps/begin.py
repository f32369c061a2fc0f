"""What happens before the first run of a sweep: everything is checked, nothing is compiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from eqcrl.errors import ConfigError, UsageError
from eqcrl.jobs import sizes
from eqcrl.jobs.machine import Machine
from eqcrl.jobs.setting import Setting
from eqcrl.launchers.base import AbstractLauncher, Site
from eqcrl.launchers.find import make_launcher
from eqcrl.lock import claimed
from eqcrl.sweeps.folder import SweepFolder, Trial
from eqcrl.sweeps.methods import AbstractMethod, Grid, check_method, make_method
from eqcrl.sweeps.running import Conductor, Result
from eqcrl.sweeps.screen import Screen
from eqcrl.sweeps.space import corners
from eqcrl.sweeps.spec import Sweep


@dataclass(frozen=True)
class Sizes:
    """The machine, and the bytes of the largest setting that was looked at."""

    machine: Machine
    bytes: int


def check(sweep: Sweep, folder: SweepFolder, *, detach: bool) -> AbstractLauncher:
    """All that can be told without looking at the parts. Raises: UsageError, ConfigError, RunError, PluginError."""
    folder.refuse_foreign(sweep)
    check_method(sweep)
    launcher = make_launcher(sweep.launcher, sweep.launcher_settings)
    launcher.check()
    if detach and (not launcher.lasting() or sweep.method == "optuna"):
        why = "the launcher's jobs end with the sweep" if not launcher.lasting() else "Optuna waits for scores"
        raise UsageError(f"--detach: {why}.", mend="Leave it out.")
    probes(sweep)
    folder.refuse_busy()
    return launcher


def probes(sweep: Sweep) -> list[Setting]:
    """Settings that stand for all: every one of a grid, the corners of anything else as far as they can work.

    Raises: ConfigError if one of a grid cannot work, or no corner can.
    """
    if sweep.method == "grid":
        grid = Grid(sweep)
        return [grid.next(number).setting for number in range(sweep.trials)]
    found, error = [], None
    for number, corner in enumerate(corners(sweep.axes)):
        try:
            found.append(sweep.setting(f"corner {number}", corner, validate=True))
        except ConfigError as problem:
            error = error or problem
    if error is not None and not found:
        raise error
    return found


def measure(sweep: Sweep, heard: Callable[[int, int], None]) -> Sizes:
    """Sizes, asked of a process that looks at the device and at every part. Raises: ConfigError, PluginError, RunError.

    `heard` is called with how many settings are known, and how many there are.
    """
    settings = probes(sweep)
    machine, sized = sizes.measure(sweep, settings, heard=lambda count: heard(count, len(settings)))
    return Sizes(machine, max(one.bytes for one in sized.values()))


def settled(sweep: Sweep, folder: SweepFolder, *, retry: bool) -> bool:
    """Whether nothing is left to do."""
    if not folder.sweep_file.is_file():
        return False
    trials = folder.trials()
    over = ("done",) if retry else ("done", "dead")
    return len(trials) >= sweep.trials and all(
        folder.look(trial, seed).status in over for trial in trials for seed in sweep.seeds
    )


def run_sweep(
    folder: SweepFolder,
    sweep: Sweep,
    launcher: AbstractLauncher,
    sized: Sizes,
    console: Console,
    *,
    retry: bool,
    detach: bool,
) -> Result:
    """Begin or continue every run; what is done is left alone, what died too unless `retry`.

    Raises: UsageError if the folder holds another sweep; RunError if another process runs it, the disk refuses, or the
    launcher takes no jobs; ConfigError.
    """
    folder.refuse_foreign(sweep)
    folder.make()
    with claimed(folder.path, "sweep"):
        sweep = folder.begin(sweep)
        screen = Screen(console, sweep)
        conductor = Conductor(folder, sweep, launcher, make_method(sweep, folder), screen)
        left = conductor.prepare(retry=retry)
        conductor.bytes = sized.bytes + sized.machine.overhead()
        count = len(left) + (sweep.trials - len(conductor.trials)) * len(sweep.seeds)
        launcher.open(Site(sweep.name, folder.path.resolve(), sized.machine, (sized.bytes,) * count))
        with screen.showing(left):
            conductor.adopt()
            return conductor.run(detach=detach)


def first_trials(sweep: Sweep, folder: SweepFolder) -> Sequence[Trial]:
    """Those that a sweep would begin with: all of a grid or of a random search, and of Optuna those that there are."""
    known = folder.trials()
    if sweep.method == "optuna":
        return known
    method: AbstractMethod = make_method(sweep, folder)
    return [*known, *(method.next(number) for number in range(len(known), sweep.trials))]
