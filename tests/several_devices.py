"""Run in a process that looks as if it had four devices: trains on one, two and four of them, and prints what came out.

python several_devices.py FOLDER, which is for checkpoints. tests/test_parallel.py reads the last line, which is JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ |= {"JAX_PLATFORMS": "cpu", "EQCRL_COMPILE_CACHE": "off"}

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from benchmarks import collectives

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import assemble
from eqcrl.envs.base import spec_of
from eqcrl.parallel import WHOLE, Placement, place
from eqcrl.plan import state_shapes
from eqcrl.programs import Programs, compile_programs
from eqcrl.trainer import EVAL_STREAM, INIT_STREAM, stream
from helpers import tiny_agent

EPOCHS = 3
# Two blocks, so that what runs once for each of them would be seen to.
CONFIG = tiny_agent("crl-chunk", arch="resnet-8", actor_goals="mixed", replay__capacity=200, train__updates_per_epoch=7)
SYSTEM = assemble(CONFIG)


def apart(one: Any, other: Any) -> float:
    """The greatest difference between numbers of two trees, relative to the greatest number of each array."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        worst = max(worst, float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(a))), 1.0)))
    return worst


def train(programs: Programs, placement: Placement, state: ep.TrainState) -> tuple[ep.TrainState, list[Any]]:
    metrics = []
    for _ in range(EPOCHS):
        state, found = programs.epoch(state)
        metrics.append(placement.fetch(found))
    return state, metrics


def begin(programs: Programs, placement: Placement) -> ep.TrainState:
    state = programs.init(placement.put(stream(0, INIT_STREAM)))
    for _ in range(2):
        state = programs.collect(state)
    return state


def host(placement: Placement, state: ep.TrainState) -> Any:
    return placement.fetch(checkpoint.plain(state))


def resumed(programs: Programs, placement: Placement, path: Path) -> tuple[Any, list[Any]]:
    state, metrics = train(programs, placement, placement.put(checkpoint.load(path, state_shapes(SYSTEM))))
    return host(placement, state), metrics


def facts_of(epoch: Any, state: ep.TrainState) -> dict[str, Any]:
    """Of a compiled epoch: what it sends, and what it writes in place."""
    memory = epoch.memory_analysis()
    return {
        "collectives": [
            {"kind": c.kind, "times": c.times, "bytes": c.bytes(4), "shapes": [a[1] for a in c.arrays]}
            for c in collectives.collectives(epoch.as_text())
        ],
        "updates": SYSTEM.algorithm.updates,
        "parameters": [leaf.shape for leaf in jax.tree.leaves((state.agent.actor, state.agent.critic))],
        "arguments": memory.argument_size_in_bytes,
        "in_place": memory.alias_size_in_bytes,
        "rings": [leaf.nbytes for leaf in jax.tree.leaves(state.replay.data)],
        "parts": [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.replay.data)],
        "env_parts": [leaf.addressable_shards[0].data.shape for leaf in jax.tree.leaves(state.env.physics)],
    }


def both_ways(folder: Path) -> dict[str, Any]:
    """One device and four: the same run, also across a checkpoint of the other."""
    ends, begun, evaluations, rows = {}, {}, {}, {}
    programs = {count: compile_programs(SYSTEM, None, place(count)) for count in (1, 4)}
    for count in programs:
        placement = place(count)
        begun[count] = checkpoint.save(folder / str(count), host(placement, begin(programs[count], placement)), {})
        ends[count] = train(programs[count], placement, begin(programs[count], placement))
    found: dict[str, Any] = {"epoch": facts_of(programs[4].epoch, ends[4][0])}
    for count, (state, _) in ends.items():
        placement = place(count)
        evaluations[count] = placement.fetch(
            programs[count].evaluate(state.agent, placement.put(stream(0, EVAL_STREAM)))
        )
        rows[count] = placement.fetch(programs[count].rows(state.replay, placement.put(np.int32(5))))
    found["metrics"] = apart(ends[1][1], ends[4][1])
    found["evaluations"] = apart(evaluations[1], evaluations[4])
    found["rows"] = apart(rows[1], rows[4])
    whole = {count: host(place(count), state) for count, (state, _) in ends.items()}
    found["states"] = apart(whole[1], whole[4])
    found["saved on 4, resumed on 1"] = apart(resumed(programs[1], place(1), begun[4]), (whole[1], ends[1][1]))
    found["saved on 1, resumed on 4"] = apart(resumed(programs[4], place(4), begun[1]), (whole[4], ends[4][1]))
    return found


def step_on(config: Any, replay: Any, count: int) -> Any:
    """A fresh agent's first gradient step on this replay, on so many devices: what it learned, and the metrics."""
    algorithm, placement = assemble(config).algorithm, place(count)
    spec = spec_of(algorithm.env.env)

    def step(replay: Any) -> Any:
        agent = algorithm.agent.init(spec, key=jax.random.key(0))
        batch = algorithm.sample(replay, key=jax.random.key(1))
        return algorithm.agent.update(agent, batch, key=jax.random.key(2))

    shapes = jax.eval_shape(lambda: replay)
    return placement.fetch(placement.lower(step, shapes, out=WHOLE).compile()(placement.put(replay)))


def counted(depth: int, schedule: str) -> dict[str, Any]:
    step = collectives.measure(depth, 4, width=16, batch=16, envs=8, agent__schedule=schedule)
    return {
        "times": [c.times for c in step.found],
        "rows": list(step.rows()),
        "parameter_bytes": step.parameter_bytes,
        "replay_bytes": step.replay_bytes,
    }


def main() -> None:
    found = both_ways(Path(sys.argv[1]))
    others = {
        "td3-her": tiny_agent("td3-her"),
        "crl abreast": tiny_agent("crl", agent__schedule="abreast"),
    }
    replay = checkpoint.load(next(iter(Path(sys.argv[1], "1").iterdir())), state_shapes(SYSTEM)).replay
    found["agents"] = {n: apart(step_on(c, replay, 1), step_on(c, replay, 2)) for n, c in others.items()}
    found["step"] = counted(8, "abreast")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
