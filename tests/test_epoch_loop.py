"""The loop of epochs: nothing compiles between them, nothing goes through the host within one, nothing is copied.

For one run, and for runs of several seeds side by side under `jax.vmap`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

from eqcrl import checkpoint, trainer
from eqcrl import epoch as ep
from eqcrl import run as runs
from eqcrl.assemble import assemble
from eqcrl.envs.base import spec_of
from eqcrl.programs import Programs, compile_programs
from eqcrl.types import Batch
from helpers import records, tiny

SEEDS = 2
EPOCHS = 3


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of what is compiled within the block, as it happens."""
    found: list[str] = []

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(str(about.get("fun_name")))

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listen)


def test_the_counter_of_compilations_counts() -> None:
    with compilations() as found:
        for size in (3, 3, 4):
            jax.jit(lambda x: 2 * x).lower(np.zeros(size)).compile()
    assert len(found) == 3
    jax.jit(lambda x: 3 * x).lower(np.zeros(3)).compile()
    assert len(found) == 3


# The replay is by far the largest part: what copies it is seen.
CONFIG = tiny(replay__capacity=20_000)


@functools.cache
def programs() -> Programs:
    """Those of a run, as the trainer compiles them."""
    return compile_programs(assemble(CONFIG))


@functools.cache
def algorithm() -> ep.Algorithm:
    return assemble(CONFIG).algorithm


