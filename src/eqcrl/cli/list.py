"""`eqcrl list`: the installed parts, from metadata only."""

import click

from eqcrl import registry


@click.command("list")
@click.argument("kind", required=False, metavar="[KIND]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_parts(kind: str | None, as_json: bool) -> None:
    """List the installed parts of every KIND, or of one: env, arch, block, energy, loss, relabeller, actor-goals,
    agent, preset, study, launcher, command.

    Reads package metadata and imports no part. A name that two distributions offer is written with its distribution.
    """
    kinds = [kind] if kind is not None else list(registry.GROUPS)
    found = [e for k in kinds for e in registry.entries(k)]
    twice = {(e.kind, e.name) for i, e in enumerate(found) if (e.kind, e.name) in {(f.kind, f.name) for f in found[:i]}}
    rows = [
        {
            "kind": e.kind,
            "name": e.qualified() if (e.kind, e.name) in twice else e.name,
            "distribution": e.distribution,
            "version": e.version,
            "object": e.entry_point.value,
        }
        for e in found
    ]
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    from eqcrl.cli.console import make_console

    table = Table(box=None, header_style="bold")
    for column in ("kind", "name", "distribution", "object"):
        table.add_column(column, overflow="fold")
    before = None
    for row in rows:
        table.add_row(
            row["kind"] if row["kind"] != before else "",
            row["name"],
            f"{row['distribution']} {row['version']}",
            row["object"],
        )
        before = row["kind"]
    make_console().print(table)
