"""How much memory there is to compute in, and whether a run fits: refused before anything is compiled."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import jax

from eqcrl.agents.base import AbstractAgent
from eqcrl.assemble import assemble
from eqcrl.config import PART_KINDS, Config, Part
from eqcrl.errors import ConfigError
from eqcrl.nn.stacked import Remat
from eqcrl.plan import Plan, human_bytes, make_plan

POLICIES: tuple[Remat, ...] = get_args(Remat)
"""From what is computed least to what is kept least."""


@dataclass(frozen=True)
class Memory:
    """Bytes that arrays may take, and what sets the limit."""

    bytes: int
    limit: str


def device_memory() -> Memory | None:
    """Memory of the device that JAX computes on; None where nobody tells.

    Of an accelerator what its allocator may take; on a CPU the machine's, or less where a control group limits this
    process.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return machine_memory()
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None:
        return None
    return Memory(int(limit), f"what JAX may take of the {device.device_kind}, see XLA_PYTHON_CLIENT_MEM_FRACTION")


def machine_memory(root: Path = Path("/")) -> Memory | None:
    """The main memory of this machine, or the limit of the control group; `root` is that of the file system."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system tells
        found.append(Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the memory of this machine"))
    limit = control_group_limit(root)
    if limit is not None:
        found.append(Memory(limit, "the limit of this process's control group"))
    return min(found, key=lambda memory: memory.bytes, default=None)


def control_group_limit(root: Path = Path("/")) -> int | None:
    """The smallest memory limit of the control groups, v1 or v2, that this process is in; None without one."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # A limit further up holds too. In a container the path may be the host's, and only the top is there.
        inside = PurePosixPath(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            try:
                text = (base / folder / name).read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if text.isdecimal():  # `max` is no limit
                limits.append(int(text))
    return min(limits, default=None)


def refuse_beyond(config: Config, plan: Plan, memory: Memory | None) -> None:
    """Nothing, if the plan of a run fits into memory, or if that is not known.

    Raises: ConfigError with what would fit.
    """
    if memory is None or plan.total_bytes() <= memory.bytes:
        return
    raise ConfigError(
        f"The plan needs {human_bytes(plan.total_bytes())} and there are {human_bytes(memory.bytes)}, {memory.limit}: "
        f"networks and Adam {human_bytes(plan.agent_bytes)}, gradients and activations "
        f"{human_bytes(plan.working_bytes)}, replay {human_bytes(plan.replay_bytes)}"
        f"{' and as much to save it from (--checkpoint.replay false does without)' if plan.mirror_bytes else ''}.",
        mend=_what_fits(config, plan, memory.bytes),
    )


def _what_fits(config: Config, plan: Plan, available: int) -> str:
    """The setting nearest to what was asked for with which the plan fits, or which part is too large."""
    if plan.seeds > 1 and (seeds := _seeds_that_fit(plan, available)):
        fewer = make_plan(config, assemble(config), seeds).total_bytes()
        return f"With --num-seeds {seeds} it needs {human_bytes(fewer)}; train the other seeds after them."
    fixed = plan.agent_bytes + plan.replay_bytes + plan.mirror_bytes
    size = config.train.batch_size
    choices = {"": assemble(config).algorithm.agent, **_agents_by_policy(config)}

    def needed(flags: str, batch: int) -> int:
        return fixed + plan.seeds * 4 * choices[flags].working_floats(plan.spec, batch)

    for flags in choices:
        if flags and needed(flags, size) <= available:
            return f"With {flags} it needs {human_bytes(needed(flags, size))}."
    rows = _rows_that_fit(config, plan, available)
    largest = max(plan.agent_bytes, plan.working_bytes, plan.replay_bytes)
    if rows is not None and plan.replay_bytes == largest:
        return rows
    leanest = min(choices, key=lambda flags: needed(flags, size))
    batch = size // 2
    while batch >= 2 and fixed < available:
        for flags in dict.fromkeys(("", leanest)):
            if needed(flags, batch) <= available:
                both = f"--train.batch-size {batch} {flags}".strip()
                return f"With {both} it needs {human_bytes(needed(flags, batch))}."
        batch //= 2
    if rows is not None:
        return rows
    if plan.replay_bytes == largest:
        return "The replay is too large: lower replay.capacity or train.num_envs."
    return "Networks, optimizers and gradients alone are too large: lower the width or the depth."


def _seeds_that_fit(plan: Plan, available: int) -> int:
    """The largest number of seeds with which the plan fits; 0 if a single one does not."""
    return available * plan.seeds // plan.total_bytes()


def _agents_by_policy(config: Config) -> dict[str, AbstractAgent]:
    """The agent under every remat policy that its architectures have, by the flags that choose it.

    A schedule that keeps everything whatever the policy, as on accelerators, is then exchanged for one that does not.
    """
    fields = [f for f, kind in PART_KINDS.items() if kind == "arch" and "remat" in _params(config, f)]
    schedules = ("", "merged") if "schedule" in config.agent.params else ("",)
    found = {}
    for schedule in schedules:
        for policy in POLICIES if fields else ():
            changed = {f: Part(getattr(config, f).name, _params(config, f) | {"remat": policy}) for f in fields}
            flags = [f"--{f.replace('_', '-')}.remat {policy}" for f in fields]
            if schedule:
                changed["agent"] = Part(config.agent.name, config.agent.params | {"schedule": schedule})
                flags.append(f"--agent.schedule {schedule}")
            try:
                agent = assemble(config.replace(**changed)).algorithm.agent
            except ConfigError:  # an architecture with policies of its own
                continue
            found[" ".join(flags)] = agent
    return found


def _params(config: Config, field: str) -> dict[str, Any]:
    part = getattr(config, field)
    return {} if part is None else part.params


def _rows_that_fit(config: Config, plan: Plan, available: int) -> str | None:
    """The largest replay.capacity with which the plan fits; None if that is too small to learn from."""
    row = (plan.replay_bytes + plan.mirror_bytes) / config.replay.capacity
    capacity = int((available - plan.agent_bytes - plan.working_bytes) / row)
    least = max(config.replay.min_filled, config.train.unroll_length)
    if capacity < least:
        return None
    digit = 10 ** max(len(str(capacity)) - 2, 0)
    capacity = max(capacity // digit * digit, least)
    needed = plan.agent_bytes + capacity * row + plan.working_bytes
    return f"With --replay.capacity {capacity} it needs {human_bytes(needed)}."
