"""`eqcrl check env NAME`: run the environment contract and show what is wrong."""

import click

from eqcrl.cli.env_options import check_env_options
from eqcrl.cli.options import SettingsCommand, given
from eqcrl.config import Part

COLORS = {"pass": "green", "note": "yellow", "fail": "red", "not run": "dim"}


@click.group()
def check() -> None:
    """Check a part against its contract."""


@check.command("env", cls=SettingsCommand, options_for=check_env_options)
@click.argument("name")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the starts, goals and actions that are tried.",
)
@click.pass_context
def check_env_command(ctx: click.Context, name: str, seed: int) -> None:
    """Run the contract of environments on NAME, with parameters such as `--env.layout big`.

    Exits with 1 and says what to mend if the contract is broken.
    """
    params = {key.partition(".")[2]: value for key, value in given(ctx).items()}

    # Here, not above: `eqcrl check --help` shall not wait for JAX.
    from rich.table import Table

    from eqcrl.assemble import build_env
    from eqcrl.cli.console import make_console
    from eqcrl.envs.check import check_env

    env = build_env(Part(name, params))
    report = check_env(env, seed=seed)
    table = Table(title=f"contract of the env {name}", title_justify="left")
    for column in ("check", "result", "what must hold"):
        table.add_column(column, no_wrap=column != "what must hold")
    for result in report.results:
        # What is wrong follows in full as the error message; remarks have no other place.
        remark = f"\n{result.message}" if result.status in ("note", "not run") else ""
        color = COLORS[result.status]
        table.add_row(result.name, f"[{color}]{result.status}[/{color}]", result.description + remark)
    make_console().print(table)
    report.raise_if_failed()
