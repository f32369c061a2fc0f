"""Everything worth knowing about one accelerator, in parts that do not depend on one another.

    python -m benchmarks.gpu [--smoke] [--out FOLDER] [--budget SECONDS] [--part NAME ...]

Each part runs in a process of its own, so that a crash, a lack of memory or a time limit costs that part only and
peak memory is the part's own. `--smoke` is the same program with tiny sizes, for any machine. Results, errors
included, go to gpu.json; the exit status is 1 if a part failed, after all of them have run.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import seconds

MARK = "RESULT "


@dataclass(frozen=True)
class Sizes:
    """How large the parts are."""

    depths: tuple[int, ...] = (4, 16, 64, 256, 1024)
    width: int = 256
    batch_size: int = 512
    rounds: int = 10
    num_envs: int = 512
    unroll_length: int = 62
    updates: int = 100
    capacity: int = 10_000
    tasks: tuple[str, ...] = ("ant-big-maze", "humanoid-big-maze", "arm-push-easy", "ant", "humanoid")


SMOKE = Sizes(
    depths=(4, 8),
    width=16,
    batch_size=8,
    rounds=2,
    num_envs=8,
    unroll_length=8,
    updates=2,
    capacity=200,
    tasks=("ant",),
)


class Clock:
    """Time left for a part."""

    def __init__(self, budget: float):
        self.end = time.monotonic() + budget

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def say(row: dict[str, Any]) -> dict[str, Any]:
    """Print a result as soon as it is there: what a time limit cuts off later is then not lost."""
    print(MARK + json.dumps(row), flush=True)
    return row


def device(sizes: Sizes, clock: Clock) -> None:
    """What it is."""
    import equinox
    import jax
    import jaxlib

    found = jax.devices()[0]
    say(
        {
            "platform": found.platform,
            "kind": found.device_kind,
            "count": jax.device_count(),
            "python": sys.version.split()[0],
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "equinox": equinox.__version__,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "matmul_precision": str(jax.config.jax_default_matmul_precision),
            "memory_stats": found.memory_stats(),
        }
    )


def timed(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Median, least and greatest of `rounds` calls after one to warm up."""
    call()
    times = [seconds(call) for _ in range(rounds)]
    return {"seconds": statistics.median(times), "least": min(times), "greatest": max(times)}


def gradient_step_ours(sizes: Sizes, clock: Clock) -> None:
    """Compile time, seconds and memory of a whole gradient step by depth; shallow first, so that peaks are theirs."""
    import jax

    from benchmarks import cases

    for depth in sizes.depths:
        algorithm = cases.algorithm(depth, sizes.width, sizes.batch_size)
        state, batch = cases.agent_state(algorithm), cases.batch(algorithm)
        start = time.perf_counter()
        step = cases.Updates(algorithm.agent, state, batch)
        compile_seconds = time.perf_counter() - start
        say(
            {
                "depth": depth,
                "compile_seconds": compile_seconds,
                **timed(step, sizes.rounds),
                "memory": cases.memory(step.compiled),
                "memory_stats": jax.devices()[0].memory_stats(),
            }
        )


WAYS: dict[str, dict[str, Any]] = {
    "tf32": {"agent__precision": "tf32"},
    "bf16": {"agent__precision": "bf16"},
    "merged": {"agent__schedule": "merged"},
    "fused": {"arch__depth_solver": "fused"},
    "sweeps, tf32": {"arch__depth_solver": "sweeps", "agent__precision": "tf32"},
}
"""Ways to take the gradient step beside the default, which on an accelerator goes abreast in fp32."""


