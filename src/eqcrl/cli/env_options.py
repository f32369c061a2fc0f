"""Flags shared by the commands that act in an environment of the user's choice."""

from collections.abc import Sequence
from typing import Any

from eqcrl import registry
from eqcrl.cli.options import SettingOption, part_options, peek, physics_option
from eqcrl.config import Config, Part
from eqcrl.rundir import RunDir


def run_env_options(args: Sequence[str]) -> list[SettingOption]:
    """`--env.KEY` for the environment given by `--env`, or else for the one that the run was trained on."""
    named = peek(args, ("env",)).get("env")
    if named is not None:
        return _options(_named(named))
    # Values of other flags stand among the arguments too: the run is the one that is a run directory.
    run = next((a for a in args if not a.startswith("-") and RunDir(a).config_file.is_file()), None)
    return _options(RunDir.open(run).config().env) if run is not None else []


def check_env_options(args: Sequence[str]) -> list[SettingOption]:
    """`--env.KEY` for the environment that `eqcrl check env NAME` names."""
    known = {name for e in registry.entries("env") for name in (e.name, e.qualified())}
    name = next((a for a in args if a in known), None)
    return _options(_named(name)) if name is not None else []


def _options(env: Part) -> list[SettingOption]:
    return part_options("env", env) + physics_option({"env": env})


def _named(name: str) -> Part:
    entry = registry.resolve("env", name).entry
    return Part(entry.qualified() if "/" in name else entry.name)


def chosen_env(config: Config, name: str | None, params: dict[str, Any]) -> Part | None:
    """The environment that the flags ask for instead of the run's own evaluation; None if they ask for none."""
    if name is None and not params:
        return None
    chosen = {k.partition(".")[2]: v for k, v in params.items()}
    if name is None or name == config.env.name:
        return Part(config.env.name, config.env.params | chosen)
    return Part(name, chosen)
