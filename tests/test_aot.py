"""Counting kernels in optimized HLO: on texts with known counts, and on a program that XLA compiled here."""

import json
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

# benchmarks/ is not installed
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.aot import baseline
from benchmarks.aot.hlo import Launches, Loop, launches
from benchmarks.aot.plain import PlainScan, plain
from benchmarks.aot.programs import PROGRAMS, UPDATES, VARIANTS, Variant, one_update

from eqcrl.nn.resnet import ResNet

GPU = """HloModule jit_f, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %e = f32[8]{0} exponential(%p)
  ROOT %m = f32[8]{0} multiply(%e, %p)
}

%inner_body (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%a), index=0
  %x = f32[8]{0} get-tuple-element(%a), index=1
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/while/body/call(x) = copy(y)"}
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

%outer_body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = (s32[], f32[8]{0}) parameter(0)
  %g = (f32[8]{0}, s8[64]{0}, /*index=2*/f32[8]{0}) custom-call(%b), custom_call_target="__cublas$gemm"
  ROOT %w = (s32[], f32[8]) while(%b), body=%inner_body, condition=%test, backend_config={"known_trip_count":{"n":"5"}}
}

%test (c: (s32[], f32[8])) -> pred[] {
  %c = (s32[], f32[8]{0}) parameter(0)
  ROOT %l = pred[] fusion(%c), kind=kLoop, calls=%fused
}

%short (d: f32[8]) -> f32[8] {
  ROOT %d = f32[8]{0} parameter(0)
}

%long (d: f32[8]) -> f32[8] {
  %d = f32[8]{0} parameter(0)
  ROOT %o = f32[8]{0} copy(%d)
}

ENTRY %main.6 (x.1: f32[8]) -> f32[8] {
  %x.1 = f32[8]{0} parameter(0), sharding={replicated}
  %zero = s32[] constant(0)
  %start = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%x.1)
  %done = f32[8]{0} copy-done(%start)
  %s = (s32[], f32[8]{0}) tuple(%zero, %done)
  %w.1 = (s32[], f32[8]{0}) while(%s), condition=%test, body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  %w.2 = (s32[], f32[8]{0}) while(%w.1), condition=%test, body=%inner_body, backend_config={}
  %b.1 = f32[8]{0} get-tuple-element(%w.2), index=1
  ROOT %k = f32[8]{0} conditional(%zero, %b.1, %b.1), branch_computations={%short, %long}
}
"""


def test_loops_multiply_and_views_are_free():
    found = launches(GPU)
    # A copy, three times (a product and five fusions), a loop of unknown length (body and test), the longer branch.
    assert found.total == 1 + 3 * (1 + 5) + 1 + 1 + 1
    assert found.by_kind() == {"copy": 2, "custom-call": 3, "fusion": 17}
    assert [(loop.trips, loop.body.total) for loop in found.all_loops()] == [(3, 6), (5, 1), (1, 1)]
    assert found.unbounded == 1


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_trips_multiply_through(outer, inner):
    text = GPU.replace('{"n":"5"}', f'{{"n":"{inner}"}}').replace('{"n":"3"}', f'{{"n":"{outer}"}}')
    assert launches(text).total == 1 + outer * (1 + inner) + 3


def test_a_text_that_is_not_hlo_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        launches("module @jit_f {}")


def compiled_text(blocks: int) -> str:
    def f(weights, x):
        return jax.lax.scan(lambda x, weight: (x + jnp.tanh(x @ weight), None), x, weights)[0]

    return jax.jit(f).lower(jnp.zeros((blocks, 16, 16)), jnp.zeros((4, 16))).compile().as_text()


def test_what_xla_writes_today_is_read():
    """The same program with more blocks: more trips around the same body, at least a product in each."""
    few, many = (launches(compiled_text(blocks)) for blocks in (8, 24))
    (short,), (long,) = few.loops, many.loops
    assert (short.trips, long.trips) == (8, 24)
    assert short.body.kinds == long.body.kinds
    assert short.body.total >= 2
    assert many.total - few.total == 16 * short.body.total
    assert few.unbounded == 0


