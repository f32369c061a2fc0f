"""`eqcrl check env NAME`: run the environment contract and show what is wrong."""

import click

from eqcrl.config import Part
from eqcrl.errors import UsageError

COLORS = {"pass": "green", "note": "yellow", "fail": "red", "not run": "dim"}


@click.group()
def check() -> None:
    """Check a part against its contract."""


@check.command("env")
@click.argument("name")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of the environment, e.g. --set layout=big; may be repeated.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the starts, goals and actions that are tried.",
)
def check_env_command(name: str, settings: tuple[str, ...], seed: int) -> None:
    """Run the contract of environments on NAME.

    Exits with 1 and says what to mend if the contract is broken.
    """
    params = dict(_key_and_value(s) for s in settings)

    # Here, not above: `eqcrl check --help` shall not wait for JAX.
    from rich.console import Console
    from rich.table import Table

    from eqcrl.assemble import build_env
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
    Console().print(table)
    report.raise_if_failed()


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text!r} is not KEY=VALUE.", mend="Write for example --set layout=big.")
    return key.replace("-", "_"), value
