"""`python -m eqcrl.jobs.sizing`: sizes of settings, in a process of its own.

It looks at the device, and on an accelerator whoever looks at it holds it: the process that starts the runs must not.
Reads one JSON object, writes one JSON object a line: the device, then each setting, or an error.
"""

import json
import os
import sys
from typing import Any, TextIO

import jax

from eqcrl.assemble import System, assemble, complete
from eqcrl.config import Config
from eqcrl.device_memory import device_memory, machine_memory
from eqcrl.errors import EqcrlError
from eqcrl.estimate import estimate
from eqcrl.plan import Plan, make_plan
from eqcrl.run import device_text


def main() -> None:
    """Answer the question on stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    question = json.load(sys.stdin)
    try:
        _answer(question, answers)
    except EqcrlError as error:
        kind = next(c.__name__ for c in type(error).__mro__ if c.__module__ == "eqcrl.errors")
        _say(answers, {"error": error.message, "mend": error.mend, "kind": kind, "slug": _current[0]})


_current = [""]


def _answer(question: dict[str, Any], answers: TextIO) -> None:
    device, host = device_memory(), machine_memory()
    _say(
        answers,
        {
            "device": device_text(),
            "platform": jax.devices()[0].platform,
            "device_bytes": device.bytes if device else None,
            "host_bytes": host.bytes if host else None,
        },
    )
    found: list[tuple[Config, System, Plan]] = []
    for row in question["settings"]:
        _current[0] = row["slug"]
        config, origins = Config.merge(preset=row["preset"], overrides=row["overrides"], origin=question["what"])
        config = complete(config, origins | row["origins"])
        config.validate()
        system = assemble(config)
        plan = make_plan(config, system)
        found.append((config, system, plan))
        if not question["timing"]:
            _say(answers, _row(row["slug"], config, plan, None))
    for row, (config, system, plan) in zip(question["settings"], found, strict=True) if question["timing"] else ():
        _current[0] = row["slug"]
        took = estimate(config, system).total(config, plan, system.algorithm.env.env.episode_length)
        _say(answers, _row(row["slug"], config, plan, took))


def _row(slug: str, config: Config, plan: Plan, seconds: float | None) -> dict[str, Any]:
    return {
        "slug": slug,
        "bytes": plan.total_bytes(),
        "parameters": sum(plan.parameters.values()),
        "env_steps": plan.env_steps,
        "grad_steps": plan.grad_steps,
        "batch_size": config.train.batch_size,
        "seconds": seconds,
        "remarks": list(plan.remarks),
    }


def _say(answers: TextIO, row: dict[str, Any]) -> None:
    answers.write(json.dumps(row) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