def gradient_step_ways(sizes: Sizes, clock: Clock) -> None:
    """The same at two depths, by other schedules, precisions and depth solvers."""
    from benchmarks import cases

    for depth in sorted({sizes.depths[len(sizes.depths) // 2], sizes.depths[-1]}):
        for way, settings in WAYS.items():
            algorithm = cases.algorithm(depth, sizes.width, sizes.batch_size, **settings)
            start = time.perf_counter()
            step = cases.Updates(algorithm.agent, cases.agent_state(algorithm), cases.batch(algorithm))
            compile_seconds = time.perf_counter() - start
            row = {"depth": depth, "way": way, "compile_seconds": compile_seconds, **timed(step, sizes.rounds)}
            say(row | {"memory": cases.memory(step.compiled)})


def gradient_step_unrolled(sizes: Sizes, clock: Clock) -> None:
    """The same, unrolled, by the plain update.

    A depth whose predicted compile time (depth to the power 2) exceeds what is left is reported as not measured.
    """
    import jax

    from benchmarks import cases
    from benchmarks.baselines.unrolled import unroll

    last: tuple[int, float] | None = None
    for depth in sizes.depths:
        predicted = 0.0 if last is None else last[1] * (depth / last[0]) ** 2
        if predicted > clock.left():
            say({"depth": depth, "not_measured": f"compiling would take about {predicted:.0f} s"})
            continue
        algorithm = cases.algorithm(depth, sizes.width, sizes.batch_size)
        state, batch = unroll(cases.agent_state(algorithm)), cases.batch(algorithm)
        start = time.perf_counter()
        step = cases.Updates(cases.plain(algorithm).agent, state, batch)
        last = (depth, time.perf_counter() - start)
        say(
            {
                "depth": depth,
                "compile_seconds": last[1],
                **timed(step, sizes.rounds),
                "memory": cases.memory(step.compiled),
                "memory_stats": jax.devices()[0].memory_stats(),
            }
        )


def compile_epoch(sizes: Sizes, clock: Clock) -> None:
    """Trace plus compile time of the whole epoch: shallowest and deepest in turns, after one to warm up."""
    from benchmarks import cases

    depths = (sizes.depths[0], sizes.depths[-1])
    compilers = {d: cases.epoch_compiler(cases.algorithm(d, sizes.width, sizes.batch_size)) for d in depths}
    compilers[depths[0]]()
    times: dict[int, list[float]] = {d: [] for d in depths}
    for _ in range(3):
        for depth in depths:
            times[depth].append(seconds(compilers[depth]))
    medians = {d: statistics.median(times[d]) for d in depths}
    say({"seconds": medians, "deepest_to_shallowest": medians[depths[1]] / medians[depths[0]]})


def environment(sizes: Sizes, clock: Clock) -> None:
    """Environment steps per second, by number of copies, with random actions and with the shallowest network."""
    import equinox as eqx
    import jax

    from benchmarks import cases
    from eqcrl.rollout import rollout

    for num_envs in (sizes.num_envs, 8 * sizes.num_envs):
        algorithm = cases.algorithm(sizes.depths[0], sizes.width, 8, train__num_envs=num_envs)
        agents = {
            "policy": (algorithm.agent, cases.agent_state(algorithm)),
            "no policy": (cases.RandomPolicy(algorithm.env.env.action_size), ()),
        }
        state, key = jax.jit(algorithm.env.reset)(jax.random.key(0)), jax.random.key(1)
        for name, (agent, agent_state) in agents.items():
            run = eqx.filter_jit(
                lambda agent_state, state, key, env=algorithm.env, agent=agent: rollout(
                    env, agent, agent_state, state, sizes.unroll_length, key=key
                )
            )
            times = timed(
                lambda run=run, args=(agent_state, state, key): jax.block_until_ready(run(*args)), sizes.rounds
            )
            steps = num_envs * sizes.unroll_length
            say({"num_envs": num_envs, "with": name, "steps_per_second": steps / times["seconds"], **times})


def physics(sizes: Sizes, clock: Clock) -> None:
    """Environment steps per second of the MuJoCo tasks through the whole rollout, by engine, with compile times.

    MJX, and Warp where its package is installed. What no longer fits into the time is reported as not measured.
    """
    import jax

    from benchmarks import cases
    from eqcrl.assemble import build_env
    from eqcrl.config import Part
    from eqcrl.envs.mujoco import AbstractMujocoEnv
    from eqcrl.envs.wrap import BatchedEnv
    from eqcrl.rollout import rollout

    engines = ["mjx", *(["warp"] if importlib.util.find_spec("warp") else [])]
    slowest = 0.0
    for engine in engines:
        for name in sizes.tasks:
            for num_envs in (sizes.num_envs, 8 * sizes.num_envs):
                row = {"task": name, "engine": engine, "num_envs": num_envs}
                if clock.left() < 1.5 * slowest:
                    say(row | {"not_measured": "no time was left"})
                    continue
                began = time.perf_counter()
                env = build_env(Part(name, {"physics": engine}))
                assert isinstance(env, AbstractMujocoEnv)
                batched = BatchedEnv(env, num_envs)
                algorithm = cases.algorithm(sizes.depths[0], sizes.width, 8, env=name)
                agent_state, key = cases.agent_state(algorithm), jax.random.key(1)
                state = jax.jit(batched.reset)(jax.random.key(0))
                run = jax.jit(
                    lambda agent_state, state, key, batched=batched, agent=algorithm.agent: rollout(
                        batched, agent, agent_state, state, sizes.unroll_length, key=key
                    )
                )
                start = time.perf_counter()
                program = run.lower(agent_state, state, key).compile(compiler_options=env.engine().compiler_options())
                compile_seconds = time.perf_counter() - start
                times = timed(
                    lambda program=program, args=(agent_state, state, key): jax.block_until_ready(program(*args)), 3
                )
                steps = num_envs * sizes.unroll_length
                say(row | {"compile_seconds": compile_seconds, "steps_per_second": steps / times["seconds"], **times})
                slowest = max(slowest, time.perf_counter() - began)


def epoch_split(sizes: Sizes, clock: Clock) -> None:
    """Where an epoch's time goes: collecting, sampling batches, gradient steps; each as a program of its own."""
    import equinox as eqx
    import jax

    from benchmarks import cases
    from eqcrl import epoch as ep
    from eqcrl import replay as rb

    for depth in sorted({sizes.depths[0], sizes.depths[len(sizes.depths) // 2], sizes.depths[-1]}):
        algorithm = cases.algorithm(
            depth,
            sizes.width,
            sizes.batch_size,
            train__num_envs=sizes.num_envs,
            train__unroll_length=sizes.unroll_length,
            replay__capacity=sizes.capacity,
            train__updates_per_epoch=sizes.updates,
            replay__min_filled=sizes.unroll_length,
        )
        collect = eqx.filter_jit(ep.collect, donate="all-except-first")
        whole = eqx.filter_jit(ep.epoch, donate="all-except-first")

        @eqx.filter_jit
        def draw(algorithm: ep.Algorithm, replay: rb.Replay, key: Any) -> Any:
            def one(total: Any, key: Any) -> tuple[Any, None]:
                batch = algorithm.sample(replay, key=key)
                return jax.tree.map(lambda a, b: a + b, total, batch), None

            keys = jax.random.split(key, algorithm.updates)
            first = algorithm.sample(replay, key=key)
            return jax.lax.scan(one, first, keys)[0]

        held = {"state": eqx.filter_jit(ep.init)(algorithm, key=jax.random.key(0))}

        def run_collect(held=held, collect=collect, algorithm=algorithm) -> None:
            held["state"] = jax.block_until_ready(collect(algorithm, held["state"]))

        def run_draw(held=held, draw=draw, algorithm=algorithm) -> None:
            jax.block_until_ready(draw(algorithm, held["state"].replay, jax.random.key(1)))

        def run_whole(held=held, whole=whole, algorithm=algorithm) -> None:
            held["state"], _ = jax.block_until_ready(whole(algorithm, held["state"]))

        rounds = 2
        parts = {"collect": timed(run_collect, rounds)["seconds"], "sample": timed(run_draw, rounds)["seconds"]}
        parts["epoch"] = timed(run_whole, rounds)["seconds"]
        updates = parts["epoch"] - parts["collect"]
        say(
            {
                "depth": depth,
                "updates": sizes.updates,
                "seconds": parts,
                "seconds_per_update_with_sampling": updates / sizes.updates,
                "memory_stats": jax.devices()[0].memory_stats(),
            }
        )


SEEDS = (1, 2, 4, 8)
"""Numbers of seeds that are trained side by side."""


def several_seeds(sizes: Sizes, clock: Clock) -> None:
    """Gradient steps per second of all seeds together, and environment steps likewise, when so many are one program.

    The ratio is to the same seeds one after another, that is to the rate of one seed.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks import cases
    from eqcrl import epoch as ep

    slowest = 0.0
    for depth in sizes.depths[:3]:
        algorithm = cases.algorithm(
            depth,
            sizes.width,
            sizes.batch_size,
            train__num_envs=sizes.num_envs,
            train__unroll_length=sizes.unroll_length,
            replay__capacity=10 * sizes.unroll_length,
            train__updates_per_epoch=sizes.updates,
            replay__min_filled=sizes.unroll_length,
        )
        one: dict[str, float] = {}
        for seeds in SEEDS:
            if clock.left() < 1.5 * slowest:
                say({"depth": depth, "seeds": seeds, "not_measured": "no time was left"})
                continue
            began = time.perf_counter()

            def each(function: Callable[..., Any], seeds: int = seeds) -> Any:
                return function if seeds == 1 else jax.vmap(function)

            keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
            init = jax.jit(each(lambda key, algorithm=algorithm: ep.init(algorithm, key=key)))
            held = {"state": init(keys[0] if seeds == 1 else keys)}
            programs = {
                name: jax.jit(each(lambda state, of=of, algorithm=algorithm: of(algorithm, state)), donate_argnums=0)
                .lower(held["state"])
                .compile()
                for name, of in (("collect", lambda a, s: (ep.collect(a, s), ())), ("epoch", ep.epoch))
            }

            def run(program: Any, held: dict[str, Any] = held) -> None:
                held["state"], _ = jax.block_until_ready(program(held["state"]))

            took = {n: timed(lambda p=p, run=run: run(p), 3)["seconds"] for n, p in programs.items()}
            ratios = {f"{name}_ratio": seeds * one.setdefault(name, s) / s for name, s in took.items()}
            say(
                {
                    "depth": depth,
                    "seeds": seeds,
                    "seconds": took,
                    "gradient_steps_per_second": seeds * sizes.updates / took["epoch"],
                    "env_steps_per_second_collecting": (seeds * sizes.num_envs * sizes.unroll_length / took["collect"]),
                    **ratios,
                    "memory": cases.memory(programs["epoch"]),
                    "memory_stats": jax.devices()[0].memory_stats(),
                }
            )
            slowest = max(slowest, time.perf_counter() - began)


def saving(sizes: Sizes, clock: Clock) -> None:
    """How long training waits for a checkpoint: the first copies the whole ring to the host, later ones new rows."""
    import tempfile

    import jax

    from benchmarks import cases
    from eqcrl import checkpoint
    from eqcrl import epoch as ep
    from eqcrl import replay as rb
    from eqcrl.config import Config
    from eqcrl.logbook import Logbook
    from eqcrl.rundir import RunDir
    from eqcrl.saver import Saver

    algorithm = cases.algorithm(
        sizes.depths[-1],
        sizes.width,
        sizes.batch_size,
        train__num_envs=sizes.num_envs,
        train__unroll_length=sizes.unroll_length,
        replay__capacity=20 * sizes.capacity // 10,
        replay__min_filled=sizes.unroll_length,
    )
    state = jax.jit(lambda key: ep.init(algorithm, key=key))(jax.random.key(0))
    collect = jax.jit(lambda state: ep.collect(algorithm, state), donate_argnums=0)
    length = algorithm.unroll_length
    rows = jax.jit(lambda replay, start: rb.rows(replay, start, length))
    for _ in range(algorithm.capacity // length + 1):
        state = collect(state)
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load()
        log = Logbook(config, RunDir.create(Path(folder) / "run", config, {}))
        saver = Saver(rows, True, True, length)
        for save in ("first", "second", "third"):
            for _ in range(20):
                state = jax.block_until_ready(collect(state))
            before, began = saver.held_up_seconds, time.perf_counter()
            saver.save(state, [(0, log)])
            held_up = saver.held_up_seconds - before
            saver.wait()
            say({
                "save": save, "held_up_seconds": held_up, "written_after_seconds": time.perf_counter() - began,
                "agent_bytes": checkpoint.nbytes(state.agent), "replay_bytes": checkpoint.nbytes(state.replay),
                "new_unrolls": 20,
            })  # fmt: skip
        saver.close()


PARTS: dict[str, Callable[[Sizes, Clock], None]] = {
    part.__name__: part
    for part in (
        device,
        gradient_step_ours,
        gradient_step_ways,
        compile_epoch,
        environment,
        epoch_split,
        several_seeds,
        saving,
        physics,
        gradient_step_unrolled,
    )
}


def results_in(output: str) -> Iterator[dict[str, Any]]:
    """The rows among a part's output."""
    for line in output.splitlines():
        if line.startswith(MARK):
            yield json.loads(line.removeprefix(MARK))


def run_part(name: str, limit: float, smoke: bool) -> dict[str, Any]:
    """One part in its own process: its rows, and what went wrong, if anything did."""
    if limit <= 0:
        return {"part": name, "seconds": 0.0, "rows": [], "error": {"exit_status": 124, "output": "no time was left"}}
    command = [sys.executable, "-m", "benchmarks.gpu", "--inside", name, "--budget", str(limit)]
    start = time.monotonic()
    try:
        done = subprocess.run(command + ["--smoke"] * smoke, capture_output=True, text=True, timeout=limit, check=False)
        output, status, error = done.stdout, done.returncode, done.stderr[-4000:]
    except subprocess.TimeoutExpired as timeout:
        output = timeout.stdout.decode() if isinstance(timeout.stdout, bytes) else timeout.stdout or ""
        status, error = 124, f"cut off after {limit:.0f} s"
    result: dict[str, Any] = {
        "part": name,
        "seconds": round(time.monotonic() - start, 1),
        "rows": list(results_in(output)),
    }
    if status:
        result["error"] = {"exit_status": status, "output": error}
    return result


def main() -> None:
    """Run all parts and write gpu.json after each."""
    parser = argparse.ArgumentParser(description="Measure eqcrl on this machine's accelerator.")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "benchmarks/results"))
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for everything")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="run this part only; may be repeated")
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        try:
            PARTS[arguments.inside](SMOKE if arguments.smoke else Sizes(), Clock(arguments.budget))
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
        return
    clock = Clock(arguments.budget)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "gpu.json"
    results = []
    for name in arguments.part or PARTS:
        # The baseline comes last and takes what is left; the others take far less than this each.
        result = run_part(name, clock.left(), arguments.smoke)
        results.append(result)
        path.write_text(json.dumps(results, indent=1))
        print(f"{name}: {result['seconds']} s", *map(json.dumps, result["rows"]), sep="\n  ", flush=True)
        if "error" in result:
            print(f"  FAILED ({result['error']['exit_status']}): {result['error']['output']}", flush=True)
    failed = [result["part"] for result in results if "error" in result]
    print(f"written: {path}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
