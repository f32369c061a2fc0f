"""`eqcrl render`: films, stills and pages of a trained policy."""

from pathlib import Path

import click

from eqcrl.cli.env_options import chosen_env, run_env_options
from eqcrl.cli.options import SettingsCommand, checkpoint_option, given


@click.command(cls=SettingsCommand, options_for=run_env_options)
@click.argument("run", metavar="RUN")
@click.option(
    "--out", metavar="FILE", help="A .gif or .mp4 file.  (default: RUN/videos/policy.mp4, or .gif of a flat task)"
)
@click.option("--html", metavar="FILE", help="A page that plays the episodes in a browser; no film unless --out.")
@click.option("--stills", is_flag=True, help="Stills of the episodes side by side; no film unless --out.")
@click.option("--episodes", type=click.IntRange(1, 16), default=4, show_default=True, help="Episodes to show.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of starts and goals.")
@click.option("--sampled", is_flag=True, help="Sample actions instead of taking the mode.")
@click.option("--env", metavar="NAME", help="Act in another environment of the same sizes.")
@click.option(
    "--training-starts",
    is_flag=True,
    help="Use the environment's own start and goal law instead of that of its evaluation.",
)
@checkpoint_option
@click.pass_context
def render(
    ctx: click.Context,
    run: str,
    out: str | None,
    html: str | None,
    stills: bool,
    episodes: int,
    seed: int,
    sampled: bool,
    env: str | None,
    training_starts: bool,
    checkpoint: str,
) -> None:
    """Make a film of the policy of RUN, and pictures of the same episodes beside it.

    A MuJoCo task is filmed in space, with stills; other tasks from above. Where the task lives in a plane, a picture
    of the trajectories is drawn too.
    """
    from eqcrl import artifacts
    from eqcrl import run as runs
    from eqcrl.signals import unwinding

    film, page = Path(out) if out is not None else None, Path(html) if html is not None else None
    artifacts.Wanted(film=film, page=page).check()
    opened = runs.load(run, checkpoint)
    part = chosen_env(opened.config, env, given(ctx))
    suffix = artifacts.default_suffix(opened.eval_env(part, training_starts=training_starts))
    if film is None and page is None and not stills:
        film = opened.directory.videos / f"policy{suffix}"
    base = film or page or opened.directory.videos / "policy"
    with_stills = stills or (film is not None and suffix == ".mp4")
    wanted = artifacts.Wanted(
        film=film,
        page=page,
        stills=base.with_name(f"{base.stem}-stills.png") if with_stills else None,
        trajectories=base.with_suffix(".png") if film is not None or stills else None,
    )
    with unwinding():
        for written in artifacts.render_policy(
            opened,
            wanted,
            env=part,
            episodes=episodes,
            seed=seed,
            deterministic=not sampled,
            training_starts=training_starts,
        ):
            click.echo(str(written))
