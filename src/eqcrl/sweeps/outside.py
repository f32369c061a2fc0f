"""A sweep seen, and stopped, by someone who does not run it."""

from eqcrl.errors import RunError, UsageError
from eqcrl.jobs.runs import held
from eqcrl.launchers.base import Kind
from eqcrl.launchers.find import make_launcher
from eqcrl.lock import claimed
from eqcrl.sweeps.folder import SweepFolder
from eqcrl.sweeps.standing import Standing, look


def look_from_outside(folder: SweepFolder) -> Standing:
    """Where a sweep stands; a cluster is asked for its jobs where that is possible.

    Raises: UsageError if this is no sweep folder; RunError, ConfigError, PluginError.
    """
    sweep, jobs = folder.sweep(), folder.jobs()
    kinds: dict[str, Kind] = {}
    if jobs:
        launcher = make_launcher(sweep.launcher, sweep.launcher_settings)
        try:
            launcher.check()
        except (RunError, UsageError):  # from another machine than the cluster's: what lies in the folder is shown
            pass
        else:
            states = launcher.states(list(jobs.values()))
            kinds = {run: states[job].kind for run, job in jobs.items()}
    return look(folder, sweep, folder.trials(), kinds, {})


def stop(folder: SweepFolder) -> int | None:
    """Ask whoever runs the sweep to stop; None if someone does, else how many jobs that outlived it were cancelled.

    Raises: UsageError if this is no sweep folder, or its launcher cannot be used here; RunError.
    """
    sweep = folder.sweep()
    if is_busy(folder):
        folder.stop_file.touch()
        return None
    with claimed(folder.path, "sweep"):
        jobs = folder.jobs()
        launcher = make_launcher(sweep.launcher, sweep.launcher_settings)
        if not jobs or not launcher.lasting():
            return 0
        launcher.check()
        states = launcher.states(list(jobs.values()))
        active = [job for job in jobs.values() if not states[job].over()]
        launcher.cancel(active)
        return len(active)


def is_busy(folder: SweepFolder) -> bool:
    """Whether a process runs the sweep."""
    return held(folder.path)
