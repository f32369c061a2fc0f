"""The compiled programs; and what agents score that have learned nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqcrl import epoch as ep
from eqcrl import programs
from eqcrl import replay as rb
from eqcrl.agents.crl import CRLState
from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.programs import evaluation, update_options
from eqcrl.trainer import EVAL_STREAM, INIT_STREAM, stream
from helpers import first_state, tiny, tiny_programs, tiny_system


def leaves(tree: object) -> list[np.ndarray]:
    found = []
    for leaf in jax.tree.leaves(tree):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        found.append(np.asarray(jax.random.key_data(leaf) if is_key else leaf))
    return found


def test_every_program_is_compiled_ahead_and_timed() -> None:
    programs = tiny_programs()
    assert programs.compile_seconds.keys() == {"init", "collect", "epoch", "evaluate", "rows"}
    assert all(seconds > 0 for seconds in programs.compile_seconds.values())


def test_compiled_collecting_is_collecting() -> None:
    algorithm = tiny_system().algorithm
    programs = tiny_programs()
    # The one that is compiled consumes its state, hence two of them.
    plain = ep.collect(algorithm, first_state())
    for a, b in zip(leaves(programs.collect(first_state())), leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_state_is_consumed_where_it_would_be_copied() -> None:
    state = first_state()
    buffer = state.replay.data.observation
    tiny_programs().collect(state)
    assert buffer.is_deleted()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are of XLA for CPUs")
@pytest.mark.parametrize(("remat", "in_little"), [("block", True), ("dots", False)])
def test_a_large_update_that_recomputes_is_ordered_for_less_memory_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, remat: str, in_little: bool
) -> None:
    """Where gradients fill the memory, that is, and not activations."""
    settings = {"arch.depth": 64, "arch.width": 32, "arch.remat": remat, "train.batch_size": 32}
    algorithm = assemble(tiny(**settings)).algorithm
    agent, spec = algorithm.agent, spec_of(algorithm.env.env)
    assert "xla_cpu_scheduler_type" not in update_options(algorithm), "small"
    monkeypatch.setattr(programs, "LARGE_UPDATE", 4 * agent.working_floats(spec, algorithm.batch_size))
    # Longer vectors may round otherwise: the order alone keeps the bits.
    order = {name: value for name, value in update_options(algorithm).items() if "scheduler" in name}
    assert bool(order) == in_little
    if not in_little:
        return
    rows = rb.empty(spec, 2, algorithm.env.num_envs)
    batch = jax.tree.map(lambda x: jnp.ones_like(x), algorithm.sample(rows, key=jax.random.key(1)))
    key = jax.random.key(2)

    def fresh() -> CRLState:
        return agent.init(spec, key=jax.random.key(0))

    update = jax.jit(lambda state, batch, key: agent.update(state, batch, key=key), donate_argnums=0)
    lowered = update.lower(fresh(), batch, key)
    known, chosen = lowered.compile(), lowered.compile(compiler_options=order)
    less, more = (p.memory_analysis().temp_size_in_bytes for p in (chosen, known))
    assert less < 0.9 * more
    for a, b in zip(*(leaves(p(fresh(), batch, key)) for p in (chosen, known)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_key_gives_the_same_everything() -> None:
    programs = tiny_programs()
    for seed, same in ((0, True), (1, False)):
        other = programs.epoch(programs.init(stream(seed, INIT_STREAM)))[0]
        one = programs.epoch(first_state())[0]
        equal = all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))
        assert equal == same


def test_evaluation_does_not_consume_the_agent() -> None:
    state = first_state()
    first, _ = tiny_programs().evaluate(state.agent, stream(0, EVAL_STREAM, 1))
    again, _ = tiny_programs().evaluate(state.agent, stream(0, EVAL_STREAM, 1))
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in again.items()}


def test_rows_of_an_unroll_across_the_end_of_the_ring() -> None:
    state = first_state()
    for _ in range(6):  # 60 steps in a ring of 50
        state = tiny_programs().collect(state)
    for start, index in ((50, np.arange(0, 10)), (44, [44, 45, 46, 47, 48, 49, 0, 1, 2, 3])):
        found = tiny_programs().rows(state.replay, np.int32(start))
        for rows, ring in zip(jax.tree.leaves(found), jax.tree.leaves(state.replay.data), strict=True):
            np.testing.assert_array_equal(rows, np.asarray(ring)[index])


@pytest.mark.parametrize("env", ["point-u-maze", "point-big-maze", "point-hardest-maze"])
def test_agents_that_learned_nothing_score_below_a_fifth(env: str) -> None:
    """At the sizes of the quickstart: what a trained agent scores is learned."""
    config = complete(Config.load(overrides={"env": env}))
    assert config.eval.num_envs == 128
    system = assemble(config)
    agent, spec = system.algorithm.agent, spec_of(system.algorithm.env.env)
    evaluate = evaluation(system)

    @jax.jit
    def scores_of(seed: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.key(seed)
        return evaluate(agent.init(spec, key=key), jax.random.fold_in(key, EVAL_STREAM))[0]

    scores = [scores_of(np.uint32(seed)) for seed in range(8)]
    assert all(float(s["episode_length"]) == system.eval_env.episode_length for s in scores)
    assert max(float(s["success_any"]) for s in scores) < 0.2
    # They do start away from their goals.
    assert min(float(s["distance_end"]) for s in scores) > 1.0


def test_the_number_of_episodes_is_that_of_the_configuration_unless_asked() -> None:
    system, state = tiny_system(), first_state()
    _, ran = evaluation(system)(state.agent, stream(0, EVAL_STREAM))
    assert ran.at_goal.shape == (30, 4)
    _, ran = evaluation(system, episodes=3, deterministic=False)(state.agent, stream(0, EVAL_STREAM))
    assert ran.at_goal.shape == (30, 3)
    assert tiny().eval.num_envs == 4
