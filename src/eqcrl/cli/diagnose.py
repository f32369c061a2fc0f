"""`eqcrl diagnose`: what networks are like before they train, or after, block by block."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from eqcrl.cli.options import SettingsCommand, config_options, given, merged_config, peek, train_options
from eqcrl.errors import UsageError
from eqcrl.rundir import RunDir

# Blocks that the table shows of each network; the figure and the JSON have all of them.
SHOWN = 6
# What the numbers mean, in the order of the table.
MEANINGS = {
    "before_tanh": "mean absolute action before the tanh",
    "saturated": "share of actions within 0.01 of -1 or 1",
    "entropy": "entropy of the policy (nats)",
    "alpha": "weight of the entropy",
    "actor_loss": "loss of the actor",
    "critic_loss": "loss of the critic, the sum of the next two",
    "contrastive_loss": "contrastive loss",
    "penalty": "logsumexp penalty, weighted",
    "logits_pos": "mean logit of positive pairs",
    "logits_neg": "mean logit of negative pairs",
    "categorical_accuracy": "share of rows whose largest logit is the positive one",
    "chance": "that share for a critic that guesses",
}


def diagnose_options(args: Sequence[str]) -> Sequence[click.Option]:
    """The flags of `eqcrl train`, or with --run those settings as the run has them."""
    run = peek(args, ("run",)).get("run")
    return train_options(args) if run is None else config_options(RunDir.open(run).config())


@click.command(cls=SettingsCommand, options_for=diagnose_options)
@click.option("--preset", metavar="NAME", help="Settings to start from: `eqcrl list preset`  (default: quickstart)")
@click.option("--config", "file", metavar="FILE", help="TOML file over the preset; flags go over both.")
@click.option("--run", metavar="RUN", help="Look at the newest checkpoint of this run instead of fresh networks.")
@click.option(
    "--rows", type=click.IntRange(min=2), default=64, show_default=True, help="Pairs in the batch that is looked at."
)
@click.option("--out", metavar="FILE", help="PNG, PDF or SVG of the statistics along the depth.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every block.")
@click.pass_context
def diagnose(
    ctx: click.Context,
    preset: str | None,
    file: str | None,
    run: str | None,
    rows: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Look into the networks that `eqcrl train` with the same flags would begin with.

    One batch of relabelled pairs from a short rollout, one Adam step: saturation, losses, gradients, and for each
    block of a deep network the stream, the part of it that depends on the input, and the gradient. Works for every
    architecture; block by block where it repeats its blocks by eqcrl.nn.stacked.

    \b
    Examples:
      eqcrl diagnose --arch resnet-1024 --out depth.png
      eqcrl diagnose --arch resnet-1024 --arch.recipe paper
      eqcrl diagnose --run runs/first --json
    """
    # Refused before anything is compiled, which takes a while.
    path = Path(out) if out is not None else None
    if path is not None:
        from eqcrl.plots.output import FIGURE_SUFFIXES, check_suffix

        check_suffix(path, FIGURE_SUFFIXES, "figure")
    config, system, agent_state = _subject(ctx, run, preset, file)

    from eqcrl.cli.console import make_console
    from eqcrl.diagnose import diagnose as look

    console = make_console(quiet=as_json)
    with console.status("Collecting a batch, compiling, looking ..."):
        found = look(system, seed=config.seed, rows=rows, agent_state=agent_state)
    profiles = {name: n.profile for name, n in found.networks.items() if n.profile is not None}
    title = f"{config.label()}, {'untrained' if run is None else f'after {run}'}"
    if as_json:
        _print_json(title, found)
    else:
        _print_tables(console, title, found)
    if path is None:
        return
    if profiles:
        from eqcrl.plots.depth import depth_profile

        depth_profile(profiles, path, title=title)
        console.print(str(path), highlight=False, soft_wrap=True)
    else:
        click.echo(f"No picture: {_without_blocks(found)}", err=as_json)


def _subject(ctx: click.Context, run: str | None, preset: str | None, file: str | None) -> tuple[Any, Any, Any]:
    """Configuration, its parts, and what the agent learned (None for a fresh one)."""
    if run is None:
        config, origins = merged_config(ctx, {"preset": preset, "config": file})
        config.validate()
        from eqcrl.assemble import assemble, complete

        config = complete(config, origins)
        return config, assemble(config), None
    others = [f"--{name}" for name, value in (("preset", preset), ("config", file)) if value is not None]
    others += ["--" + key.replace("_", "-") for key in given(ctx)]
    if others:
        raise UsageError(
            f"{others[0]} and --run exclude each other: a run is looked at with its own configuration.",
            mend=f"Leave out {' and '.join(others)}.",
        )
    from eqcrl import run as runs

    opened = runs.load(run)
    return opened.config, opened.system, opened.agent_state


def _without_blocks(found: Any) -> str:
    names = [name for name, network in found.networks.items() if network.profile is None]
    return f"{', '.join(names)} repeat no blocks by eqcrl.nn.stacked, so there are no statistics along the depth."


def _print_json(title: str, found: Any) -> None:
    import json
    from dataclasses import asdict

    def networks() -> dict[str, Any]:
        for network in (shown := asdict(found)["networks"]).values():
            profile = network.pop("profile")
            network["blocks"] = None if profile is None else {k: v.tolist() for k, v in profile.items()}
        return shown

    answer = {"of": title, "rows": found.rows, **found.numbers, "networks": networks(), "remarks": found.remarks()}
    click.echo(json.dumps(answer))


def _print_tables(console: Any, title: str, found: Any) -> None:
    from rich.table import Table

    from eqcrl.plan import human_count

    # Not the title of the table, which would be folded to its width.
    console.print(f"{title}: {found.rows} pairs", highlight=False, soft_wrap=True)
    numbers = Table(show_header=False)
    for name, meaning in MEANINGS.items():
        numbers.add_row(meaning, f"{found.numbers[name]:.4g}")
    console.print(numbers)
    whole = Table(title="networks", title_justify="left")
    blocks = Table(title="along the depth", title_justify="left")
    for column in ("network", "parameters", "output (rms)", "varying part", "moved by one Adam step", "gradient"):
        whole.add_column(column, justify="left" if column == "network" else "right")
    for column in ("network", "block", "stream (rms)", "varying part", "change", "gradient"):
        blocks.add_column(column, justify="left" if column == "network" else "right")
    for name, network in found.networks.items():
        row = (network.output, network.varying, network.moved, network.gradient)
        whole.add_row(name, human_count(network.parameters), *(f"{value:.4g}" for value in row))
        if network.profile is not None:
            for i, line in _some_blocks(network.profile):
                blocks.add_row(name if i == 1 else "", str(i), *(f"{value:.4g}" for value in line))
            blocks.add_section()
    console.print(whole)
    if blocks.row_count:
        console.print(blocks)
    if any(network.profile is None for network in found.networks.values()):
        console.print(f"For whole networks only: {_without_blocks(found)}", highlight=False)
    for remark in found.remarks():
        console.print(f"Note: {remark}", highlight=False, style="yellow")


def _some_blocks(profile: Any) -> list[tuple[int, tuple[float, ...]]]:
    """The first, the last, and some evenly between, counted from 1."""
    count = len(profile.stream)
    chosen = sorted({round(i * (count - 1) / (SHOWN - 1)) for i in range(SHOWN)})
    return [(i + 1, tuple(values[i] for values in vars(profile).values())) for i in chosen]
