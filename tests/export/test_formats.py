"""Exported policies act as the run does: every architecture and agent, any number of rows, without eqcrl."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from safetensors import safe_open

from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.errors import UsageError
from eqcrl.export import onnx_file, policy, stablehlo, weights
from eqcrl.nn.base import AbstractLayer
from eqcrl.types import EnvSpec

DEEP = {"arch": "resnet-1024", "arch.width": 16}
SMALL: dict[str, Any] = {"arch": "resnet-8", "arch.width": 12}


def setting(**settings: Any) -> str:
    """One of the cases, as its own name; `arch__norm` stands for `arch.norm`."""
    return json.dumps(SMALL | {k.replace("__", "."): v for k, v in settings.items()})


@cache
def case(text: str) -> tuple[Any, Any, policy.Policy]:
    """A system, a state whose leaves are all unlike those it begins with, and the policy."""
    config = complete(Config.load(overrides=json.loads(text)))
    system = assemble(config)
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    state = agent.init(spec, key=jax.random.key(0))
    random = np.random.default_rng(0)

    def moved(leaf: Any) -> Any:
        learned = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.ndim
        return leaf + 0.1 * random.standard_normal(leaf.shape).astype(leaf.dtype) if learned else leaf

    state = jax.tree.map(moved, state)
    return system, state, policy.make_policy(system, state, policy.facts_of(config, system))


def inputs(made: policy.Policy, rows: int) -> list[np.ndarray]:
    random = np.random.default_rng(rows)
    return [random.standard_normal(shape.shape, np.float32) for shape in made.inputs(rows)]


def expected(text: str, rows: int) -> np.ndarray:
    """What the agent itself does."""
    system, state, made = case(text)
    acted = jax.jit(system.algorithm.agent.act_deterministic)(state, *inputs(made, rows))
    return np.asarray(acted)[:, : made.spec.action_size]


NETWORKS = {
    "depth 4": setting(arch="resnet-4"),
    "depth 64": setting(arch="resnet-64"),
    "depth 1024": setting(**DEEP),
    "rms, gelu": setting(arch__norm="rms", arch__activation="gelu"),
    "no norm, relu, no residual": setting(arch__norm="none", arch__activation="relu", arch__residual=False),
    "mlp": setting(arch="mlp"),
    "hyperspherical": setting(arch="hyperspherical-8"),
    "learned skips": setting(arch="learned-skip-12"),
    "sweeps": setting(arch__depth_solver="sweeps"),
}
AGENTS = {name: setting(agent=name) for name in ("crl-chunk", "crl-observer", "td3-her")}


# The others take as long and go the same way.
QUICK = ("depth 4", "depth 1024", "hyperspherical", "td3-her")


def cases(texts: Mapping[str, str]) -> list[Any]:
    """All of them, most left to `nox -s thorough`."""
    return [
        pytest.param(text, id=name, marks=[] if name in QUICK else pytest.mark.thorough) for name, text in texts.items()
    ]


@pytest.mark.parametrize("text", cases(NETWORKS | AGENTS))
def test_onnx_acts_as_the_agent(text: str, tmp_path: Path) -> None:
    _, _, made = case(text)
    path = tmp_path / "policy.onnx"
    onnx_file.write(made, path)
    onnx.checker.check_model(str(path), full_check=True)
    for rows in (1, 7):
        np.testing.assert_allclose(onnx_file.read(path, *inputs(made, rows)), expected(text, rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_onnx_rounds_products_as_the_agent_does(precision: str, tmp_path: Path) -> None:
    text = setting(agent__precision=precision)
    _, _, made = case(text)
    onnx_file.write(made, tmp_path / "policy.onnx")
    found = onnx_file.read(tmp_path / "policy.onnx", *inputs(made, 7))
    exact = expected(setting(), 7)
    rounded = expected(text, 7)
    # Much nearer to the rounded policy than that one is to the exact one, which it would be if nothing were rounded.
    assert np.abs(found - rounded).max() < 0.2 * np.abs(exact - rounded).max()


CHOSEN = ["depth 4", "depth 64", "depth 1024", "learned skips", "sweeps"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.thorough) for n in CHOSEN])
def test_stablehlo_acts_as_the_agent(name: str, tmp_path: Path) -> None:
    _, _, made = case(NETWORKS[name])
    path = tmp_path / "policy.stablehlo"
    stablehlo.write(made, path)
    for rows in (1, 7):
        found = stablehlo.read(path, *inputs(made, rows))
        np.testing.assert_allclose(found, expected(NETWORKS[name], rows), rtol=0, atol=1e-5)


def test_programs_grow_with_the_weights_alone(tmp_path: Path) -> None:
    """Blocks stay a loop: what is beside the weights is the same at depth 4 and 1024."""
    beside: dict[str, list[int]] = {".onnx": [], ".stablehlo": []}
    for text in (setting(**DEEP | {"arch": "resnet-4"}), setting(**DEEP)):
        _, _, made = case(text)
        for writer, suffix in ((onnx_file, ".onnx"), (stablehlo, ".stablehlo")):
            path = tmp_path / f"policy{suffix}"
            writer.write(made, path)
            beside[suffix].append(path.stat().st_size - made.bytes())
    for shallow, deep in beside.values():
        assert shallow < 40_000
        assert abs(deep - shallow) < 500


def test_programs_are_for_cpu_and_cuda(tmp_path: Path) -> None:
    _, _, made = case(setting())
    stablehlo.write(made, tmp_path / "policy.stablehlo")
    exported = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda")


def test_files_run_where_eqcrl_cannot_be_imported(tmp_path: Path) -> None:
    """In another process, with `jax.export` alone and with onnxruntime alone."""
    _, _, made = case(setting())
    stablehlo.write(made, tmp_path / "policy.stablehlo")
    onnx_file.write(made, tmp_path / "policy.onnx")
    observation, goal = inputs(made, 3)
    np.savez(tmp_path / "in.npz", observation=observation, goal=goal, action=expected(setting(), 3))
    code = """
        import sys

        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("eqcrl", "equinox", "mujoco"):
                    raise ImportError(f"{name} is not to be imported")

        sys.meta_path.insert(0, Refuse())
        import numpy as np

        given = np.load("in.npz")
        observation, goal = given["observation"], given["goal"]
        import onnxruntime

        session = onnxruntime.InferenceSession("policy.onnx")
        (action,) = session.run(None, {"observation": observation, "desired_goal": goal})
        assert np.abs(action - given["action"]).max() < 1e-5
        assert "jax" not in sys.modules
        import jax.export

        program = jax.export.deserialize(bytearray(open("policy.stablehlo", "rb").read()))
        assert np.abs(np.asarray(program.call(observation, goal)) - given["action"]).max() < 1e-5
        assert "eqcrl" not in sys.modules
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_safetensors_is_read_by_its_own_library(tmp_path: Path) -> None:
    _, _, made = case(setting())
    path = tmp_path / "policy.safetensors"
    weights.write(made, path)
    with safe_open(str(path), "np") as file:
        assert set(file.keys()) == made.weights.keys()
        for name, array in made.weights.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
        facts = json.loads(file.metadata()["policy"])
    assert facts["format"] == "eqcrl-policy-1"
    assert facts["architecture"]["depth"] == 8
    assert facts["architecture"]["branch_scale"] == 1.0
    assert (facts["observation_size"], facts["goal_size"], facts["action_size"]) == (4, 2, 2)
    assert weights.read(path)[1] == facts


