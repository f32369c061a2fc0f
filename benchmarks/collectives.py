"""What devices send each other in a gradient step, read from compiled programs, and what that would cost on GPUs.

    python -m benchmarks.collectives [--depths 64 1024] [--devices 2 4 8] [--schedule abreast] [--json PATH]

Compiles one gradient step (sampling from the replay included) at a humanoid's sizes, width 256, batch 512, for so many
simulated CPU devices, and lists the collectives of the optimized program with their bytes; inside of loops, times the
trips. Then the table of docs/scaling.md: what that is expected to take, from the counts and the figures of `Machine`.
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.aot.hlo import BODY, BRANCH, BRANCHES, CALLED, TRIPS, computations_of

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
ENTRY = re.compile(r"^ENTRY %?([\w.\-]+) ", re.MULTILINE)


@dataclass(frozen=True)
class Collective:
    """One instruction; the arrays are its results, of which it may have several."""

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    times: int
    """How often it runs when the program runs once."""

    def bytes(self, devices: int) -> int:
        """Of the whole that is reduced, gathered or exchanged, when it runs once."""
        size = sum(array_bytes(array) for array in self.arrays)
        return size * devices if self.kind == "reduce-scatter" else size

    def sent(self, devices: int) -> float:
        """Bytes that each device sends when it runs once, along a ring."""
        passes = {"all-reduce": 2.0, "collective-permute": devices / (devices - 1)}.get(self.kind, 1.0)
        return passes * self.bytes(devices) * (devices - 1) / devices


def array_bytes(array: tuple[str, tuple[int, ...]]) -> int:
    """Of an array given by type and shape."""
    count = 1
    for size in array[1]:
        count *= size
    return count * BYTES[array[0]]


def collectives(text: str) -> list[Collective]:
    """Every collective of an optimized module, with how often it runs. Of branches, those of all count.

    Raises: ValueError for a text without an entry, a loop whose trips XLA does not know around a collective, and for
    asynchronous pairs, which a GPU has.
    """
    computations, entry = computations_of(text), ENTRY.search(text)
    if entry is None:
        raise ValueError("this text has no ENTRY computation; is it the text of an optimized HLO module?")

    def inside(name: str, times: int) -> Iterator[Collective]:
        for opcode, line in computations[0].get(name, []):
            if opcode.removesuffix("-start") in KINDS:
                if opcode not in KINDS:
                    raise ValueError(f"an asynchronous collective: {line.strip()[:200]}")
                result = line.split(" = ", 1)[1].split(f" {opcode}(", 1)[0]
                yield Collective(opcode, arrays_of(result), times)
            elif opcode == "while":
                trips = TRIPS.search(line)
                found = list(inside(BODY.search(line)[1], times * int(trips[1]) if trips else times))  # type: ignore[index]
                if found and trips is None:
                    raise ValueError(f"collectives in a loop of unknown length: {line.strip()[:200]}")
                yield from found
            elif opcode == "conditional":
                listed = BRANCHES.search(line)
                for branch in re.findall(r"[\w.\-]+", listed[1]) if listed else BRANCH.findall(line):
                    yield from inside(branch, times)
            elif opcode == "call":
                yield from inside(CALLED.search(line)[1], times)  # type: ignore[index]

    return list(inside(entry[1], 1))


def arrays_of(shape: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Types and shapes in the text of a shape, a tuple's too."""
    return tuple((kind, tuple(map(int, filter(None, sizes.split(","))))) for kind, sizes in ARRAY.findall(shape))


@dataclass(frozen=True)
class Step:
    """The collectives of one gradient step."""

    depth: int
    devices: int
    parameter_bytes: int
    replay_bytes: int
    found: tuple[Collective, ...]

    def rows(self) -> Iterator[tuple[str, int, float]]:
        """Kind, how many run, bytes of them all."""
        for kind in KINDS:
            ran = [c for c in self.found if c.kind == kind]
            if ran:
                yield kind, sum(c.times for c in ran), sum(c.times * c.bytes(self.devices) for c in ran)


def gradient_step(depth: int, width: int, batch: int, envs: int, **settings: Any) -> tuple[Callable[..., Any], Any]:
    """One gradient step on a fresh batch at a humanoid's sizes, and the shapes that it takes."""
    import jax

    from benchmarks import cases
    from benchmarks.aot.programs import HUMANOID
    from eqcrl import replay as rb

    algorithm = cases.algorithm(depth, width, batch, **settings)
    state = jax.eval_shape(lambda key: algorithm.agent.init(HUMANOID, key=key), jax.random.key(0))
    replay = jax.eval_shape(lambda: rb.empty(HUMANOID, algorithm.capacity, envs))
    key = jax.eval_shape(lambda: jax.random.key(0))

    def step(state: Any, replay: rb.Replay, key: Any) -> tuple[Any, Any]:
        sample_key, update_key = jax.random.split(key)
        return algorithm.agent.update(state, algorithm.sample(replay, key=sample_key), key=update_key)

    return step, (state, replay, key)


def measure(depth: int, devices: int, width: int = 256, batch: int = 512, envs: int = 512, **settings: Any) -> Step:
    """Compile for the first so many devices that JAX has, and read the program."""
    import jax

    from eqcrl.checkpoint import nbytes
    from eqcrl.parallel import WHOLE, place

    step, shapes = gradient_step(depth, width, batch, envs, **settings)
    compiled = place(devices).lower(step, *shapes, out=(shapes[0], WHOLE), donate=True).compile()
    nets = [getattr(shapes[0], name) for name in ("actor", "critic")]
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(nets))
    return Step(depth, devices, parameters, nbytes(shapes[1].data), tuple(collectives(compiled.as_text() or "")))


