"""How many threads XLA gets on a small CPU."""

import os

from jax._src import xla_bridge

from eqcrl.jobs.machine import cores

ENOUGH, VARIABLE = 8, "NPROC"


def enough_threads() -> None:
    """More threads than cores where those are few, for the pool that XLA makes when this process first uses a device.

    With two, long scans over bodies in contact, as MJX has them, were seen to stop for good (jaxlib 0.10.2): all
    threads wait for one another. What the environment says already is kept.
    """
    if not xla_bridge.backends_are_initialized() and len(cores()) < ENOUGH:
        os.environ.setdefault(VARIABLE, str(ENOUGH))
