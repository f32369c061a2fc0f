"""A NaN in the middle of training, at depth 64 and 1024."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from rich.console import Console

from benchmarks.faults.runs import Result
from eqcrl import checkpoint, run, trainer
from eqcrl.config import Config
from eqcrl.errors import DivergenceError

AT = 9


def _config(depth: int, policy: str) -> Config:
    return Config.load(
        overrides={
            "arch": f"resnet-{depth}",
            "arch.width": 8,
            "train.num_envs": 8,
            "train.unroll_length": 10,
            "train.updates_per_epoch": 4,
            "train.batch_size": 8,
            "train.total_env_steps": 80 * 14,
            "replay.capacity": 100,
            "replay.min_filled": 20,
            "eval.every": 2,
            "eval.num_envs": 4,
            "checkpoint.every": 1,
            "on_divergence": policy,
        }
    )


def _with_a_nan(programs: Any, where: str) -> Any:
    """Once, after so many unrolls, a NaN in one weight in the middle of the critic or in a few rows of the replay."""
    import dataclasses

    done: list[int] = []

    def epoch(state: Any) -> Any:
        state, metrics = programs.epoch(state)
        if int(state.unrolls) == AT and not done:
            done.append(AT)
            if where == "weight":
                part = lambda s: s.agent.critic.state_action.trunk.blocks.blocks.branch.weight  # noqa: E731
                middle = part(state).shape[0] // 2
                state = eqx.tree_at(part, state, replace_fn=lambda w: w.at[middle, 0, 3, 3].set(jnp.nan))
            else:
                rows = lambda s: s.replay.data.observation  # noqa: E731
                state = eqx.tree_at(rows, state, replace_fn=lambda x: x.at[20:24].set(jnp.nan))
        return state, metrics

    return dataclasses.replace(programs, epoch=epoch)


def injected(place: Path, depth: int, policy: str) -> Result:
    """One run with a NaN under a policy."""
    where = "replay" if policy == "skip" else "weight"
    result = Result(f"NaN in a {where}, depth {depth}, --on-divergence {policy}", tried=1)
    real, path = trainer.compile_programs, place / f"nan-{depth}-{policy}"
    trainer.compile_programs = lambda *args: _with_a_nan(real(*args), where)
    try:
        done = run.fit(_config(depth, policy), path, console=Console(quiet=True))
    except DivergenceError as error:
        said = str(error)
        named = f"from gradient step {(AT - 2) * 4 + 1} on" in said and "of the networks first" in said
        kept = int(checkpoint.latest(path / "checkpoints").name) == AT - 1
        result.recovered = int(policy == "stop" and named and kept)
        result.lost = "the gradient steps since the last checkpoint"
        if named:
            result.lost += "; it stops, and names the gradient step and the first leaf"
        else:
            result.notes.append(said)
    else:
        metrics = done.metrics
        whole = metrics[-1]["env_steps"] == 80 * 14 and all(v is not None for v in metrics[-1].values())
        if policy == "rollback":
            result.recovered = int(whole and len(done.directory.header()["rollbacks"]) == 1)
            result.lost = "two unrolls, taken again with other random numbers"
        else:
            skipped = sum(line["train/skipped_updates"] for line in metrics)
            result.recovered = int(whole and policy == "skip")
            result.lost = f"the gradient steps that met it ({skipped:g} in the epochs that were recorded)"
    finally:
        trainer.compile_programs = real
    return result
