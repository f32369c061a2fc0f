"""Environment steps per second of the MuJoCo tasks through the whole rollout, policy included, by engine.

Beside each, in turns, MJX with every pair of wall and robot evaluated, as it is used without caps. The engines may
not be compared number by number here: tests/physics holds them together.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import cases
from benchmarks.baselines.unbounded import Unbounded
from benchmarks.paired import compare
from eqcrl.agents.base import AbstractAgent
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.rollout import rollout

ENVS, LENGTH = 256, 50
# The baseline takes a second and more for a step of so many robots. Longer scans of it also stopped for good on a CPU
# (jaxlib 0.10.2, the humanoid's 8 solver iterations inside).
BASELINE_ENVS, BASELINE_LENGTH = 64, 1
CASES = [
    ("ant", "mujoco"),
    ("ant", "mjx"),
    ("ant-big-maze", "mujoco"),
    ("ant-big-maze", "mjx"),
    ("humanoid-big-maze", "mujoco"),
    ("arm-push-easy", "mujoco"),
]
# The humanoid on MJX is in benchmarks/gpu.py alone: on a CPU with two cores its rollout stopped for good in XLA's pool
# of threads (jaxlib 0.10.2), unless that pool was made larger than the machine (NPROC=8).


def task(name: str, physics: str) -> AbstractMujocoEnv:
    """The task on that engine."""
    env = build_env(Part(name, {"physics": physics}))
    assert isinstance(env, AbstractMujocoEnv)
    return env


class Rolling:
    """A compiled rollout that goes on from where its last call ended."""

    def __init__(self, env: AbstractMujocoEnv, agent: AbstractAgent, agent_state: Any, num_envs: int, length: int):
        batched = BatchedEnv(env, num_envs)
        options = env.engine().compiler_options()
        self.amount = num_envs * length
        self.state = jax.jit(batched.reset)(jax.random.key(0))
        self.key, self.agent_state = jax.random.key(1), agent_state
        program = jax.jit(lambda agent_state, state, key: rollout(batched, agent, agent_state, state, length, key=key))
        lowered = program.lower(agent_state, self.state, self.key)
        start = time.perf_counter()
        self.compiled: Callable[..., Any] = lowered.compile(compiler_options=options)
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        """One rollout, finished on return."""
        self.key = jax.random.fold_in(self.key, 1)
        self.state, _ = jax.block_until_ready(self.compiled(self.agent_state, self.state, self.key))


@pytest.fixture(scope="module")
def unbounded() -> dict[str, Rolling]:
    """The baselines that were compiled, by task."""
    return {}


@pytest.mark.parametrize(("name", "physics"), CASES, ids=lambda text: text)
def test_rollout(benchmark: BenchmarkFixture, unbounded: dict[str, Rolling], name: str, physics: str) -> None:
    """256 copies for 50 steps in one scan (10 on MJX); 64 of the baseline for one step, its time scaled to as many.

    The width of the policy is the quickstart's: at 256 the policy takes as long as the physics.
    """
    benchmark.group = "physics"
    algorithm = cases.algorithm(4, width=64, env=name)
    agent, agent_state = algorithm.agent, cases.agent_state(algorithm)
    ours = Rolling(task(name, physics), agent, agent_state, ENVS, LENGTH if physics == "mujoco" else LENGTH // 5)
    if name not in unbounded:
        unbounded[name] = Rolling(Unbounded(task(name, "mjx")), agent, agent_state, BASELINE_ENVS, BASELINE_LENGTH)
    compare(
        benchmark,
        f"{name}, {physics}",
        ours,
        unbounded[name],
        baseline_name="MJX, all pairs",
        rounds=5,
        amount=ours.amount,
        baseline_amount=unbounded[name].amount,
        unit="env steps/s",
        compile_seconds=ours.compile_seconds,
        baseline_compile_seconds=unbounded[name].compile_seconds,
    )