def test_nothing_compiles_between_the_first_epoch_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve unrolls, ten epochs, five evaluations, three checkpoints."""
    seen: list[int] = []
    compiled = programs()
    with compilations() as found:

        def epoch(state: ep.TrainState) -> Any:
            seen.append(len(found))
            return compiled.epoch(state)

        def made(system: Any) -> Programs:
            return dataclasses.replace(compiled, epoch=epoch)

        monkeypatch.setattr(trainer, "compile_programs", made)
        run = runs.fit(CONFIG, tmp_path / "run")
        at_the_end = len(found)
    assert len(records(run.directory.path)) == 5
    assert len(checkpoint.numbers(run.directory.checkpoints)) == 2  # of those written two are kept
    assert len(seen) == 10
    assert at_the_end == seen[0], found


def side_by_side(function: Callable[[Any], Any], seeds: int) -> Callable[[Any], Any]:
    return function if seeds == 1 else jax.vmap(function)


def first_states(seeds: int) -> ep.TrainState:
    """The state in which the run of seed 0 begins, or those of as many seeds, stacked."""
    keys = jnp.stack([trainer.stream(seed, trainer.INIT_STREAM) for seed in range(seeds)])
    return compiled_init(seeds)(keys[0] if seeds == 1 else keys)


@functools.cache
def compiled_init(seeds: int) -> Any:
    return jax.jit(side_by_side(lambda key: ep.init(algorithm(), key=key), seeds))


@functools.cache
def compiled_epoch(seeds: int) -> Any:
    if seeds == 1:
        return programs().epoch
    shapes = jax.eval_shape(lambda: first_states(seeds))
    return jax.jit(jax.vmap(lambda state: ep.epoch(algorithm(), state)), donate_argnums=0).lower(shapes).compile()


def to_the_host(program: str) -> list[str]:
    """What in the text of a program, before or after XLA, goes through the host."""
    targets = re.findall(r'custom_call_target\s*=\s*"([^"]*)"', program) + re.findall(r"custom_call @(\w+)", program)
    moves = re.findall(r"\b(infeed|outfeed|send-start|recv-start|stablehlo\.send|stablehlo\.recv)\b", program)
    return [target for target in targets if "callback" in target] + moves


def test_programs_that_call_the_host_are_recognized() -> None:
    shape = jax.ShapeDtypeStruct((), jnp.float32)

    def asks(x: Any) -> Any:
        return jax.pure_callback(lambda value: np.float32(value), shape, x)

    def tells(x: Any) -> Any:
        jax.debug.callback(lambda value: None, x)
        return x

    for function in (asks, tells):
        lowered = jax.jit(function).lower(shape)
        assert to_the_host(lowered.as_text())
        assert to_the_host(lowered.compile().as_text() or "")


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_an_epoch_does_not_go_through_the_host(seeds: int) -> None:
    text = compiled_epoch(seeds).as_text()
    assert "while" in text
    assert to_the_host(text) == []


@pytest.mark.parametrize(("physics", "through_the_host"), [("mjx", False), ("mujoco", True)])
def test_of_the_engines_only_that_in_c_goes_through_the_host(physics: str, through_the_host: bool) -> None:
    made = assemble(tiny(env="reacher", env__physics=physics)).algorithm
    shapes = jax.eval_shape(lambda key: ep.init(made, key=key), jax.random.key(0))
    text = jax.jit(lambda state: ep.epoch(made, state)).lower(shapes).as_text()
    assert bool(to_the_host(text)) == through_the_host


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_the_whole_state_is_written_over_itself(seeds: int) -> None:
    program = compiled_epoch(seeds)
    memory = program.memory_analysis()
    leaves = len(jax.tree.leaves(first_states(seeds)))
    assert memory.alias_size_in_bytes == memory.argument_size_in_bytes
    assert program.as_text().partition("\n")[0].count("-alias)") == leaves


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_every_buffer_is_where_it_was(seeds: int) -> None:
    def places(state: ep.TrainState) -> list[int]:
        return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((state.agent, state.replay, state.env))]

    state = first_states(seeds)
    before = places(state)
    for _ in range(EPOCHS):
        state, _ = compiled_epoch(seeds)(state)
    assert sorted(places(state)) == sorted(before)


@pytest.mark.parametrize("seeds", [1, SEEDS])
def test_the_replay_is_not_copied(seeds: int) -> None:
    memory = compiled_epoch(seeds).memory_analysis()
    replay = sum(leaf.nbytes for leaf in jax.tree.leaves(first_states(seeds).replay))
    assert replay > 0.9 * memory.argument_size_in_bytes
    assert memory.temp_size_in_bytes < 0.1 * replay / seeds


def test_seeds_side_by_side_are_the_runs_of_each() -> None:
    states, every = first_states(SEEDS), []
    for _ in range(EPOCHS):
        states, metrics = compiled_epoch(SEEDS)(states)
        every.append(metrics)
    for seed in range(SEEDS):
        state = compiled_init(1)(trainer.stream(seed, trainer.INIT_STREAM))
        for number in range(EPOCHS):
            state, metrics = compiled_epoch(1)(state)
            for name, value in metrics.items():
                np.testing.assert_allclose(every[number][name][seed], value, rtol=1e-3, atol=1e-4, err_msg=name)
        ours = jax.tree.map(lambda leaf, seed=seed: leaf[seed], states)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(state), strict=True):
            if jnp.issubdtype(a.dtype, jnp.floating):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        assert int(ours.unrolls) == int(state.unrolls) == EPOCHS
        np.testing.assert_array_equal(ours.replay.data.episode, state.replay.data.episode)
    weights = states.agent.critic.goal.trunk.stem.weight
    assert not np.allclose(weights[0], weights[1])


def test_gradients_of_the_schedule_for_accelerators_are_those_of_each_seed_too() -> None:
    spec = spec_of(algorithm().env.env)
    keys = jax.random.split(jax.random.key(3), 4)
    batch = Batch(*(jax.random.normal(keys[i], (8, size)) for i, size in enumerate(dataclasses.astuple(spec))))
    agents = {name: assemble(tiny(agent__schedule=name)).algorithm.agent for name in ("merged", "abreast")}
    states = jax.vmap(lambda key: agents["merged"].init(spec, key=key))(keys[:SEEDS])

    def gradients(name: str) -> Callable[[Any], Any]:
        return lambda state: agents[name].gradients(state, batch, key=keys[3])

    both = jax.jit(jax.vmap(gradients("abreast")))(states)
    alone = jax.jit(gradients("merged"))
    for seed in range(SEEDS):
        expected = alone(jax.tree.map(lambda leaf, seed=seed: leaf[seed], states))
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a[seed], b, rtol=1e-3, atol=1e-5)
