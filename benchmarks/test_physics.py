"""Environment steps per second of the MuJoCo tasks through the whole rollout, policy included, by engine.

Beside each, in turns, MJX with every pair of wall and robot evaluated, as it is used without caps, and MuJoCo by
itself; beside each maze the open floor. The engines may not be compared number by number here:
tests/physics holds them together.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines.engine_alone import EngineAlone
from benchmarks.baselines.unbounded import Unbounded
from benchmarks.paired import compare
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.programs import update_options
from eqcrl.rollout import rollout

ENVS, ROUNDS = 256, 7
LENGTHS = {"mujoco": 50, "mjx": 10}
# The baseline takes a second and more for a step of so many robots.
ALL_PAIRS, BASELINE_ENVS, BASELINE_LENGTH = "all pairs", 64, 1
# Environment steps per second that are asked for on two cores.
BARS = {
    ("ant-big-maze", "mujoco"): 30_000,
    ("ant-big-maze", "mjx"): 9_000,
    ("humanoid-big-maze", "mujoco"): 15_000,
    ("humanoid-big-maze", "mjx"): 5_000,
    ("arm-push-easy", "mujoco"): 7_000,
}
# The same bars as parts of what MuJoCo by itself did on the machine that they were set on: 44,200 steps a second of the
# ant, 26,600 of the humanoid, 9,400 of the arm.
ALONE = {"ant-big-maze": 44_200, "humanoid-big-maze": 26_600, "arm-push-easy": 9_400}
# A maze may cost twice the open floor, whatever its size.
MAZES = [("ant-big-maze", "ant"), ("ant-hardest-maze", "ant"), ("humanoid-big-maze", "humanoid")]
OPEN_FLOOR_BAR = 0.5
# The control step of the humanoid's mazes is half as long as that of its open floor: here both have the mazes'.
PARAMS = {"humanoid": {"substeps": 5}}


def task(name: str, physics: str) -> AbstractMujocoEnv:
    """The task on that engine."""
    if physics == ALL_PAIRS:
        return Unbounded(task(name, "mjx"))
    env = build_env(Part(name, {"physics": physics, **PARAMS.get(name, {})}))
    assert isinstance(env, AbstractMujocoEnv)
    return env


class Rolling:
    """A compiled rollout that goes on from where its last call ended: MJX without caps is our engine with the caps off.

    The width of the policy is the quickstart's: at 256 the policy takes as long as the physics.
    """

    def __init__(self, name: str, physics: str):
        env, length = task(name, physics), LENGTHS.get(physics, BASELINE_LENGTH)
        batched = BatchedEnv(env, BASELINE_ENVS if physics == ALL_PAIRS else ENVS)
        algorithm = cases.algorithm(4, width=64, env=name)
        agent, self.agent_state = algorithm.agent, cases.agent_state(algorithm)
        self.state, self.key = jax.jit(batched.reset)(jax.random.key(0)), jax.random.key(1)
        program = jax.jit(lambda agent_state, state, key: rollout(batched, agent, agent_state, state, length, key=key))
        lowered = program.lower(self.agent_state, self.state, self.key)
        start = time.perf_counter()
        # As `eqcrl train` compiles what holds this environment.
        options = update_options(algorithm) | env.engine().compiler_options()
        self.compiled: Callable[..., Any] = lowered.compile(compiler_options=options)
        self.facts = {"amount": batched.num_envs * length, "compile_seconds": time.perf_counter() - start}

    def __call__(self) -> None:
        """One rollout, finished on return."""
        self.key = jax.random.fold_in(self.key, 1)
        self.state, _ = jax.block_until_ready(self.compiled(self.agent_state, self.state, self.key))


Rollings = Callable[[str, str], Rolling]


@pytest.fixture(scope="module")
def rolling() -> Rollings:
    """(task, engine) -> its rollout, compiled once."""
    return lru_cache(None)(Rolling)


def measure(
    benchmark: BenchmarkFixture, case: str, ours: Rolling, baseline: Rolling | EngineAlone, **info: Any
) -> None:
    """In turns, and the best round of each beside the median: other processes only ever make a round slower."""
    benchmark.group = "physics"
    compare(
        benchmark,
        case,
        ours,
        baseline,
        rounds=ROUNDS,
        amount=ours.facts["amount"],
        baseline_amount=baseline.facts["amount"],
        unit="env steps/s",
        best_rounds=True,
        compile_seconds=ours.facts["compile_seconds"],
        baseline_compile_seconds=baseline.facts["compile_seconds"],
        **info,
    )


@pytest.mark.parametrize(("name", "physics"), BARS)
def test_rollout(benchmark: BenchmarkFixture, rolling: Rollings, name: str, physics: str) -> None:
    """256 copies for 50 steps in one scan (10 on MJX); 64 of the baseline for one step, its time scaled to as many."""
    measure(
        benchmark,
        f"{name}, {physics}",
        rolling(name, physics),
        rolling(name, ALL_PAIRS),
        baseline_name="MJX, all pairs, no LAPACK",
        bar=BARS[name, physics],
    )


@pytest.mark.parametrize(("name", "physics"), BARS)
def test_beside_the_engine_alone(benchmark: BenchmarkFixture, rolling: Rollings, name: str, physics: str) -> None:
    """The whole rollout beside MuJoCo with nothing around it: the bars, whatever the speed of the machine."""
    measure(
        benchmark,
        f"{name}, {physics} / MuJoCo alone",
        rolling(name, physics),
        EngineAlone(task(name, "mjx"), ENVS, LENGTHS["mujoco"]),
        baseline_name="MuJoCo alone, random controls",
        ratio_bar=BARS[name, physics] / ALONE[name],
    )


@pytest.mark.parametrize("physics", LENGTHS)
@pytest.mark.parametrize(("name", "floor"), MAZES)
def test_maze_beside_the_open_floor(
    benchmark: BenchmarkFixture, rolling: Rollings, name: str, floor: str, physics: str
) -> None:
    """The same robot and number of steps, with walls and without."""
    measure(
        benchmark,
        f"{name} / {floor}, {physics}",
        rolling(name, physics),
        rolling(floor, physics),
        baseline_name="the open floor",
        ratio_bar=OPEN_FLOOR_BAR,
    )
