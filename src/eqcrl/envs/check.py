"""Running the environment contract: what `eqcrl check env NAME` and the contract test of a plugin call."""

import traceback
from dataclasses import dataclass
from typing import Literal

import jax

from eqcrl.envs import contract, contract_goals
from eqcrl.envs.base import AbstractEnv
from eqcrl.envs.probe import Check, Probe, Violation
from eqcrl.errors import CheckFailed

CHECKS: tuple[Check, ...] = (*contract.CHECKS, *contract_goals.CHECKS)
"""The whole contract, in the order in which it is run."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found; `message` says what is wrong, where, and how to mend it."""

    name: str
    description: str
    status: Literal["pass", "note", "fail", "not run"]
    message: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What every check found, in the order they ran."""

    env: str
    results: tuple[CheckResult, ...]

    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed; those that were not run for it are not among them."""
        return tuple(r for r in self.results if r.status == "fail")

    def raise_if_failed(self) -> None:
        """Raises: CheckFailed that lists every failure."""
        failed = self.failures()
        if failed:
            lines = [f"{r.name} ({r.description}):\n    {r.message}" for r in failed]
            raise CheckFailed(
                f"{self.env} breaks the environment contract: {len(failed)} of {len(self.results)} checks failed.",
                mend="\n  ".join(lines),
            )


def check_env(env: AbstractEnv, *, seed: int = 0) -> CheckReport:
    """Run the contract of `eqcrl.envs.base.AbstractEnv` on one environment; `seed` draws starts and actions.

    Never raises for what the environment does: a crash in one of its methods is a failed check.
    """
    probe = Probe(env, seed)
    results: dict[str, CheckResult] = {}
    for check in CHECKS:
        broken = next((n for n in check.needs if results[n].status in ("fail", "not run")), None)
        if broken is not None:
            found = CheckResult(check.name, check.description, "not run", f"It builds on `{broken}`.")
        else:
            found = _run(check, probe)
        results[check.name] = found
    return CheckReport(type(env).__name__, tuple(results.values()))


def _run(check: Check, probe: Probe) -> CheckResult:
    try:
        remark = check.run(probe)
    except Violation as violation:
        return CheckResult(check.name, check.description, "fail", str(violation))
    except Exception as error:  # an environment may raise anything
        text = (str(error).strip().splitlines() or ["no message"])[0]
        return CheckResult(
            check.name,
            check.description,
            "fail",
            f"It crashed at {_place(error, probe.env)}: {type(error).__name__}: {text}{_hint(error)}",
        )
    return CheckResult(check.name, check.description, "note" if remark else "pass", remark or "")


def _place(error: Exception, env: AbstractEnv) -> str:
    """The deepest line of the environment's own module in the traceback, else the deepest line."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(f, line) for f, line in frames if f.f_globals.get("__name__") == type(env).__module__]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line} in `{frame.f_code.co_name}`"


def _hint(error: Exception) -> str:
    if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        return " Choose with `jnp.where` or `jax.lax.cond`, and compute with `jnp`, not `np`, on traced values."
    return ""
