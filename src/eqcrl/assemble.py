"""From a configuration to parts: load each by name, check its parameters, fit them together.

All of it happens before anything is compiled.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx

from eqcrl import registry
from eqcrl.agents.base import AbstractRelabels
from eqcrl.config import OPTIONAL_PARTS, PART_KINDS, Config, Part
from eqcrl.envs.base import AbstractEnv
from eqcrl.envs.wrap import BatchedEnv
from eqcrl.epoch import Algorithm
from eqcrl.errors import BrokenPlugin, ConfigError
from eqcrl.settings import REQUIRED, Signature, coerce, signature_of, unknown_key


class System(eqx.Module):
    """All that a configuration names, ready to run."""

    algorithm: Algorithm
    eval_env: AbstractEnv
    eval_episodes: int = eqx.field(static=True)


def part_signature(kind: str, name: str) -> Signature:
    """Settings and slots of a part. Raises: UnknownName, NameConflict, BrokenPlugin."""
    factory = registry.load(kind, name)
    if not callable(factory):
        raise BrokenPlugin(
            f"The {kind} {name!r} of {registry.resolve(kind, name).entry.origin()} is a {type(factory).__name__}, "
            "which nothing can be built from.",
            mend="Let its entry point name a class or a function.",
        )
    return signature_of(factory)


def check_params(field: str, part: Part, origins: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The part's parameters, checked and completed with its defaults.

    Raises: ConfigError for a parameter the part does not have or a value that does not fit.
    """
    settings = part_signature(PART_KINDS[field], part.name).settings
    origins = origins or {}
    params = {k: s.default for k, s in settings.items() if s.default is not REQUIRED}
    for name, value in part.params.items():
        key = f"{field}.{name}"
        origin = origins.get(key, f"{field} {part.name!r}")
        if name not in settings:
            raise unknown_key(key, [f"{field}.{s}" for s in settings], origin=origin)
        params[name] = coerce(value, settings[name], key=key, origin=origin)
    missing = [f"{field}.{k}" for k in settings if k not in params]
    if missing:
        raise ConfigError(f"The {field} {part.name!r} needs `{missing[0]}`.", mend=f"Set {', '.join(missing)}.")
    return params


def complete(config: Config, origins: Mapping[str, str] | None = None) -> Config:
    """The same configuration with every parameter of every part written out, so that it stays what it was when a
    default changes or a file moves. Raises: ConfigError, PluginError.
    """
    parts: dict[str, Part] = {}
    for field in PART_KINDS:
        part = getattr(config, field)
        if part is not None:
            params = check_params(field, part, origins)
            if PART_KINDS[field] == "env":
                # An environment may replace what it was given, such as the path of a layout by the layout.
                env = build_env(Part(part.name, params), field)
                params = {k: getattr(env, k, v) for k, v in params.items()}
            parts[field] = Part(part.name, params)
    return config.replace(**parts)


def build_part(field: str, part: Part, slots: Mapping[str, Any] | None = None) -> Any:
    """The part itself. Raises: ConfigError, PluginError (BrokenPlugin if its constructor fails)."""
    params = check_params(field, part)
    kind = PART_KINDS[field]
    wanted = part_signature(kind, part.name).slots
    given = {name: value for name, value in (slots or {}).items() if name in wanted}
    try:
        return registry.load(kind, part.name)(**params, **given)
    except (ConfigError, registry.UnknownName):
        raise
    except Exception as error:
        origin = registry.resolve(kind, part.name).entry.origin()
        raise BrokenPlugin(
            f"The {kind} {part.name!r} of {origin} cannot be built with {params}: {type(error).__name__}: {error}",
            mend="`--debug` shows where it failed.",
        ) from error


def build_env(part: Part, field: str = "env") -> AbstractEnv:
    """The environment. Raises: ConfigError, PluginError (BrokenPlugin for an object that is none)."""
    env = build_part(field, part)
    if not isinstance(env, AbstractEnv):
        raise BrokenPlugin(
            f"The env {part.name!r} is a {type(env).__name__}, not an eqcrl.envs.base.AbstractEnv.",
            mend="Let its class derive from AbstractEnv.",
        )
    return env


def assemble(config: Config) -> System:
    """Every part of the configuration, built. Raises: ConfigError, PluginError."""
    parts = {field: getattr(config, field) for field in PART_KINDS}
    for field in OPTIONAL_PARTS:
        if field.endswith("_arch") and parts[field] is None:
            parts[field] = parts["arch"]
    env = build_env(parts["env"])
    eval_env = env.evaluation() if parts["eval_env"] is None else build_env(parts["eval_env"], "eval_env")
    slots = {
        field: build_part(field, part)
        for field, part in parts.items()
        if part is not None and field not in ("env", "eval_env", "agent", "arch")
    }
    agent = build_part("agent", parts["agent"], slots | {"env": env})
    algorithm = Algorithm(
        env=BatchedEnv(env, config.train.num_envs, config.train.fresh_resets),
        agent=agent,
        relabeller=agent.relabeller() if isinstance(agent, AbstractRelabels) else slots["relabeller"],
        capacity=config.replay.capacity,
        unroll_length=config.train.unroll_length,
        skip_bad_updates=config.on_divergence == "skip",
        updates=config.train.updates_per_epoch,
        batch_size=config.train.batch_size,
    )
    return System(algorithm, eval_env, config.eval.num_envs)
