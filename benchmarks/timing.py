"""Stopwatches."""

import time
from collections.abc import Callable
from typing import Any


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call, which must return only when its result is there."""
    return wall_and_cpu(call)[0]


def wall_and_cpu(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall time, and processor time of all threads of this process, which other processes hardly disturb."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu
