"""`eqcrl render`: a video of a trained policy."""

from pathlib import Path

import click

from eqcrl.cli.env_options import chosen_env, run_env_options
from eqcrl.cli.options import SettingsCommand, given


@click.command(cls=SettingsCommand, options_for=run_env_options)
@click.argument("run", metavar="RUN")
@click.option("--out", metavar="FILE", help="A .gif or .mp4 file.  (default: RUN/videos/policy.gif)")
@click.option("--episodes", type=click.IntRange(1, 16), default=4, show_default=True, help="Episodes to show.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of starts and goals.")
@click.option("--sampled", is_flag=True, help="Sample actions instead of taking the mode.")
@click.option("--env", metavar="NAME", help="Act in another environment of the same sizes.")
@click.option(
    "--training-starts",
    is_flag=True,
    help="Use the environment's own start and goal law instead of that of its evaluation.",
)
@click.pass_context
def render(
    ctx: click.Context,
    run: str,
    out: str | None,
    episodes: int,
    seed: int,
    sampled: bool,
    env: str | None,
    training_starts: bool,
) -> None:
    """Make a video of the policy of RUN, and a picture of the same trajectories beside it."""
    from eqcrl import artifacts
    from eqcrl import run as runs
    from eqcrl.plots.output import check_suffix
    from eqcrl.render import FILM_SUFFIXES

    path = Path(out) if out is not None else Path(run) / "videos" / "policy.gif"
    check_suffix(path, FILM_SUFFIXES, "film")
    opened = runs.load(run)
    part = chosen_env(opened.config, env, given(ctx))
    for written in artifacts.render_policy(
        opened, path, env=part, episodes=episodes, seed=seed, deterministic=not sampled, training_starts=training_starts
    ):
        click.echo(str(written))
