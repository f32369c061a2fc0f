"""Compiling for an H100 on a machine without a GPU."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

H100 = Path(__file__).with_name("h100.txtpb")


@cache
def h100() -> SingleDeviceSharding:
    """One H100 that exists on paper: a target description, as XLA writes it on a machine that has the card.

    Raises: SystemExit without the CUDA plugin of JAX.
    """
    # The plugin would look for a driver; with the CPU as the platform it only registers its compiler.
    jax.config.update("jax_platforms", "cpu")
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=H100.read_text(encoding="utf-8"), topology="1x1x1"
        )
    except NotImplementedError as error:
        raise SystemExit(
            f"There is no compiler for CUDA here ({error}). `nox -s gpu-aot` makes an environment that has one: "
            "jax-cuda12-plugin and jax-cuda12-pjrt of the version of jax, and nvidia-cuda-nvcc-cu12."
        ) from error
    return SingleDeviceSharding(topology.devices[0])


@dataclass(frozen=True)
class Compiled:
    """An executable's text and memory, and what it took to make it, in seconds."""

    text: str
    temporaries: int
    trace: float
    compile: float
    compile_cpu: float


def compile_for_h100(function: Callable[..., Any], *shapes: Any) -> Compiled:
    """Trace and compile; the first argument is donated."""
    target = h100()
    jitted = jax.jit(function, donate_argnums=0, in_shardings=target, out_shardings=target)
    start = time.perf_counter()
    lowered = jitted.lower(*shapes)
    traced, before = time.perf_counter(), _cpu()
    executable = lowered.compile()
    done, after = time.perf_counter(), _cpu()
    memory = executable.memory_analysis()
    return Compiled(
        executable.as_text() or "", memory.temp_size_in_bytes, traced - start, done - traced, after - before
    )


def _cpu() -> float:
    """Processor time of this process and of the assemblers that it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
