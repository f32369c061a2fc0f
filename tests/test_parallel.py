"""Several devices: the numbers are those of one, what is divided stays divided, and what cannot be is refused."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

# benchmarks/ is not installed
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import collectives

from eqcrl import parallel, spread
from eqcrl.assemble import build_env
from eqcrl.config import Part
from eqcrl.errors import ConfigError
from helpers import tiny, tiny_system

HERE = Path(__file__).parent
CLOSE = 1e-5


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `several_devices.py` found, in a process that looks as if it had four devices."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, HERE / "several_devices.py", tmp_path_factory.mktemp("checkpoints")],
        capture_output=True, text=True, env=environment, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", ["metrics", "evaluations", "rows", "states"])
def test_four_devices_train_as_one(four: dict[str, Any], what: str) -> None:
    assert four[what] < CLOSE


@pytest.mark.parametrize("way", ["saved on 4, resumed on 1", "saved on 1, resumed on 4"])
def test_a_checkpoint_does_not_know_how_many_devices_there_were(four: dict[str, Any], way: str) -> None:
    assert four[way] < CLOSE


@pytest.mark.parametrize("agent", ["td3-her", "crl abreast"])
def test_two_devices_take_the_gradient_step_of_one(four: dict[str, Any], agent: str) -> None:
    assert four["agents"][agent] < CLOSE


def test_each_device_has_its_part_of_replay_and_environments(four: dict[str, Any]) -> None:
    epoch = four["epoch"]
    assert [4 * part for part in epoch["parts"]] == epoch["rings"]
    assert all(shape[0] == 8 // 4 for shape in epoch["env_parts"])


def test_the_state_is_written_in_place_on_every_device(four: dict[str, Any]) -> None:
    assert four["epoch"]["in_place"] == four["epoch"]["arguments"]


def test_the_replay_is_never_gathered(four: dict[str, Any]) -> None:
    epoch = four["epoch"]
    gathered = [c["bytes"] for c in epoch["collectives"] if c["kind"] in ("all-gather", "all-to-all")]
    assert gathered
    assert max(gathered) < min(epoch["rings"])


def test_every_parameter_is_added_up_once_a_gradient_step(four: dict[str, Any]) -> None:
    """And not in the loop over blocks: then it would be as many times as there are blocks, of a block each."""
    epoch = four["epoch"]
    in_updates = [c for c in epoch["collectives"] if c["kind"] == "all-reduce" and c["times"] == epoch["updates"]]
    added = Counter(tuple(shape) for c in in_updates for shape in c["shapes"])
    parameters = Counter(tuple(shape) for shape in epoch["parameters"])
    large = {shape for shape in parameters if len(shape) > 1}
    assert {shape: added[shape] for shape in large} == {shape: parameters[shape] for shape in large}
    assert parameters - added == Counter()
    # Once for each block would be 14 times. The steps of the rollout have something to say, too.
    assert max(c["times"] for c in epoch["collectives"]) <= tiny().train.unroll_length == 10


def test_the_step_of_an_accelerator_sends_its_gradients_once(four: dict[str, Any]) -> None:
    step = four["step"]
    assert set(step["times"]) == {1}
    sizes = {kind: size for kind, _, size in step["rows"]}
    # Beside them stems that are padded to one size, which at this width is much, and psi's gradient.
    assert step["parameter_bytes"] <= sizes["all-reduce"] < 1.5 * step["parameter_bytes"]
    assert sizes["all-gather"] < step["replay_bytes"] / 100


def test_one_device_is_no_placement() -> None:
    assert parallel.place(1) is parallel.ONE
    assert (parallel.ONE.devices, parallel.ONE.processes, parallel.ONE.writes) == (1, 1, True)
    assert parallel.ONE.agreed(7) == 7
    tree = {"a": jnp.arange(3)}
    assert parallel.ONE.put(tree) is tree


def test_one_device_has_no_trace_of_several() -> None:
    algorithm = tiny_system().algorithm
    text = str(jax.make_jaxpr(lambda key: algorithm.env.reset(key))(jax.random.key(0)))
    assert "shard_map" not in text
    assert "sharding_constraint" not in text
    assert spread.devices() == 1


def test_outside_of_a_mesh_everything_is_what_it_was() -> None:
    x = jnp.arange(12.0).reshape(4, 3)
    assert spread.split(x) is x
    assert spread.whole(x) is x
    ring, time, row = jnp.arange(24).reshape(4, 3, 2), jnp.array([1, 3]), jnp.array([2, 0])
    assert spread.at(ring, time, row).tolist() == spread.batch_at(ring, time, row).tolist() == [[10, 11], [18, 19]]


def test_more_devices_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"5 devices were asked for, but there is 1 .*\n.*--devices all"):
        parallel.place(5)


@pytest.mark.parametrize(
    ("settings", "devices", "message"),
    [
        ({}, 3, r"train.num_envs = 8 cannot be divided over 3 devices.\n.*--train.num-envs 6 or 9"),
        ({"train__batch_size": 10}, 4, r"train.batch_size = 10 cannot be divided .*\n.*--train.batch-size 8 or 12"),
        ({"train__num_envs": 4, "train__batch_size": 8}, 8, r"--train.num-envs 8, or another number of --devices"),
    ],
)
def test_sizes_that_cannot_be_divided(settings: dict[str, Any], devices: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parallel.check_divides(tiny(**settings), devices)


def test_sizes_that_can_be_divided() -> None:
    parallel.check_divides(tiny(), 4)


def test_the_c_engine_is_refused_and_the_mend_is_named() -> None:
    env = build_env(Part("reacher", {"physics": "mujoco"}))
    with pytest.raises(ConfigError, match=r"engine 'mujoco' cannot be divided .*\n.*--physics mjx"):
        parallel.check_environment(env)


def test_an_environment_that_calls_back_is_refused_by_what_it_calls() -> None:
    env = build_env(Part("point-u-maze"))
    parallel.check_environment(env)

    class Calls(type(env)):  # type: ignore[misc]
        def step(self, state: Any, action: Any, key: Any) -> Any:
            return jax.pure_callback(lambda s: s, state, state, vmap_method="broadcast_all")

    calls = Calls(
        **{name: getattr(env, name) for name in env.__dataclass_fields__ if env.__dataclass_fields__[name].init}
    )
    with pytest.raises(ConfigError, match=r"Calls cannot be divided .* by pure_callback"):
        parallel.check_environment(calls)


HLO = """HloModule jit_f

