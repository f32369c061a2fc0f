"""The checker itself: built-in environments keep the contract, and each way to break it is found and named."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl import registry
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.envs.base import AbstractEnv, TopView
from eqcrl.envs.check import CHECKS, CheckReport, check_env
from eqcrl.envs.probe import Probe
from eqcrl.errors import CheckFailed

BUILT_IN = [e.name for e in registry.entries("env") if e.distribution == "eqcrl"]


class Plane(AbstractEnv):
    """A point pushed over a plane; any method can be exchanged for a broken one."""

    broken: tuple[tuple[str, Callable[..., Any]], ...] = eqx.field(default=(), static=True)
    action_size: int = eqx.field(default=2, static=True)
    episode_length: int = eqx.field(default=20, static=True)
    success_radius: float = eqx.field(default=0.1, static=True)
    extra: Any = eqx.field(default=None, static=True)

    def _call(self, name: str, *args: Any) -> Any:
        return dict(self.broken).get(name, WORKING[name])(*args)

    def reset(self, key):
        return self._call("reset", key)

    def step(self, state, action, key):
        return self._call("step", state, action, key)

    def terminated(self, state):
        return self._call("terminated", state)

    def observation(self, state):
        return self._call("observation", state)

    def achieved_goal(self, state):
        return self._call("achieved_goal", state)

    def goal_distance(self, achieved_goal, desired_goal):
        return self._call("goal_distance", achieved_goal, desired_goal)

    def goal_reachable(self, state, desired_goal):
        return self._call("goal_reachable", state, desired_goal)

    def evaluation(self):
        return self._call("evaluation", self)

    def top_view(self):
        return self._call("top_view")


def uniform_points(key, count=2):
    return jax.random.uniform(key, (count, 2), minval=-1.0)


def fresh(key):
    start, goal = uniform_points(key)
    return {"at": start}, goal


def push(state, action, key):
    return {"at": state["at"] + 0.1 * action}


def view(low=(-1.5, -1.5), high=(1.5, 1.5), walls=((0.0, 0.0, 0.0, 0.0),)):
    return TopView(np.array(walls), low, high)


WORKING: dict[str, Callable[..., Any]] = {
    "reset": fresh,
    "step": push,
    "terminated": lambda state: jnp.array(False),
    "observation": lambda state: state["at"],
    "achieved_goal": lambda state: state["at"],
    "goal_distance": lambda a, b: jnp.linalg.norm(a - b),
    "goal_reachable": lambda state, goal: jnp.all(jnp.abs(goal) <= 1.0),
    "evaluation": lambda env: env,
    "top_view": view,
}


def plane(**broken):
    return Plane(tuple(broken.items()))


def fresh_with_goal(key):
    state, goal = fresh(key)
    return {**state, "target": goal}, goal


def push_with_goal(state, action, key):
    return {**state, **push(state, action, key)}


def fresh_with_clock(key):
    state, goal = fresh(key)
    return {**state, "clock": jnp.zeros((), jnp.int32)}, goal


def push_with_clock(state, action, key):
    return {**push(state, action, key), "clock": state["clock"] + 1}


def push_by_branch(state, action, key):
    return push(state, action if action[0] > 0 else -action, key)


def push_by_callback(state, action, key):
    shape = jax.ShapeDtypeStruct((2,), jnp.float32)
    return {"at": jax.pure_callback(lambda p, a: np.asarray(p + 0.1 * a, np.float32), shape, state["at"], action)}


def drift(state, action, key):
    return {"at": state["at"] + 0.1}


def push_until_crash(state, action, key):
    raise RuntimeError("the motor is not plugged in")


def fresh_goal_elsewhere(key):
    state, goal = fresh(key)
    return state, goal + 3.0


class Opaque:
    """Equal to nothing but itself."""


# What is broken, the one check that shall fail, and words that its message shall hold.
BREAKAGES: dict[str, tuple[AbstractEnv, str, list[str]]] = {
    "no action": (Plane(action_size=0), "fields", ["`action_size` is 0", "int of at least 1"]),
    "no time": (Plane(episode_length=0), "fields", ["`episode_length` is 0"]),
    "endless radius": (Plane(success_radius=float("inf")), "fields", ["`success_radius` is inf", "positive"]),
    "state alone": (plane(reset=lambda key: fresh(key)[0]), "reset", ["gave a dict", "(state, desired_goal)"]),
    "number in the state": (
        plane(reset=lambda key: ({"at": jnp.zeros(2), "speed": 0.0}, jnp.zeros(2))),
        "reset", ["state['speed']", "is a float", "jnp.asarray"],
    ),
    "integer goal": (
        plane(reset=lambda key: (fresh(key)[0], jnp.array([1, 2]))), "reset", ["int32[2]", "float32"],
    ),
    "observation in two dimensions": (
        plane(observation=lambda state: state["at"][None]), "observation", ["float32[1, 2]", "one-dimensional"],
    ),
    "observation in half precision": (
        plane(observation=lambda state: state["at"].astype(jnp.float16)), "observation", ["float16[2]", "float32"],
    ),
    "goal of another size": (
        plane(achieved_goal=lambda state: jnp.append(state["at"], 0.0)),
        "achieved-goal", ["has 3 numbers, the goal of `reset` has 2"],
    ),
    "distance per axis": (
        plane(goal_distance=lambda a, b: jnp.abs(a - b)), "goal-distance", ["float32[2]", "jnp.linalg.norm"],
    ),
    "termination by Python bool": (plane(terminated=lambda state: False), "terminated", ["a bool", "jnp.asarray"]),
    "state that changes its dtype": (
        plane(step=lambda state, action, key: {"at": push(state, action, key)["at"].astype(jnp.float16)}),
        "step", ["state['at']", "float32[2] after `reset`", "float16[2] after `step`"],
    ),
    "state that grows": (
        plane(step=lambda state, action, key: {**push(state, action, key), "last": action}),
        "step", ["'last'", "same pytree"],
    ),
    "step that crashes": (
        plane(step=push_until_crash),
        "step", ["crashed at", "test_check.py", "push_until_crash", "RuntimeError: the motor is not plugged in"],
    ),
    "numpy's random numbers": (
        plane(step=lambda state, action, key: {"at": state["at"] + jnp.asarray(np.random.randn(2), jnp.float32)}),  # noqa: NPY002
        "deterministic", ["`step` gave two results", "jax.random"],
    ),
    "branch on a value": (plane(step=push_by_branch), "jit", ["test_check.py", "push_by_branch", "jnp.where"]),
    "other results when traced": (
        plane(observation=lambda state: state["at"] + isinstance(state["at"], jax.core.Tracer)),
        "jit", ["`observation` differs with and without `jax.jit`"],
    ),
    "callback that does not batch": (plane(step=push_by_callback), "vmap", ["push_by_callback", "vmap_method"]),
    "array in a static field": (Plane(extra=np.zeros(2)), "hashable", ["ndarray", "not static"]),
    "copy that is not equal": (Plane(extra=Opaque()), "hashable", ["compiled twice", "__eq__"]),
    "root of a negative number": (
        plane(step=lambda state, action, key: {"at": state["at"] + jnp.sqrt(1.0 - jnp.sum(action**2)) * action}),
        "finite", ["nan", "at step", "after action"],
    ),
    "blow-up": (
        plane(step=lambda state, action, key: {"at": 1e3 * state["at"] + action}), "finite", ["inf", "substeps"],
    ),
    "deaf to actions": (
        plane(step=drift), "actions-matter", ["same state", "its action"],
    ),
    "distance with an offset": (
        plane(goal_distance=lambda a, b: jnp.linalg.norm(a - b) + 0.5), "zero-distance", ["to itself is 0.5"],
    ),
    "signed distance": (
        plane(goal_distance=lambda a, b: jnp.sum(a - b)), "nonnegative-distance", ["is -", "a length"],
    ),
    "goals out of reach": (
        plane(goal_reachable=lambda state, goal: goal[0] < 0), "reachable", ["of 256 resets", "not reachable"],
    ),
    "reachability that is not a truth value": (
        plane(goal_reachable=lambda state, goal: jnp.float32(1.0)), "reachable", ["`goal_reachable` gave", "bool"],
    ),
    "start outside of the goal space": (
        plane(reset=fresh_goal_elsewhere, goal_reachable=lambda state, goal: jnp.all(goal > 1.5),
              top_view=lambda: None),
        "start-reachable", ["256 of 256", "one goal space"],
    ),
    "starts that have ended": (
        plane(terminated=lambda state: state["at"][0] > 0), "starts-alive", ["starts are terminated"],
    ),
    "too easy": (Plane(success_radius=5.0), "starts-away", ["100%", "`success_radius` smaller"]),
    "goal in the state": (
        plane(reset=fresh_with_goal, step=push_with_goal),
        "goal-hidden", ["The goal leaks into the state: state['target']", "[0:2]"],
    ),
    "way to the goal in the observation": (
        plane(reset=lambda key: (lambda state, goal: ({**state, "bearing": 2.0 * goal}, goal))(*fresh(key)),
              step=push_with_goal,
              observation=lambda state: jnp.append(state["at"], 0.5 * state["bearing"] - state["at"])),
        "goal-hidden", ["the observation holds the way to the goal at [2:4]"],
    ),
    "time limit as termination": (
        plane(reset=fresh_with_clock, step=push_with_clock, terminated=lambda state: state["clock"] >= 20),
        "auto-reset", ["in all of 8 copies at step episode_length = 20", "the time limit"],
    ),
    "evaluation by name": (plane(evaluation=lambda env: "plane"), "evaluation", ["gave a str", "AbstractEnv"]),
    "evaluation of another robot": (
        plane(evaluation=lambda env: Plane(action_size=3)), "evaluation", ["other sizes", "action_size=3"],
    ),
    "evaluation out of reach": (
        plane(evaluation=lambda env: plane(goal_reachable=lambda state, goal: jnp.array(False))),
        "evaluation", ["256 of 256", "`evaluation().reset`"],
    ),
    "view of a part": (
        plane(top_view=lambda: view(high=(0.5, 0.5))), "top-view", ["outside `top_view`", "achieved_goal[:2]"],
    ),
    "view upside down": (plane(top_view=lambda: view(low=(2.0, -1.5))), "top-view", ["lower corner first"]),
    "wall over the starts": (
        plane(top_view=lambda: view(walls=((-0.5, -0.5, 0.5, 0.5),))), "top-view", ["in one of its walls"],
    ),
}  # fmt: skip


def statuses(report: CheckReport, status: str) -> list[str]:
    return [r.name for r in report.results if r.status == status]


@pytest.mark.parametrize("name", ["point-u-maze", "point-hardest-maze-fixed-start"])
def test_a_point_maze_keeps_the_contract(name):
    report = check_env(build_env(Part(name)))
    report.raise_if_failed()
    assert statuses(report, "pass") == [c.name for c in CHECKS]


# The whole contract of each class stands beside its other tests, that of every name in `nox -s worlds`: what a
# name changes in a task is where it starts and what it asks for.
ABOUT_STARTS = (
    "reset", "zero-distance", "nonnegative-distance", "reachable", "start-reachable", "starts-alive", "starts-away",
    "goal-hidden", "evaluation", "top-view",
)  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_starts_and_goals_of_every_task_keep_the_contract(name):
    probe = Probe(build_env(Part(name)), 0)
    checks = [c for c in CHECKS if c.name in ABOUT_STARTS]
    assert len(checks) == len(ABOUT_STARTS)
    for check in checks:
        assert check.run(probe) is None, check.name


def test_the_environment_that_is_broken_below_is_sound():
    report = check_env(plane())
    assert statuses(report, "pass") == [c.name for c in CHECKS]


@pytest.mark.parametrize("case", BREAKAGES)
def test_a_broken_environment_fails_exactly_one_check(case):
    env, expected, words = BREAKAGES[case]
    report = check_env(env)
    failed = report.failures()
    assert [r.name for r in failed] == [expected], [r.message for r in failed]
    for word in words:
        assert word in failed[0].message


def test_every_check_has_an_environment_that_fails_it():
    # keys-matter only remarks, and has a test of its own.
    assert {expected for _, expected, _ in BREAKAGES.values()} == {c.name for c in CHECKS} - {"keys-matter"}


def test_one_start_and_goal_is_a_remark_and_no_failure():
    report = check_env(plane(reset=lambda key: ({"at": jnp.zeros(2)}, jnp.ones(2))))
    assert not report.failures()
    assert statuses(report, "note") == ["keys-matter"]
    assert "evaluation only" in next(r.message for r in report.results if r.status == "note")


def test_what_builds_on_a_broken_check_is_not_run():
    report = check_env(plane(observation=lambda state: 0.0))
    assert "terminated" in statuses(report, "pass")
    assert {"deterministic", "jit", "auto-reset"} <= set(statuses(report, "not run"))
    assert all("builds on" in r.message for r in report.results if r.status == "not run")


def test_all_failures_are_raised_at_once():
    report = check_env(plane(goal_distance=lambda a, b: jnp.linalg.norm(a - b) + 0.5, top_view=lambda: 3))
    with pytest.raises(CheckFailed) as raised:
        report.raise_if_failed()
    assert "Plane breaks the environment contract: 2 of" in str(raised.value)
    for words in ("zero-distance", "to itself is 0.5", "top-view", "`top_view` gave a int"):
        assert words in str(raised.value)
    check_env(plane()).raise_if_failed()


def test_another_seed_tries_other_starts():
    rare = plane(terminated=lambda state: jnp.all(state["at"] > 0.3))
    found = {check_env(rare, seed=seed).failures()[0].message for seed in (0, 1)}
    assert len(found) == 2
