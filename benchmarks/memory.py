"""Peak resident memory of a training process, stage by stage.

    python -m benchmarks.memory [--depth 1024 --width 256 --batch-size 256 --remat auto --updates 2 --epochs 2]
    python -m benchmarks.memory --bar 5          # non-zero exit if the peak is 5 GiB or more

The training runs in a process of its own, so that nothing else counts; the peak is what the kernel saw
(`ru_maxrss`), imports, compiler and all. With `--command` it measures any other command instead:

    python -m benchmarks.memory --command eqcrl train --arch resnet-1024 ...
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GIB_IN_KIB = 2**20


def peak_gib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB_IN_KIB


def train_and_watch(arguments: argparse.Namespace) -> None:
    """The training, printing one JSON object per stage; the order and the donation are the trainer's."""
    started = time.perf_counter()

    def stage(name: str, **extra: Any) -> None:
        seconds = round(time.perf_counter() - started, 1)
        print(json.dumps({"stage": name, "peak_gib": round(peak_gib(), 3), "seconds": seconds, **extra}), flush=True)

    import equinox as eqx  # here, so that the measuring process stays small
    import jax

    from benchmarks import cases
    from eqcrl import epoch as ep
    from eqcrl.programs import update_options

    algorithm = cases.algorithm(
        arguments.depth,
        arguments.width,
        arguments.batch_size,
        arch__remat=arguments.remat,
        train__updates_per_epoch=arguments.updates,
        replay__capacity=10_000,
    )
    stage("import")
    state = jax.block_until_ready(eqx.filter_jit(ep.init)(algorithm, key=jax.random.key(0)))
    stage("init")
    state = jax.block_until_ready(eqx.filter_jit(ep.collect, donate="all-except-first")(algorithm, state))
    stage("collect")
    lowered = jax.jit(lambda state: ep.epoch(algorithm, state), donate_argnums=0).lower(state)
    compiled = lowered.compile(compiler_options=update_options(algorithm))
    stage("compile epoch", **cases.memory(compiled))
    for number in range(arguments.epochs):
        state, _ = jax.block_until_ready(compiled(state))
        stage(f"epoch {number + 1}")


def measure(command: list[str]) -> tuple[int, float, str]:
    """Exit status, peak resident GiB and output of a command and of what it starts and waits for."""
    # A process between this one and the command, because ru_maxrss of children is a maximum over all of them.
    code = (
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]); "
        "print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    lines = done.stdout.splitlines()
    peak = next(int(line.split()[1]) for line in reversed(lines) if line.startswith("PEAK "))
    return done.returncode, peak / GIB_IN_KIB, "\n".join(line for line in lines if not line.startswith("PEAK "))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Peak resident memory of a training.")
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--remat", default="auto")
    parser.add_argument("--updates", type=int, default=2, help="gradient steps per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--bar", type=float, help="GiB that the peak must stay below")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--command", nargs=argparse.REMAINDER, help="measure this command instead")
    arguments = parser.parse_args()
    if arguments.inside:
        train_and_watch(arguments)
        return
    own = [sys.executable, "-m", "benchmarks.memory", "--inside", *sys.argv[1:]]
    status, peak, output = measure(arguments.command or own)
    print(output)
    print(f"peak resident memory: {peak:.2f} GiB")
    if arguments.json:
        stages = [] if arguments.command else [json.loads(line) for line in output.splitlines()]
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"command": arguments.command, "peak_gib": peak, "stages": stages}))
    if status:
        raise SystemExit(f"the command failed with exit status {status}")
    if arguments.bar is not None and peak >= arguments.bar:
        raise SystemExit(f"that is not below {arguments.bar} GiB")


if __name__ == "__main__":
    main()
