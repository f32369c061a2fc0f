"""Compiled programs kept on disk, so that the second start of a run compiles nothing."""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from platformdirs import user_cache_path

SWITCH = "EQCRL_COMPILE_CACHE"
"""Environment variable: a folder to keep compiled programs in, or `off`."""
LIMIT_BYTES = 2 * 2**30
"""The least recently used programs go when the folder is larger."""


def folder() -> Path:
    """Where programs of this kind of machine are kept.

    Compiled code holds instructions of the processor it was made for. Homes are shared between the machines of a
    cluster, so each kind has a folder of its own.
    """
    kind = hashlib.sha256("\n".join([platform.machine(), _processor(), version("jaxlib")]).encode()).hexdigest()[:12]
    return user_cache_path("eqcrl", appauthor=False) / "compiled" / kind


def turn_on() -> Path | None:
    """Keep compiled programs from now on, and use what is kept. Returns the folder, None if that is switched off.

    A cache that the user gave JAX, by its own settings or variables, is left as it is. Programs that call back to
    the host, such as rollouts on the C engine of MuJoCo, are never kept: they hold addresses of this process.
    """
    settings: Any = jax.config  # its attributes are made at run time
    asked = os.environ.get(SWITCH, "")
    if asked.lower() == "off" or not settings.jax_enable_compilation_cache:
        return None
    given = settings.jax_compilation_cache_dir
    if given is not None:
        return Path(given)
    chosen = Path(asked).expanduser() if asked else folder()
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    jax.config.update("jax_compilation_cache_max_size", LIMIT_BYTES)
    # Small programs too: a run has dozens, and together they take as long as the large ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # JAX decides at its first compilation whether there is a cache, and something small may have been compiled before.
    compilation_cache.reset_cache()
    return chosen


def _processor() -> str:
    """Model and instruction sets of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(wanted))
