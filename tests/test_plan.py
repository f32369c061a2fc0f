"""The plan: its figures against counting real arrays and real steps."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from eqcrl.assemble import assemble
from eqcrl.plan import human_bytes, human_count, make_plan, render_plan, state_shapes
from helpers import first_state, tiny, tiny_system


def size(tree: object) -> int:
    return sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree))


def test_the_plan_agrees_with_the_arrays() -> None:
    plan, state = make_plan(tiny(), tiny_system()), first_state()
    agent = state.agent
    nets = {"actor": agent.actor, "phi": agent.critic.state_action, "psi": agent.critic.goal}
    assert plan.parameters == {n: sum(x.size for x in jax.tree.leaves(net)) for n, net in nets.items()}
    assert plan.agent_bytes == size(agent)
    assert plan.replay_bytes == size(state.replay)
    # Parameters and Adam's two moments of each make up the agent, but for counters and alpha.
    assert 0 <= plan.agent_bytes - 3 * 4 * sum(plan.parameters.values()) < 100
    assert plan.mirror_bytes == plan.replay_bytes  # on a CPU
    assert plan.total_bytes() == plan.agent_bytes + 2 * plan.replay_bytes + plan.working_bytes
    assert plan.working_bytes > 4 * sum(plan.parameters.values())


def test_parameters_by_hand() -> None:
    """Stem, norm, four layers with norms, head; actor 4 + 2 -> 2 x 2, phi 4 + 2 -> 8, psi 2 -> 8, width 16."""

    def resnet(inputs: int, outputs: int) -> int:
        return (inputs * 16 + 16 + 32) + 4 * (16 * 16 + 16 + 32) + (16 * outputs + outputs)

    plan = make_plan(tiny(), tiny_system())
    assert plan.parameters == {"actor": resnet(6, 4), "phi": resnet(6, 8), "psi": resnet(2, 8)}


def test_steps_are_counted_as_the_run_will_take_them() -> None:
    plan = make_plan(tiny(), tiny_system())
    assert (plan.prefill_env_steps, plan.env_steps, plan.epochs, plan.grad_steps) == (160, 960, 10, 30)
    assert plan.grad_steps_per_env_step() == 3 / 80
    # At least what was asked for, in whole unrolls.
    config = tiny(train__total_env_steps=961, replay__min_filled=21)
    plan = make_plan(config, assemble(config))
    assert (plan.prefill_env_steps, plan.env_steps) == (240, 1040)


def test_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(arch__depth=1024, arch__width=2048)
    shapes = state_shapes(assemble(config))
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(shapes))
    assert make_plan(config, assemble(config)).total_bytes() > 100 * 2**30


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "2 KiB"), (5 * 2**20, "5 MiB"), (1.5 * 2**30, "1.5 GiB"),
                        (3 * 2**40, "3072.0 GiB")]
)  # fmt: skip
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (12_300, "12.3 k"), (204_000_000, "204 M"), (3e9, "3 G"),
                        (999_999, "1 M")]
)  # fmt: skip
def test_human_count(count: float, text: str) -> None:
    assert human_count(count) == text


def test_what_a_person_reads() -> None:
    text = io.StringIO()
    config = tiny(critic_arch="resnet-8")
    Console(file=text, width=200).print(render_plan(config, make_plan(config, assemble(config)), "1 x abacus"))
    shown = text.getvalue()
    for part in (
        "point-u-maze: observation 4, action 2, goal 2; 8 side by side", "energy l2, loss infonce",
        "resnet (depth 4, width 16", "critic of its own", "depth 8", "960 (160 before learning starts)",
        "30 of batch 8, in 10 epochs of 3", "0.0375 gradient steps per environment step", "1 x abacus",
    ):  # fmt: skip
        assert part in shown
