"""For the tests of the loop: the tiny run trained in this process, with accidents."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import pytest
from rich.console import Console

from eqcrl import trainer
from eqcrl.config import Config
from eqcrl.health import health
from eqcrl.logbook import Logbook
from eqcrl.programs import Programs
from eqcrl.rundir import RunDir
from eqcrl.trainer import Outcome, Trainer
from helpers import tiny, tiny_programs, tiny_system

# Of the tiny run, in unrolls.
PREFILL, TOTAL = 2, 12

Wrap = Callable[[Programs], Programs]


def after_unroll(number: int, act: Callable[[Any], Any]) -> Wrap:
    """Programs that call `act` on the state once so many unrolls are collected; its result, if any, replaces it."""

    def wrap(programs: Programs) -> Programs:
        def collect(state: Any) -> Any:
            state = programs.collect(state)
            return (act(state) or state) if int(state.unrolls) == number else state

        def epoch(state: Any) -> Any:
            state, metrics = programs.epoch(state)
            return ((act(state) or state) if int(state.unrolls) == number else state), metrics

        return dataclasses.replace(programs, collect=collect, epoch=epoch)

    return wrap


def send(number: int) -> Callable[[Any], None]:
    return lambda _: os.kill(os.getpid(), number)


class Killed(BaseException):
    """Nothing of eqcrl runs after this: stands for SIGKILL."""


def die(_: Any) -> None:
    raise Killed


def train_tiny(
    path: Path, config: Config | None = None, wrap: Wrap = lambda p: p, console: Console | None = None, **more: Any
) -> Outcome:
    """Trains in a directory; new if there is none, else continued. Compiles only once for all tests of a process.

    The programs are those of the tiny run, whatever `config` says of what is compiled; `more` goes to the trainer.
    """
    config = config or tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "compile_programs", lambda system: wrap(tiny_programs()))
        run = RunDir(path) if path.exists() else RunDir.create(path, config, {})
        loop = Trainer([Logbook(config, run)], tiny_system(), console or Console(quiet=True), **more)
        (outcome,) = loop.train(loop.restore())
        return outcome


def poison(state: Any) -> Any:
    """The parameters after a step that was far too large."""
    return eqx.tree_at(lambda s: s.agent.critic.state_action.head.weight, state, replace_fn=lambda w: w * jnp.nan)


def not_finite(programs: Programs, at: int) -> Programs:
    """The critic's loss is NaN in the epoch that ends after so many unrolls."""

    def epoch(state: Any) -> Any:
        state, metrics = programs.epoch(state)
        bad = {"critic_loss": metrics["critic_loss"] * jnp.nan}
        return state, (metrics | bad if int(state.unrolls) == at else metrics)

    return dataclasses.replace(programs, epoch=epoch)


def spoiled(programs: Programs, at: int) -> Programs:
    """The last gradient step of the epoch that ends after so many unrolls makes a network not finite."""

    def epoch(state: Any) -> Any:
        state, metrics = programs.epoch(state)
        if int(state.unrolls) != at:
            return state, metrics
        state = poison(state)
        return state, metrics | health(jnp.ones(3, bool), state.agent)

    return dataclasses.replace(programs, epoch=epoch)