@dataclass(frozen=True)
class Machine:
    """Figures of a cluster of H100, and the model. All are nominal or estimates; nothing was timed on one."""

    launch: float = 3.2e-6
    """Seconds for each kernel launched: between the 2.5 and 4 of `benchmarks.aot`."""
    arithmetic: float = 40e12
    """Operations in float32 a second that a kernel reaches, of 67e12 that the card has."""
    nvlink: float = 450e9
    """Bytes a second in each direction, NVLink 4."""
    infiniband: float = 50e9
    """Bytes a second for each GPU, NDR."""
    node: int = 8
    """GPUs that NVLink joins."""
    hop: float = 5e-6
    """Seconds that a collective takes for each doubling of the devices, whatever its size."""

    def compute(self, depth: int, rows: int, batch: int, width: int = 256) -> float:
        """Seconds of a gradient step on one device: kernels one after the other, each a launch or its products.

        Launches a layer as counted for an H100 (docs/performance.md): 11.7 at depth 64, 10.1 at 1024. Eleven walks
        (four forward, four back to inputs, three back to parameters) of 2 rows width^2 operations a layer; and each
        row against the whole batch, forward and back, in 64 dimensions.
        """
        launches = (11.7 if depth < 256 else 10.1) * depth
        layers, contrast = 11 * 2 * rows * width**2 * depth, 7 * rows * batch * 64
        return launches * max(self.launch, layers / launches / self.arithmetic) + contrast / self.arithmetic

    def exchange(self, devices: int, sizes: Sequence[tuple[str, int, float]]) -> float:
        """Seconds of the collectives (kind, how many, bytes in all), nothing of them behind computing.

        Within a node along a ring; between nodes each GPU has a share 1 / node of it to send.
        """
        inner, outer = min(devices, self.node), max(devices // self.node, 1)
        seconds = 0.0
        for kind, count, size in sizes:
            passes = 2.0 if kind == "all-reduce" else 1.0
            seconds += passes * size * (inner - 1) / inner / self.nvlink
            seconds += passes * size / inner * (outer - 1) / outer / self.infiniband
            seconds += count * self.hop * (devices - 1).bit_length()
        return seconds


def at_batch(step: Step, batch: int, rows: int) -> list[tuple[str, int, float]]:
    """The collectives of a step of `batch` rows at another number of rows: what is no gradient grows with them."""
    grown = []
    for kind, count, size in step.rows():
        fixed = min(size, step.parameter_bytes) if kind == "all-reduce" else 0.0
        grown.append((kind, count, fixed + (size - fixed) * rows / batch))
    return grown


def forecast(step: Step, machine: Machine, batch: int = 512) -> Iterator[tuple[str, ...]]:
    """Rows of a table: weak scaling at `batch` rows a device, strong scaling of `batch` and of 8 times as many."""
    for name, total in (
        (f"weak, {batch} rows each", None),
        (f"strong, batch {batch}", batch),
        (f"strong, batch {8 * batch}", 8 * batch),
    ):
        one = machine.compute(step.depth, total or batch, total or batch)
        for devices in (8, 64):
            rows = batch if total is None else total // devices
            compute = machine.compute(step.depth, rows, rows * devices)
            exchange = machine.exchange(devices, at_batch(step, batch, rows * devices))
            faster = (one / (compute + exchange)) * (devices if total is None else 1)
            yield (
                str(step.depth),
                name,
                str(devices),
                f"{1e3 * compute:.2f}",
                f"{1e3 * exchange:.2f}",
                f"{faster:.1f} x",
                f"{100 * faster / devices:.0f}%",
            )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first two to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|---|" + "---:|" * (len(header) - 2)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main() -> None:
    """Compile, count, forecast."""
    parser = argparse.ArgumentParser(description="Collectives of a gradient step on several devices.")
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--schedule", choices=["abreast", "merged"], default="abreast")
    parser.add_argument("--json", type=Path, help="write the collectives there")
    arguments = parser.parse_args()
    flags = f"--xla_force_host_platform_device_count={max(arguments.devices)} --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    steps = [
        measure(depth, devices, agent__schedule=arguments.schedule)
        for depth in arguments.depths
        for devices in arguments.devices
    ]
    rows = []
    for step in steps:
        for kind, count, size in step.rows():
            sent = sum(c.times * c.sent(step.devices) for c in step.found if c.kind == kind)
            cells = (str(count), f"{size / 1e6:.3f}", f"{sent / 1e6:.3f}")
            rows.append((str(step.depth), kind, str(step.devices), *cells))
        rows.append((str(step.depth), "parameters", str(step.devices), "", f"{step.parameter_bytes / 1e6:.3f}", ""))
    print(markdown(("depth", "collective", "devices", "run", "MB", "MB sent by each"), rows), end="\n\n")
    deepest = [step for step in steps if step.devices == max(arguments.devices)]
    told = [row for step in deepest for row in forecast(step, Machine())]
    header = ("depth", "scaling", "GPUs", "computing, ms", "exchanging, ms", "faster than one", "efficiency")
    print(markdown(header, told))
    if arguments.json:
        found = [
            {
                "depth": step.depth,
                "devices": step.devices,
                "parameter_bytes": step.parameter_bytes,
                "collectives": [{"kind": c.kind, "arrays": c.arrays, "times": c.times} for c in step.found],
            }
            for step in steps
        ]
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
