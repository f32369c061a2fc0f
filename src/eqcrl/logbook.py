"""One run on its way: its clock, what it records and saves, and whether it can be believed and continued."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.assemble import complete
from eqcrl.config import RESUMABLE, Config, difference
from eqcrl.errors import CheckpointError, DivergenceError, EqcrlError
from eqcrl.health import HEALTH
from eqcrl.recorded import recorded_config
from eqcrl.rundir import RunDir
from eqcrl.trackers.feed import Tracking


class Logbook:
    """Writes one run directory while the run is trained, alone or beside others."""

    def __init__(self, config: Config, run: RunDir, diverged: DivergenceError | None = None):
        self.config = config
        self.run = run
        self.diverged = diverged
        """Why nothing more is written; None while all is well."""
        self.prefill = config.prefill_epochs()
        self.total = self.prefill + config.num_epochs()
        self.started = time.monotonic()
        self.wall_before = 0.0
        self.best = checkpoint.best_score(run.checkpoints)
        """Steps at the goal per episode of the best evaluation; -inf before the first one."""
        self.tracking = Tracking(config, run, lambda: "diverged" if self.diverged else "stopped")

    def wall_seconds(self) -> float:
        """Wall time of the run, that of earlier processes included."""
        return self.wall_before + time.monotonic() - self.started

    def env_steps(self, unrolls: int) -> int:
        """Environment steps after so many unrolls."""
        return unrolls * self.config.env_steps_per_epoch()

    def grad_steps(self, unrolls: int) -> int:
        """Gradient steps after so many unrolls."""
        return max(unrolls - self.prefill, 0) * self.config.train.updates_per_epoch

    def checkpoints(self) -> list[int]:
        """Unrolls after which there is a checkpoint, ascending."""
        return checkpoint.numbers(self.run.checkpoints)

    def load(self, number: int, like: ep.TrainState) -> ep.TrainState:
        """The state after so many unrolls; nothing of the run is changed.

        Raises: CheckpointError if it is damaged, or was made under another configuration.
        """
        path = self._checkpoint(number)
        manifest = checkpoint.read_manifest(path)
        try:
            made_with = complete(recorded_config(manifest["config"], f"{path}/manifest.json"))
            self.wall_before = float(manifest["wall_seconds"])
        except (EqcrlError, KeyError, TypeError, ValueError) as error:
            raise checkpoint.damaged(path, f"its manifest.json is no longer what was written ({error})") from None
        differ = difference(made_with, self.config, RESUMABLE)
        if differ:
            rows = "; ".join(f"{k} was {a!r}, is {b!r}" for k, (a, b) in differ.items())
            raise CheckpointError(
                f"The checkpoint {path} was made under another configuration: {rows}.",
                mend="Restore these values in config.toml, or start a new run.",
            )
        return checkpoint.load(path, like)

    def go_back_to(self, number: int) -> None:
        """Drop what was recorded and saved after so many unrolls: the run that continues there will make it again."""
        self.run.forget_metrics_after(self.env_steps(number))
        checkpoint.forget_after(self.run.checkpoints, number)

    def record(
        self, unrolls: int, metrics: Mapping[str, Any], scores: Mapping[str, Any], rates: Mapping[str, float]
    ) -> dict[str, float]:
        """Write the line of an evaluation, and return it. Raises: RunError."""
        line = {
            "env_steps": self.env_steps(unrolls),
            "grad_steps": self.grad_steps(unrolls),
            "wall_seconds": self.wall_seconds(),
            **{f"train/{k}": float(v) for k, v in metrics.items() if k not in HEALTH},
            **rates,
            **{f"eval/{k}": float(v) for k, v in scores.items()},
        }
        self.run.append_metrics(line)
        self.tracking.log(line)
        return line

    def save(self, state: ep.TrainState) -> None:
        """Write a checkpoint. Raises: CheckpointError."""
        checkpoint.save(self.run.checkpoints, state, self._extra(), replay=self.config.checkpoint.replay)

    def save_policy(self, kind: str, unrolls: int, agent: Any, **facts: float) -> None:
        """Write the networks alone, and in their manifest these facts. Raises: CheckpointError."""
        checkpoint.save_policy(self.run.checkpoints, kind, unrolls, agent, self._extra() | facts)

    def _extra(self) -> dict[str, Any]:
        return {"config": self.config.to_toml(), "wall_seconds": self.wall_seconds()}

    def is_best(self, scores: Mapping[str, Any]) -> bool:
        """Whether an evaluation is better than all before, by the paper's measure; it is the best from now on."""
        score = float(scores["time_at_goal"])
        better = score > self.best
        self.best = score if better else self.best
        return better

    def prune(self) -> None:
        """Remove the checkpoints that are not to be kept."""
        checkpoint.prune(self.run.checkpoints, self.config.checkpoint.keep)

    def check(self, unrolls: int, metrics: Mapping[str, Any], leaves: Sequence[str]) -> None:
        """Note in `diverged`, and in the run's header, if an epoch's metrics or networks are not finite.

        `leaves` names the agent's, as `health.leaf_names` does. A network may go bad in the very last step, which no
        loss has seen yet.
        """
        update, leaf = (int(metrics.get(name, 0)) for name in HEALTH)
        bad = sorted(f"train/{name}" for name, value in metrics.items() if not np.isfinite(value))
        said = [", ".join(bad)] if bad else []
        if update:
            first = self.grad_steps(unrolls - 1) + update
            said.append(f"from gradient step {first:,} on")
        if leaf:
            said.append(f"of the networks first {leaves[leaf - 1]}")
        if bad or leaf:
            self._diverge("; ".join(said), unrolls)

    def rollbacks_to(self, number: int) -> int:
        """How often the run went back to this checkpoint. Raises: RunError."""
        noted = self.run.header().get("rollbacks", [])
        return sum(1 for each in noted if each.get("to_env_steps") == self.env_steps(number))

    def go_on(self, number: int) -> int:
        """Forget that the run diverged and go on after so many unrolls; how often that was done in all.

        Raises: RunError.
        """
        assert self.diverged is not None
        self.go_back_to(number)
        times = self.run.note_rollback(self.env_steps(number), str(self.diverged))
        self.diverged = None
        return times

    def _diverge(self, what: str, unrolls: int) -> None:
        kept = self.checkpoints()
        where = f"the checkpoint at {self.env_steps(kept[-1]):,} environment steps" if kept else "no checkpoint yet"
        self.diverged = DivergenceError(
            f"Training diverged: not finite after the epoch that ended at {self.env_steps(unrolls):,} environment "
            f"steps, {self.grad_steps(unrolls):,} gradient steps: {what}.",
            mend="Lower the step sizes (--agent.actor-rate, --agent.critic-rate), or check that the environment's "
            "observations are finite and of order 1; --on-divergence rollback or skip goes on by itself. "
            f"Kept: the metrics until then, and {where}.",
        )
        self.run.note_divergence(str(self.diverged))

    def _checkpoint(self, number: int) -> Path:
        return self.run.checkpoints / f"{number:09d}"
