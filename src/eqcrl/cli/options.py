"""Every setting as a flag: generated from the configuration tree and from the signatures of the chosen parts."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from eqcrl.config import INHERITS, PART_KINDS, SECTIONS, Config, Part, static_settings
from eqcrl.errors import UsageError
from eqcrl.settings import REQUIRED, Setting
from eqcrl.trackers.keys import TRACKER


def flag_of(key: str) -> str:
    """`train.batch_size` -> `--train.batch-size`."""
    return "--" + key.replace("_", "-")


class SettingOption(click.Option):
    """A flag that sets one dotted key; what was given is collected as text under `ctx.meta[GIVEN]`.

    With `short_for` it sets those keys instead, where no flag of their own does.
    """

    def __init__(self, key: str, setting: Setting, default: Any, heading: str, short_for: Sequence[str] = ()):
        unit = f" [{setting.unit}]" if setting.unit else ""
        shown = "required" if default is REQUIRED else "none" if default is None else str(default)
        kind = setting.type_name()

        def collect(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
            if value is not None:
                given(ctx).update({k: value for k in short_for if k not in given(ctx)} if short_for else {key: value})

        help_text = setting.help + (f"; {kind}" if kind.startswith("one of") else "")
        # click fills in defaults of its own unless told what to show, so the default is part of the text.
        click.Option.__init__(
            self,
            [flag_of(key), "set__" + key.replace(".", "__")],
            type=str,
            default=None,
            expose_value=False,
            metavar="CHOICE" if kind.startswith("one of") else kind.upper().replace(" ", "-"),
            help=f"{help_text}{unit}  (default: {shown})",
            callback=collect,
        )
        self.heading = heading


checkpoint_option = click.option(
    "--checkpoint",
    metavar="WHICH",
    default="last",
    show_default=True,
    help="Which policy: last, best, or a number that `eqcrl info RUN` lists.",
)

GIVEN = "eqcrl.given"
OPTIONS = "eqcrl.options"


def given(ctx: click.Context) -> dict[str, str]:
    """Dotted keys that were given as flags, as text."""
    return ctx.meta.setdefault(GIVEN, {})


def normalize(args: Iterable[str]) -> list[str]:
    """Underscores in long flags are as good as hyphens: `--train.batch_size=64` -> `--train.batch-size=64`."""
    done = []
    for arg in args:
        flag, equals, value = arg.partition("=")
        done.append(flag.replace("_", "-") + equals + value if arg.startswith("--") else arg)
    return done


def peek(args: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """The values of some flags, before the options that depend on them exist."""
    found = {}
    for name in names:
        flag = flag_of(name)
        for i, arg in enumerate(args):
            if arg == flag and i + 1 < len(args):
                found[name] = args[i + 1]
            elif arg.startswith(f"{flag}="):
                found[name] = arg.partition("=")[2]
    return found


def peek_all(args: Sequence[str], name: str) -> list[str]:
    """The values of a flag that may be repeated."""
    flag = flag_of(name)
    apart = [value for arg, value in itertools.pairwise(args) if arg == flag]
    return apart + [arg.partition("=")[2] for arg in args if arg.startswith(f"{flag}=")]


def part_options(field: str, part: Part) -> list[SettingOption]:
    """A flag for each parameter of a part, with the value that is in force as its default."""
    from eqcrl.assemble import part_signature

    settings = part_signature(PART_KINDS[field], part.name).settings
    heading = f"{field.replace('_', ' ')}: {part.name}"
    return [
        SettingOption(f"{field}.{name}", s, part.params.get(name, s.default), heading) for name, s in settings.items()
    ]


# Short flags of single parameters, by the kind of the parts that have the parameter.
SHORT = {"precision": "agent", "depth_solver": "arch"}


def short_options(config: Config) -> list[SettingOption]:
    """`--precision` and `--depth-solver`, where agent and architecture have the choice."""
    from eqcrl.assemble import part_signature

    options = []
    for name, kind in SHORT.items():
        parts = {field: getattr(config, field) for field, of in PART_KINDS.items() if of == kind}
        having = {
            field: setting
            for field, part in parts.items()
            if part is not None and (setting := part_signature(kind, part.name).settings.get(name)) is not None
        }
        if having:
            first, setting = next(iter(having.items()))
            default = parts[first].params.get(name, setting.default)
            keys = [f"{field}.{name}" for field in having]
            options.append(SettingOption(name, setting, default, "what to run", short_for=keys))
    return options


def physics_option(fields: Mapping[str, Part]) -> list[SettingOption]:
    """`--physics`, short for `--env.physics` of every environment here that has an engine to choose."""
    from eqcrl.assemble import part_signature

    settings = {f: part_signature("env", part.name).settings.get("physics") for f, part in fields.items()}
    keys = [f"{field}.physics" for field, setting in settings.items() if setting is not None]
    if not keys:
        return []
    setting = next(s for s in settings.values() if s is not None)
    return [SettingOption("physics", setting, setting.default, "what to run", short_for=keys)]


def config_options(config: Config) -> list[SettingOption]:
    """A flag for every setting of the tree and of its chosen parts, with the values in force as defaults."""
    flat = config.flat()
    options = []
    for key, setting in static_settings().items():
        heading = key.partition(".")[0] if "." in key else "what to run"
        options.append(SettingOption(key, setting, flat.get(key, setting.default), heading))
    for field in PART_KINDS:
        # An optional part that is not named takes after another one, and so do its flags.
        part = getattr(config, field) or getattr(config, INHERITS.get(field, ""), None)
        if part is not None:
            options += part_options(field, part)
    envs = {f: getattr(config, f) for f, kind in PART_KINDS.items() if kind == "env" and getattr(config, f)}
    return options + physics_option(envs) + short_options(config)


class SettingsCommand(click.Command):
    """A command with flags that depend on its other flags; subclasses are made by `command_with`."""

    def __init__(self, *args: Any, options_for: Any, **kwargs: Any):
        click.Command.__init__(self, *args, **kwargs)
        self.options_for = options_for

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find out which parts are meant, add their flags, then parse as usual."""
        args = normalize(args)
        ctx.meta[OPTIONS] = self.options_for(args)
        return click.Command.parse_args(self, ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The fixed options and those of the chosen parts."""
        return [*click.Command.get_params(self, ctx), *ctx.meta.get(OPTIONS, [])]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under a heading for each section of the configuration and each part."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                heading = param.heading if isinstance(param, SettingOption) else "Options"
                groups.setdefault(heading, []).append(record)
        for heading in sorted(groups, key=lambda h: (h != "Options", h != "what to run", h not in SECTIONS)):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])


def _base_of(args: Sequence[str]) -> Mapping[str, Any]:
    """What the flags stand on: the run to resume, or preset and file."""
    chosen = peek(args, ("resume", "preset", "config"))
    if "resume" in chosen:
        from eqcrl.seedsdir import recorded_at

        for other in ("preset", "config"):
            if other in chosen:
                raise UsageError(
                    f"--{other} and --resume exclude each other: a run continues with its own configuration.",
                    mend=f"Leave out --{other}.",
                )
        return {"base": recorded_at(chosen["resume"])}
    return {"preset": chosen.get("preset"), "file": chosen.get("config")}


def tracker_options(config: Config) -> list[click.Option]:
    """`--tracker`, and a flag for each parameter of the trackers that are chosen."""
    from eqcrl.trackers.choose import settings_of

    def collect(ctx: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
        if value:
            given(ctx)[TRACKER] = ",".join(value)

    chosen = ", ".join(part.name for part in config.trackers) or "none"
    options: list[click.Option] = [
        click.Option(
            [flag_of(TRACKER), f"set__{TRACKER}"],
            multiple=True,
            expose_value=False,
            callback=collect,
            metavar="NAME",
            help="Where metrics go beside metrics.jsonl: `eqcrl list tracker`; may be repeated, none for nowhere.  "
            f"(default: {chosen})",
        )
    ]
    for part in config.trackers:
        for name, setting in settings_of(part.name).items():
            key, default = f"{TRACKER}.{part.name}.{name}", part.params.get(name, setting.default)
            options.append(SettingOption(key, setting, default, f"tracker: {part.name}"))
    return options


def train_options(args: Sequence[str]) -> list[click.Option]:
    """The options of `eqcrl train`, given its arguments."""
    parts: dict[str, Any] = dict(peek(args, PART_KINDS))
    if trackers := peek_all(args, TRACKER):
        parts[TRACKER] = trackers
    config = Config.merge(overrides=parts, origin="flag", **_base_of(args))[0]
    return [*config_options(config), *tracker_options(config)]


def merged_config(ctx: click.Context, args: Mapping[str, str | None]) -> tuple[Config, dict[str, str]]:
    """The configuration that the flags of a command amount to, and where each setting came from.

    Raises: ConfigError, PluginError.
    """
    flags = [f"--{name}={value}" for name, value in args.items() if value is not None]
    return Config.merge(overrides=given(ctx), origin="flag", **_base_of(flags))
