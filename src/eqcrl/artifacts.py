"""The pictures that a run leaves behind."""

from pathlib import Path

from rich.console import Console

from eqcrl import plots, render
from eqcrl.config import Part
from eqcrl.plots.output import check_suffix
from eqcrl.run import Run


def leave(run: Run, console: Console) -> None:
    """Learning curve, trajectories of the last evaluation and a film of some of them, into the run directory.

    What cannot be drawn (no evaluation yet, a task that does not live in a plane) is said in a line.
    Raises: RunError if the disk refuses.
    """
    title = run.config.label()
    if not run.metrics:
        console.print("No evaluation yet: no pictures.", highlight=False)
        return
    plots.learning_curve(run.metrics, run.directory.figures / "learning_curve.png", title=title)
    episodes = run.outcome.episodes if run.outcome is not None else None
    view = run.system.eval_env.top_view()
    if episodes is None:
        return
    if view is None:
        console.print(f"{run.config.env.name} has no top view: no picture of trajectories, no film.", highlight=False)
        return
    radius = run.system.eval_env.success_radius
    plots.trajectories(episodes, view, run.directory.figures / "trajectories.png", success_radius=radius, title=title)
    render.animate(episodes, view, run.directory.videos / "policy.gif", success_radius=radius)


def render_policy(
    run: Run, path: Path, *, env: Part | None, episodes: int, seed: int, deterministic: bool, training_starts: bool
) -> list[Path]:
    """A film of fresh episodes of the policy, and beside it their trajectories as PNG; returns both paths.

    Raises: UsageError for another suffix or an environment without a top view; what `Run.evaluate` raises.
    """
    check_suffix(path, render.FILM_SUFFIXES, "film")
    acted_in = run.eval_env(env, training_starts=training_starts)
    _, ran = run.evaluate(
        env=env, episodes=episodes, deterministic=deterministic, seed=seed, training_starts=training_starts
    )
    view, radius = acted_in.top_view(), acted_in.success_radius
    render.animate(ran, view, path, success_radius=radius, shown=episodes)
    still = path.with_suffix(".png")
    plots.trajectories(ran, view, still, success_radius=radius, title=f"{(env or run.config.env).name}")
    return [path, still]