@pytest.mark.parametrize("agent", ["crl", "crl-observer", "td3"])
def test_only_the_weights_that_the_action_depends_on_are_written(agent: str) -> None:
    """Under the same names for every agent; the head for the deviation, critics and optimizers are left out."""
    _, _, made = case(setting(agent=agent))
    heads = {name for name in made.weights if "head" in name}
    mean = "head" if agent == "td3" else "mean_head"
    assert heads == {f"{mean}.weight", f"{mean}.bias"}
    blocks = {f"trunk.blocks.blocks.branch.{leaf}" for leaf in ("weight", "bias", "scale", "shift")}
    stem = {"trunk.stem.weight", "trunk.stem.bias", "trunk.norm.scale", "trunk.norm.shift"}
    assert made.weights.keys() == heads | blocks | stem


class Sorted(AbstractLayer):
    """What no export to ONNX can say."""

    weight: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sort(x * self.weight, axis=-1)


def test_an_operation_without_translation_is_named(tmp_path: Path) -> None:
    system, state, _ = case(setting())
    state = eqx.tree_at(lambda s: s.actor.trunk, state, Sorted(jnp.ones(6)), is_leaf=lambda n: n is state.actor.trunk)
    heads = (state.actor.mean_head, state.actor.log_std_head)
    narrow = jax.tree.map(lambda leaf: leaf[:6] if leaf.ndim == 2 else leaf, heads)
    state = eqx.tree_at(lambda s: (s.actor.mean_head, s.actor.log_std_head), state, narrow)
    made = policy.make_policy(system, state, {"format": "", "eqcrl": ""})
    with pytest.raises(UsageError, match="the operation 'sort'"):
        onnx_file.write(made, tmp_path / "policy.onnx")
    stablehlo.write(made, tmp_path / "policy.stablehlo")
    given = inputs(made, 7)
    acted = np.asarray(system.algorithm.agent.act_deterministic(state, *map(jnp.asarray, given)))
    np.testing.assert_allclose(stablehlo.read(tmp_path / "policy.stablehlo", *given), acted, atol=1e-5)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"eqcrl\[export\]"):
        onnx_file.write(case(setting())[2], tmp_path / "policy.onnx")


def test_names_lose_what_all_of_them_share() -> None:
    assert policy.short_names(["a.b.c", "a.b.d.e"]) == ["c", "d.e"]
    assert policy.short_names(["a.b"]) == ["b"]
    assert policy.short_names(["a", "b.c"]) == ["a", "b.c"]


def test_specs_are_what_the_environment_says() -> None:
    _, _, made = case(setting())
    assert made.spec == EnvSpec(4, 2, 2)
    assert [i.shape for i in made.inputs(5)] == [(5, 4), (5, 2)]
