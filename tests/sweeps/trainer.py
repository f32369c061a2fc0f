"""Stands for `eqcrl train` where a test has many runs: a run directory is written in a moment, the score is a formula.

It takes the same arguments, checks the configuration, holds the lock of the run, saves when it is stopped and goes on
from there, and asks SLURM for another turn.
"""

import os
import signal
import sys
import time

from eqcrl.config import Config
from eqcrl.errors import EqcrlError
from eqcrl.jobs.runs import last_unroll, newest_checkpoint
from eqcrl.lock import claimed
from eqcrl.requeue import requeue
from eqcrl.rundir import RunDir

SECONDS = float(os.environ.get("FAKE_SECONDS", "0"))


def read() -> tuple[RunDir, Config]:
    words = sys.argv[2:]
    if words[0] == "--resume":
        run = RunDir.open(words[1])
        return run, run.config()
    pairs = dict(w.removeprefix("--").split("=", 1) for w in words if w.startswith("--") and "=" in w)
    rest = [w for w in words if "=" not in w]
    named = {rest[i].removeprefix("--"): rest[i + 1] for i in range(0, len(rest), 2)}
    overrides = {k.replace("-", "_"): v for k, v in pairs.items()} | {"seed": int(named["seed"])}
    config = Config.load(preset=named["preset"], overrides=overrides)
    return RunDir.create(named["out"], config, {}), config


def score(config: Config) -> float:
    """Best at width 48; a little better for a higher seed."""
    width = float(config.arch.params["width"])
    return 1.0 - abs(width - 48.0) / 100 + 0.01 * config.seed


def main() -> int:
    came: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda n, _: came.append(n))
    run, config = read()
    if float(config.arch.params["width"]) == 13.0:
        raise EqcrlError("Training diverged: thirteen is not finite.")
    with claimed(run.path):
        for epoch in range(newest_checkpoint(run.path) + 1, last_unroll(config) + 1):
            time.sleep(SECONDS)
            steps = epoch * config.env_steps_per_epoch()
            value = score(config) * epoch / last_unroll(config)
            run.append_metrics({"env_steps": steps, "wall_seconds": 0.1 * epoch, "eval/success_any": value})
            (run.checkpoints / f"{epoch:09d}").mkdir()
            if came and epoch < last_unroll(config):
                break
    if newest_checkpoint(run.path) < last_unroll(config):
        print("Stopped; everything is saved.", flush=True)
        requeue()
        return 130 if came[0] == signal.SIGINT else 75
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EqcrlError as error:
        print(f"Error: {error}")
        sys.exit(error.exit_code)
