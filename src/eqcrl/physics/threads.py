"""How many threads XLA gets on a small CPU."""

import os

from jax._src import xla_bridge

ENOUGH, VARIABLE = 8, "NPROC"


def enough_threads() -> None:
    """More threads than a small CPU has cores, for the pool that XLA makes when this process first uses a device.

    With two, long scans over bodies in contact, as MJX has them, were seen to stop for good (jaxlib 0.10.2): all
    threads wait for one another. What the environment says already is kept.
    """
    if not xla_bridge.backends_are_initialized() and (os.cpu_count() or 1) < ENOUGH:
        os.environ.setdefault(VARIABLE, str(ENOUGH))