ROW = {"program": "gradient-step", "variant": "ours", "depth": 64, "per_layer": 11.671875}


def test_a_number_may_fall_but_not_rise(tmp_path):
    path = tmp_path / "baseline.json"
    with pytest.raises(SystemExit, match="--update-baseline"):
        baseline.read(path)
    baseline.write(path, baseline.updated({"kernels_per_layer": {}}, [ROW, ROW | {"depth": 1024, "per_layer": 10.1}]))
    before = baseline.read(path)
    assert before["jax"] == jax.__version__
    assert baseline.stored(before, ROW) == 11.67
    assert baseline.risen(before, [ROW]) == []
    assert baseline.risen(before, [ROW | {"per_layer": 9.0}]) == []
    (line,) = baseline.risen(before, [ROW | {"per_layer": 11.7}])
    assert line == "gradient-step, ours, depth 64: 11.67 -> 11.7 kernels per layer"
    # Another program or depth has nothing to compare with, and storing one number leaves the others.
    assert baseline.stored(before, ROW | {"program": "epoch"}) is None
    assert baseline.risen(before, [ROW | {"depth": 8, "per_layer": 99.0}]) == []
    after = baseline.updated(before, [ROW | {"per_layer": 9.0}])
    assert after["kernels_per_layer"]["gradient-step"]["ours"] == {"64": 9.0, "1024": 10.1}
    older = json.loads(json.dumps(before)) | {"jax": "0.1"}
    assert "those of jax 0.1" in baseline.risen(older, [ROW | {"per_layer": 12.0}])[-1]


def test_the_stored_numbers_are_of_programs_that_exist():
    for program, variants in baseline.read(baseline.PATH)["kernels_per_layer"].items():
        assert program in PROGRAMS
        assert variants.keys() <= VARIANTS.keys()
        assert all(value > 0 for depths in variants.values() for value in depths.values())


def test_plain_scan_is_the_same_network():
    """Value and gradient of the library's trunk and of both baselines, in one compiled program."""
    arch, x = ResNet(depth=32, width=8, recipe="calm"), jnp.linspace(-1.0, 1.0, 15).reshape(5, 3)

    def value_and_gradient(trunk):
        return jax.value_and_grad(lambda trunk: jnp.sum(jnp.sin(trunk(x))))(trunk)

    @jax.jit
    def all_three(key):
        trunk = arch.build(3, key=key)
        assert isinstance(plain(trunk, "all").blocks, PlainScan)
        return [value_and_gradient(t) for t in (trunk, plain(trunk, "all"), plain(trunk, "dots"))]

    (value, gradient), *others = all_three(jax.random.key(0))
    for value_too, gradient_too in others:
        np.testing.assert_allclose(value_too, value, rtol=1e-5)
        for mine, other in zip(jax.tree.leaves(plain(gradient, "all")), jax.tree.leaves(gradient_too), strict=True):
            np.testing.assert_allclose(other, mine, rtol=1e-4, atol=1e-5 * float(np.abs(mine).max()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_the_same_numbers(variant):
    program = PROGRAMS["gradient-step"](VARIANTS[variant], 8)
    library = PROGRAMS["gradient-step"](Variant("as it comes"), 8)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(made.shapes[0])) for made in (program, library)]
    assert sizes[0] == sizes[1]
    assert program.shapes[1].observation.shape == (512, 268)


def test_plain_scan_refuses_other_blocks():
    with pytest.raises(TypeError, match="dense-norm-swish"):
        PROGRAMS["gradient-step"](Variant("", {"arch": "mlp"}, state=VARIANTS["scan"].state), 8)


def test_a_step_of_the_epoch_is_one_trip_of_its_loop():
    step = Launches(Counter(fusion=7), [Loop(16, Launches(Counter(fusion=2)))])
    found = Launches(Counter(copy=1), [Loop(4, Launches(Counter(fusion=9))), Loop(UPDATES, step)])
    assert one_update(found) == 7 + 16 * 2
    with pytest.raises(ValueError, match=f"{UPDATES} trips"):
        one_update(step)
