"""`eqcrl export`: the policy of a run as a file that runs without eqcrl."""

from pathlib import Path

import click

from eqcrl.cli.options import checkpoint_option
from eqcrl.errors import UsageError

SUFFIXES = {".stablehlo": "stablehlo", ".onnx": "onnx", ".safetensors": "safetensors"}


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--format",
    "chosen",
    type=click.Choice(list(SUFFIXES.values())),
    help="What to write; by default what the suffix of --out says.",
)
@click.option("--out", metavar="FILE", help="File to write.  (default: policy.FORMAT in the run directory)")
@checkpoint_option
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
def export(run: str, chosen: str | None, out: str | None, checkpoint: str, force: bool) -> None:
    """Write the policy of RUN as a file that runs without eqcrl.

    (observation, desired_goal) -> action, deterministic, for any number of rows of float32. stablehlo is loaded by
    jax.export, onnx by an ONNX runtime; safetensors has the weights, and a header that says how to evaluate them. The
    actions of the file are compared with those of the run before it gets its name.

    \b
    Examples:
      eqcrl export runs/first --out policy.onnx
      eqcrl export runs/first --format stablehlo
    """
    path, chosen = _where(run, chosen, out)
    from eqcrl import run as runs
    from eqcrl.export.write import check_out
    from eqcrl.export.write import export as write_policy

    check_out(path, force=force)
    done = write_policy(runs.load(run, checkpoint), path, format=chosen, force=force)
    spec = done.policy.spec
    click.echo(
        f"{done.path}: {chosen}, {done.path.stat().st_size / 1e6:,.1f} MB, observation ({spec.observation_size}) and "
        f"desired_goal ({spec.goal_size}) -> action ({spec.action_size})"
    )
    if done.difference is not None:
        click.echo(f"Its actions differ from those of the run by at most {done.difference:.1e}.")


def _where(run: str, chosen: str | None, out: str | None) -> tuple[Path, str]:
    """The file and its format. Raises: UsageError if neither is said."""
    if out is None:
        if chosen is None:
            raise UsageError("Nothing says what to write.", mend=f"Add --format {' or '.join(SUFFIXES.values())}.")
        return Path(run) / f"policy.{chosen}", chosen
    suffix = Path(out).suffix.lower()
    if chosen is None and suffix not in SUFFIXES:
        raise UsageError(
            f"The suffix of {out!r} does not say which format is meant.",
            mend=f"Add --format, or give the file the suffix {' or '.join(SUFFIXES)}.",
        )
    return Path(out), chosen or SUFFIXES[suffix]