%body (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  %r = (f32[4,2]{1,0}, bf16[3]{0}) all-reduce(%a, %a), replica_groups={}, to_apply=%add
  ROOT %t = (s32[], f32[8]{0}) tuple(%a, %r)
}

%branch (a: f32[8]) -> f32[8] {
  ROOT %p = f32[8]{0} collective-permute(%a), source_target_pairs={{0,1}}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %g = f32[32]{0} all-gather(%x), dimensions={0}
  %s = f32[2]{0} reduce-scatter(%x), dimensions={0}
  %w = (s32[], f32[8]) while(%x), body=%body, condition=%test, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %c = f32[8]{0} conditional(%x, %x, %x), branch_computations={%branch, %branch}
}
"""


def test_collectives_are_counted_with_the_trips_of_their_loops() -> None:
    found = collectives.collectives(HLO)
    assert [(c.kind, c.times, c.bytes(4)) for c in found] == [
        ("all-gather", 1, 128),
        ("reduce-scatter", 1, 32),
        ("all-reduce", 5, 38),
        ("collective-permute", 1, 32),
        ("collective-permute", 1, 32),
    ]
    assert [c.sent(4) for c in found[:4]] == [96.0, 24.0, 57.0, 32.0]


def test_what_cannot_be_counted_is_said() -> None:
    with pytest.raises(ValueError, match="unknown length"):
        collectives.collectives(HLO.replace(', backend_config={"known_trip_count":{"n":"5"}}', ""))
    with pytest.raises(ValueError, match="asynchronous"):
        collectives.collectives(HLO.replace(" all-gather(", " all-gather-start("))
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives.collectives(HLO.replace("ENTRY", ""))


def test_the_forecast_is_that_of_the_model() -> None:
    machine = collectives.Machine(launch=1e-6, arithmetic=1e30, nvlink=1e9, infiniband=1e8, node=8, hop=0.0)
    assert machine.compute(100, 4, 4) == pytest.approx(1170e-6)
    assert machine.exchange(8, [("all-reduce", 1, 8e6)]) == pytest.approx(2 * 8e-3 * 7 / 8)
    # 64: within the node as before, and each GPU an eighth over the network, along a ring of 8 nodes.
    assert machine.exchange(64, [("all-gather", 1, 8e6)]) == pytest.approx(8e-3 * 7 / 8 + 1e6 / 1e8 * 7 / 8)
    slow = collectives.Machine(launch=0.0, arithmetic=1e12)
    assert slow.compute(100, 8, 8) > 1.9 * slow.compute(100, 4, 8)


def test_programs_for_one_device_are_those_without_a_placement() -> None:
    """Not compiled: what is lowered is the same text."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    algorithm = tiny_system().algorithm
    function = lambda key: algorithm.env.reset(key)  # noqa: E731
    plain = jax.jit(function).lower(key).as_text()
    assert parallel.ONE.lower(function, key, out=parallel.WHOLE).as_text() == plain
