"""`eqcrl info`: versions and devices, a part with its parameters, or a run."""

import inspect
from pathlib import Path
from typing import Any

import click

from eqcrl import registry
from eqcrl.errors import UsageError


@click.command()
@click.argument("target", nargs=-1, metavar="[RUN | KIND NAME]")
def info(target: tuple[str, ...]) -> None:
    """Show versions and devices; or a part and its parameters; or a run.

    \b
    Examples:
      eqcrl info
      eqcrl info env point-u-maze
      eqcrl info runs/20260101-120000_point-u-maze_resnet-8_seed0
    """
    from eqcrl.cli.console import make_console

    console = make_console()
    if not target:
        _system(console)
    elif len(target) == 2:
        _part(console, *target)
    elif len(target) == 1 and Path(target[0]).exists():
        _run(console, target[0])
    else:
        raise UsageError(
            f"There is nothing to tell about {' '.join(target)!r}.",
            mend="Give a run directory, or a kind and a name such as `env point-u-maze`.",
        )


def _rows(console: Any, title: str, rows: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)


def _system(console: Any) -> None:
    from importlib import metadata

    import jax

    from eqcrl.rundir import RECORDED_PACKAGES, git_revision

    versions = {p: metadata.version(p) for p in RECORDED_PACKAGES}
    _rows(
        console,
        "eqcrl",
        versions
        | {
            "git revision": git_revision() or "not a checkout",
            "devices": ", ".join(f"{d.device_kind} ({d})" for d in jax.devices()),
        },
    )


def _part(console: Any, kind: str, name: str) -> None:
    from rich.table import Table

    from eqcrl.settings import signature_of

    reference = registry.resolve(kind, name)
    part = registry.load_entry(reference.entry)
    console.print(f"{kind} {reference.entry.name}, of {reference.entry.origin()}", highlight=False)
    described = getattr(part, "func", part)
    if not isinstance(part, dict) and inspect.getdoc(described):
        console.print("\n" + (inspect.getdoc(described) or ""), highlight=False, markup=False)
    if isinstance(part, dict):
        import tomli_w

        console.print("\n" + tomli_w.dumps(part), highlight=False, markup=False)
        return
    if isinstance(part, click.Command):
        return
    settings = signature_of(part).settings
    if settings:
        table = Table(title="Parameters", title_justify="left")
        for column in ("name", "type", "default", "unit", "meaning"):
            table.add_column(column)
        for setting_name, s in settings.items():
            table.add_row(
                setting_name,
                s.type_name(),
                str(reference.params.get(setting_name, s.default_text())),
                s.unit or "",
                s.help,
            )
        console.print()
        console.print(table)


def _run(console: Any, path: str) -> None:
    from eqcrl import checkpoint
    from eqcrl.rundir import RunDir

    run = RunDir.open(path)
    config, header, records = run.config(), run.header(), run.metrics()
    rows: dict[str, Any] = {
        "environment": config.env.name,
        "architecture": f"{config.arch.name} {config.arch.params}",
        "seed": config.seed,
        "started": header.get("started"),
        "resumed": len(header.get("resumed", [])),
        "git revision": header.get("git_revision"),
        "versions": ", ".join(f"{k} {v}" for k, v in header.get("versions", {}).items()),
        "checkpoints": ", ".join(str(n) for n in checkpoint.numbers(run.checkpoints)) or "none",
        "policies": ", ".join(checkpoint.policies(run.checkpoints)) or "none",
    }
    if records:
        rows |= {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in records[-1].items()}
    _rows(console, config.label(), rows)
