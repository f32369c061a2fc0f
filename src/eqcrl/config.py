"""The configuration: one frozen tree; defaults < preset < TOML file < flags; it round-trips through TOML.

Reading and checking it needs no JAX. Parameters of parts are checked where parts are loaded (`assemble`).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tomli_w

from eqcrl import registry
from eqcrl.errors import ConfigError
from eqcrl.sections import Checkpoint, Eval, Replay, Train
from eqcrl.settings import Meta, Setting, coerce, make_setting, unknown_key
from eqcrl.toml import line_of, parse_toml, read_toml
from eqcrl.trackers.keys import NAMES, TRACKER, names_in, params_by_name, tracker_of


class Part(msgspec.Struct, frozen=True):
    """A part chosen by name, with the parameters set for it."""

    name: str
    params: dict[str, Any] = {}


def _part(kind: str, text: str, inherits: str | None = None) -> Meta:
    return Meta(description=text, extra={"kind": kind, "inherits": inherits})


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what a run does.

    `Config.load` merges preset, file and overrides; `to_toml` writes what `load` reads back unchanged.
    """

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="seed of every random number of the run")] = 0
    env: Annotated[Part, _part("env", "environment to train on")] = Part("point-u-maze")
    eval_env: Annotated[
        Part | None, _part("env", "environment to evaluate on; by default the one that `env` names for it")
    ] = None
    arch: Annotated[Part, _part("arch", "architecture of actor and critic, e.g. resnet-64")] = Part("resnet")
    actor_arch: Annotated[Part | None, _part("arch", "architecture of the actor alone; by default `arch`", "arch")] = (
        None
    )
    critic_arch: Annotated[
        Part | None, _part("arch", "architecture of both critic encoders; by default `arch`", "arch")
    ] = None
    agent: Annotated[Part, _part("agent", "learning algorithm")] = Part("crl")
    energy: Annotated[Part, _part("energy", "energy between the two encoders' outputs")] = Part("l2")
    loss: Annotated[Part, _part("loss", "contrastive loss of the critic")] = Part("infonce")
    relabeller: Annotated[Part, _part("relabeller", "law of the future state that becomes the goal")] = Part(
        "geometric"
    )
    actor_goals: Annotated[Part, _part("actor-goals", "which goals the actor is trained on")] = Part("future")
    on_divergence: Annotated[
        Literal["stop", "rollback", "skip"],
        Meta(
            description="what to do when a loss or a network is not finite: stop; go back to the last checkpoint and "
            "on with other random numbers, three times at most; or leave out the gradient steps that do it"
        ),
    ] = "stop"
    train: Train = Train()
    replay: Replay = Replay()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    trackers: Annotated[tuple[Part, ...], Meta(description="where metrics go beside metrics.jsonl")] = ()
    """`[tracker]` in a file. No part of what `flat` and `difference` see."""

    @staticmethod
    def load(
        preset: str | None = None,
        file: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        origin: str = "override",
    ) -> "Config":
        """Defaults < `preset` < TOML `file` < `overrides`, which are dotted keys such as `{"train.batch_size": 512}`.

        The preset is by default the one that the file names, else quickstart.

        Raises: ConfigError for unknown keys (with the nearest known one and the file's line), values of the
            wrong type or range, and combinations that cannot work; UnknownName for parts not installed.
        """
        config, _ = Config.merge(preset, file, overrides, origin)
        config.validate()
        return config

    @staticmethod
    def merge(
        preset: str | None = None,
        file: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        origin: str = "override",
        base: "Config | None" = None,
    ) -> tuple["Config", dict[str, str]]:
        """As `load` but without `validate`; `base` stands in for preset and file.

        Returns with it, for each dotted key that was set, the place where (for messages about parts' parameters).
        """
        merged = _Merged(inherit=base is None)
        if base is not None:
            merged.add(base.flat() | base.tracker_keys(), lambda key: "the run's config.toml")
        else:
            text, tree = read_toml(Path(file)) if file is not None else ("", {})
            preset = _choose_preset(preset, tree.pop("preset", None), file)
            merged.add(_flatten(registry.load("preset", preset)), lambda key: f"preset {preset!r}")
            merged.add(_flatten(tree), lambda key: f"{file}{line_of(text, key)}")
        merged.add(dict(overrides or {}), lambda key: f"{origin} `{key}`")
        return merged.build(), merged.origins

    @staticmethod
    def from_toml(text: str, origin: str) -> "Config":
        """The configuration that `to_toml` wrote; `origin` names it in messages. Raises: ConfigError."""
        merged = _Merged(inherit=False)
        merged.add(_flatten(parse_toml(text, origin)), lambda key: f"{origin}{line_of(text, key)}")
        return merged.build()

    def to_toml(self) -> str:
        """TOML text with every setting; `Config.from_toml` of it equals this configuration."""
        named = {p.name: {k: v for k, v in p.params.items() if v is not None} for p in self.trackers}
        trackers = {TRACKER: {NAMES: [*named]} | named} if named else {}
        return tomli_w.dumps(_nest(self) | trackers)

    def tracker_keys(self) -> dict[str, Any]:
        """Dotted keys and values of the trackers, as `merge` takes them."""
        params = {f"{TRACKER}.{p.name}.{k}": v for p in self.trackers for k, v in p.params.items() if v is not None}
        return {TRACKER: [part.name for part in self.trackers]} | params

    def flat(self) -> dict[str, Any]:
        """Dotted keys and values: `arch` is the part's name, `arch.depth` its parameter; absent parts are left out.

        Trackers are not among them: two runs that differ in these alone are equal.
        """
        return _flatten(_nest(self))

    def label(self) -> str:
        """Environment, architecture with its depth, and seed, e.g. `point-u-maze, resnet-64, seed 1`."""
        depth = self.arch.params.get("depth")
        return f"{self.env.name}, {self.arch.name}{f'-{depth}' if depth else ''}, seed {self.seed}"

    def replace(self, **fields: Any) -> "Config":
        """A copy with top-level fields exchanged."""
        return msgspec.structs.replace(self, **fields)

    def prefill_epochs(self) -> int:
        """Unrolls collected before the first gradient step: ceil(min_filled / unroll_length)."""
        return -(-self.replay.min_filled // self.train.unroll_length)

    def env_steps_per_epoch(self) -> int:
        """Environment steps of one unroll, over all environments."""
        return self.train.num_envs * self.train.unroll_length

    def num_epochs(self) -> int:
        """Epochs with learning after the prefill, so that at least `total_env_steps` are taken."""
        unrolls = -(-self.train.total_env_steps // self.env_steps_per_epoch())
        return max(unrolls - self.prefill_epochs(), 1)

    def validate(self) -> None:
        """Refuse combinations that cannot work, and trackers that are not there.

        Raises: ConfigError that names both settings and a mend; PluginError.
        """
        from eqcrl.trackers.choose import complete_trackers

        complete_trackers(self)
        filled = self.prefill_epochs() * self.env_steps_per_epoch()
        kept = self.replay.capacity * self.train.num_envs
        if self.train.unroll_length > self.replay.capacity:
            raise ConfigError(
                f"train.unroll_length = {self.train.unroll_length} steps do not fit into "
                f"replay.capacity = {self.replay.capacity}: one unroll would overwrite itself.",
                mend="Raise replay.capacity or shorten train.unroll_length.",
            )
        if self.replay.min_filled > self.replay.capacity:
            raise ConfigError(
                f"replay.min_filled = {self.replay.min_filled} is more than replay.capacity = "
                f"{self.replay.capacity}: learning would never start.",
                mend="Lower replay.min_filled or raise replay.capacity.",
            )
        if self.train.batch_size > min(filled, kept):
            raise ConfigError(
                f"train.batch_size = {self.train.batch_size} is larger than the replay when learning starts: "
                f"{self.train.num_envs} environments x {self.prefill_epochs() * self.train.unroll_length} steps = "
                f"{min(filled, kept)} transitions.",
                mend="Lower train.batch_size, or raise replay.min_filled or train.num_envs.",
            )
        if self.train.total_env_steps < filled + self.env_steps_per_epoch():
            raise ConfigError(
                f"train.total_env_steps = {self.train.total_env_steps} ends before the first gradient step: "
                f"filling the replay takes {filled} steps and one epoch {self.env_steps_per_epoch()}.",
                mend=f"Ask for at least {filled + self.env_steps_per_epoch()}, "
                "or lower replay.min_filled or train.num_envs.",
            )


def _extra(annotation: Any) -> dict[str, Any]:
    return next((m.extra for m in annotation.__metadata__ if isinstance(m, msgspec.Meta) and m.extra), {})


def _sections() -> dict[str, type[msgspec.Struct]]:
    return {
        f.name: f.type
        for f in msgspec.structs.fields(Config)
        if isinstance(f.type, type) and issubclass(f.type, msgspec.Struct)
    }


SECTIONS = _sections()
# Field name -> kind of part, e.g. "actor_arch" -> "arch".
PART_KINDS: dict[str, str] = {
    f.name: _extra(f.type)["kind"]
    for f in msgspec.structs.fields(Config)
    if f.name not in SECTIONS and "kind" in _extra(f.type)
}
INHERITS: dict[str, str] = {
    f.name: _extra(f.type)["inherits"]
    for f in msgspec.structs.fields(Config)
    if f.name in PART_KINDS and _extra(f.type).get("inherits")
}
OPTIONAL_PARTS = tuple(f.name for f in msgspec.structs.fields(Config) if f.name in PART_KINDS and f.default is None)


def static_settings() -> dict[str, Setting]:
    """Every setting of the tree but the parameters of parts, by dotted key, in order."""
    found: dict[str, Setting] = {}
    for field in msgspec.structs.fields(Config):
        if field.name in SECTIONS:
            for inner in msgspec.structs.fields(SECTIONS[field.name]):
                key = f"{field.name}.{inner.name}"
                found[key] = make_setting(key, inner.type, inner.default)
        elif field.name == "trackers":
            continue
        elif field.name in PART_KINDS:
            text = next(m.description for m in field.type.__metadata__ if m.description)
            default = field.default.name if field.default is not None else None
            found[field.name] = Setting(field.name, str, default, text, None)
        else:
            found[field.name] = make_setting(field.name, field.type, field.default)
    return found


class _Merged:
    """Layers of dotted keys, the last one wins; remembers where each value came from."""

    def __init__(self, *, inherit: bool) -> None:
        self.inherit = inherit
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def add(self, layer: Mapping[str, Any], origin_of: Any) -> None:
        known = static_settings()
        # Names first: naming another part drops the parameters that lower layers set for the old one.
        names = {TRACKER, f"{TRACKER}.{NAMES}", *PART_KINDS}
        for key in sorted(layer, key=lambda k: k.removesuffix(".name") not in names):
            value, origin = layer[key], origin_of(key)
            key = key.removesuffix(".name") if key.removesuffix(".name") in PART_KINDS else key
            head, _, rest = key.partition(".")
            if key in PART_KINDS:
                self._name_part(key, value, origin)
            elif head in PART_KINDS and rest:
                self.values[key], self.origins[key] = value, origin
            elif key in (TRACKER, f"{TRACKER}.{NAMES}"):
                self._name_trackers(value, origin)
            elif head == TRACKER and "." in rest:
                self.values[key], self.origins[key] = value, origin
            elif key in known:
                self.values[key] = coerce(value, known[key], key=key, origin=origin)
                self.origins[key] = origin
            else:
                raise unknown_key(key, [*known, TRACKER, *(f"{p}.name" for p in PART_KINDS)], origin=origin)

    def _name_part(self, key: str, value: Any, origin: str) -> None:
        if not isinstance(value, str) or not value:
            raise ConfigError(
                f"{origin}: `{key} = {value!r}` is not the name of a part.",
                mend=f"`eqcrl list {PART_KINDS[key]}` shows the names.",
            )
        reference = registry.resolve(PART_KINDS[key], value)
        name = reference.entry.qualified() if "/" in value else reference.entry.name
        if self.values.get(key) != name:
            for stale in [k for k in self.values if k.startswith(f"{key}.")]:
                del self.values[stale]
        self.values[key], self.origins[key] = name, origin
        for param, number in reference.params.items():
            self.values[f"{key}.{param}"], self.origins[f"{key}.{param}"] = number, origin

    def _name_trackers(self, value: Any, origin: str) -> None:
        chosen = names_in(value, origin)
        for stale in [k for k in self.values if k.startswith(f"{TRACKER}.") and tracker_of(k) not in chosen]:
            del self.values[stale]
        self.values[TRACKER], self.origins[TRACKER] = chosen, origin

    def _part_of(self, field: str, default: Part | None) -> Part | None:
        params = {k.partition(".")[2]: v for k, v in self.values.items() if k.startswith(f"{field}.")}
        name = self.values.get(field, default.name if default else None)
        # A configuration that was written out by `to_toml` says everything already.
        parent = INHERITS.get(field) if self.inherit else None
        if parent and (name is not None or params):
            inherited = self._part_of(parent, getattr(Config(), parent))
            assert inherited is not None
            name = name or inherited.name
            params = (inherited.params if inherited.name == name else {}) | params
        if name is None:
            if params:
                key = f"{field}.{next(iter(params))}"
                raise ConfigError(
                    f"{self.origins[key]}: `{key}` is set, but `{field}` names no part.",
                    mend=f"Set `{field}` too; `eqcrl list {PART_KINDS[field]}` shows the names.",
                )
            return None
        return Part(name, params)

    def build(self) -> Config:
        fields: dict[str, Any] = {
            "trackers": tuple(Part(name, params) for name, params in params_by_name(self.values, self.origins).items())
        }
        for field in msgspec.structs.fields(Config):
            if field.name in SECTIONS:
                inner = {
                    f.name: self.values[f"{field.name}.{f.name}"]
                    for f in msgspec.structs.fields(SECTIONS[field.name])
                    if f"{field.name}.{f.name}" in self.values
                }
                fields[field.name] = SECTIONS[field.name](**inner)
            elif field.name in PART_KINDS:
                fields[field.name] = self._part_of(field.name, field.default)
            elif field.name in self.values:
                fields[field.name] = self.values[field.name]
        return Config(**fields)


def _nest(config: Config) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        value = getattr(config, field.name)
        if field.name == "trackers":
            continue
        if isinstance(value, Part):
            tree[field.name] = {"name": value.name, **{k: v for k, v in value.params.items() if v is not None}}
        elif isinstance(value, msgspec.Struct):
            tree[field.name] = msgspec.structs.asdict(value)
        elif value is not None:
            tree[field.name] = value
    return tree


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; a part's own `name` becomes the value of the part's key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{dotted}.")
        elif key == "name" and prefix[:-1] in PART_KINDS:
            flat[prefix[:-1]] = value
        else:
            flat[dotted] = value
    return flat


def _choose_preset(asked: str | None, in_file: Any, file: str | Path | None) -> str:
    """The preset asked for, else the one that the file names, else the default."""
    if in_file is not None and not isinstance(in_file, str):
        raise ConfigError(f"{file}: `preset = {in_file!r}` is not a name.", mend="`eqcrl list preset` shows them.")
    return asked or in_file or "quickstart"


# Settings that a resumed run may change: they decide how long it goes on and what it writes, not what it learns.
RESUMABLE = (
    "train.total_env_steps",
    "eval.every",
    "checkpoint.every",
    "checkpoint.minutes",
    "checkpoint.keep",
    "checkpoint.policies",
    "checkpoint.replay",
    "on_divergence",
)


def difference(one: Config, other: Config, ignore: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Dotted keys on which two configurations differ, with both values."""
    a, b = one.flat(), other.flat()
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k) and k not in ignore}
