"""`eqcrl eval`: fresh episodes of a trained policy."""

import click

from eqcrl.cli.env_options import chosen_env, run_env_options
from eqcrl.cli.options import SettingsCommand, checkpoint_option, given


@click.command("eval", cls=SettingsCommand, options_for=run_env_options)
@click.argument("run", metavar="RUN")
@click.option("--episodes", type=click.IntRange(min=1), default=128, show_default=True, help="Episodes, side by side.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of starts and goals.")
@click.option("--sampled", is_flag=True, help="Sample actions instead of taking the mode.")
@click.option("--env", metavar="NAME", help="Evaluate in another environment of the same sizes.")
@click.option(
    "--training-starts",
    is_flag=True,
    help="Use the environment's own start and goal law instead of that of its evaluation.",
)
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    run: str,
    episodes: int,
    seed: int,
    sampled: bool,
    env: str | None,
    training_starts: bool,
    checkpoint: str,
    as_json: bool,
) -> None:
    """Evaluate the policy of RUN on fresh episodes.

    Without --env: where the run itself was evaluated. With `--env NAME` or `--env.KEY VALUE`: in the evaluation
    that belongs to that environment, for example `eqcrl eval RUN --env.layout my_maze.txt`.
    """
    from eqcrl import run as runs

    opened = runs.load(run, checkpoint)
    part = chosen_env(opened.config, env, given(ctx))
    scores, _ = opened.evaluate(
        env=part, episodes=episodes, deterministic=not sampled, seed=seed, training_starts=training_starts
    )
    if as_json:
        import json

        click.echo(
            json.dumps(
                {
                    "run": run,
                    "env": (part or opened.config.eval_env or opened.config.env).name,
                    "episodes": episodes,
                    "seed": seed,
                    "actions": "sampled" if sampled else "deterministic",
                    **scores,
                }
            )
        )
        return
    from rich.table import Table

    from eqcrl.cli.console import make_console

    table = Table(title=f"{episodes} episodes, seed {seed}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}")
    make_console().print(table)
