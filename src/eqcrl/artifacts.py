"""The pictures that a run leaves behind, and those that are made of its policy later."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from eqcrl import plots, render
from eqcrl.config import Part
from eqcrl.envs.base import AbstractEnv
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.errors import EqcrlError, UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots.output import check_suffix
from eqcrl.run import Run
from eqcrl.scene import film as scene_film
from eqcrl.scene import page as scene_page
from eqcrl.scene.gl import require_drawing
from eqcrl.scene.world import pose, take_of
from eqcrl.video import FILM_SUFFIXES

SHOWN = 4
"""Episodes in the film that a run leaves behind."""


@dataclass(frozen=True)
class Wanted:
    """Where to write what; what is None is not made."""

    film: Path | None = None
    """.mp4 or .gif."""
    stills: Path | None = None
    """PNG of moments side by side, a row an episode."""
    trajectories: Path | None = None
    """PNG from above; left out for a task that does not live in a plane."""
    page: Path | None = None
    """HTML that plays the episodes in a browser; MuJoCo tasks only."""

    def check(self) -> None:
        """Raises: UsageError for a suffix that is no format, or a page without the package it is made with."""
        for path, suffixes, what in (
            (self.film, FILM_SUFFIXES, "film"),
            (self.stills, (".png",), "strip of stills"),
            (self.page, (".html",), "page"),
        ):
            if path is not None:
                check_suffix(path, suffixes, what)
        if self.page is not None:
            scene_page.require_viser()


def default_suffix(env: AbstractEnv) -> str:
    """The format of a film if none is asked for: frames in space are too many colors for a GIF."""
    return ".mp4" if isinstance(env, AbstractMujocoEnv) else ".gif"


def leave(run: Run, console: Console) -> None:
    """Learning curve, trajectories of the last evaluation and a film of some episodes, into the run directory.

    The film of a MuJoCo task shows fresh episodes, and stills of it are beside it. What cannot be drawn (no
    evaluation yet, a task that does not live in a plane, no way to draw in space) is said in a line.
    Raises: RunError if the disk refuses.
    """
    title, directory = run.config.label(), run.directory
    if not run.metrics:
        console.print("No evaluation yet: no pictures.", highlight=False)
        return
    plots.learning_curve(run.metrics, directory.figures / "learning_curve.png", title=title)
    episodes = run.outcome.episodes if run.outcome is not None else None
    if episodes is None:
        return
    env, name = run.system.eval_env, run.config.env.name
    view, radius = env.top_view(), env.success_radius
    if view is not None:
        plots.trajectories(episodes, view, directory.figures / "trajectories.png", success_radius=radius, title=title)
    if isinstance(env, AbstractMujocoEnv):
        _leave_scene(run, console)
    elif view is not None:
        render.animate(episodes, view, directory.videos / "policy.gif", success_radius=radius, shown=SHOWN)
    else:
        console.print(f"{name} has no top view: no picture of trajectories, no film.", highlight=False)


def _leave_scene(run: Run, console: Console) -> None:
    """Film and stills of fresh episodes. The training is done and saved: whatever goes wrong here is only said."""
    directory = run.directory
    again = f"`eqcrl render {directory.path}` makes it."
    if run.outcome is not None and run.outcome.stopped_by is not None:
        console.print(f"Stopped, so no film; {again}", highlight=False, soft_wrap=True)
        return
    wanted = Wanted(film=directory.videos / "policy.mp4", stills=directory.figures / "stills.png")
    try:
        render_policy(run, wanted, env=None, episodes=SHOWN, seed=0, deterministic=True, training_starts=False)
    except EqcrlError as error:
        console.print(f"No film: {error}\n  Then {again}", highlight=False, markup=False, soft_wrap=True)
    except Exception as error:
        said = f"No film: {type(error).__name__}: {error}\n  `eqcrl render --debug {directory.path}` shows more."
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def render_policy(
    run: Run, wanted: Wanted, *, env: Part | None, episodes: int, seed: int, deterministic: bool, training_starts: bool
) -> list[Path]:
    """Pictures of fresh episodes of the policy; returns the paths of what was made.

    Raises: UsageError for what the task cannot have (a page of a task without MuJoCo, a film of one that has no
    top view either), before anything is computed; what `Wanted.check` and `Run.evaluate` raise; RunError where
    nothing can be drawn or written.
    """
    wanted.check()
    acted_in, name = run.eval_env(env, training_starts=training_starts), (env or run.config.env).name
    in_space = isinstance(acted_in, AbstractMujocoEnv)
    if wanted.page is not None and not in_space:
        raise UsageError(
            f"A page cannot be made of {name!r}: it has no MuJoCo model to show.", mend="Make a film instead (--out)."
        )
    if in_space and (wanted.film is not None or wanted.stills is not None):
        require_drawing()
    _, ran = run.evaluate(
        env=env,
        episodes=episodes,
        deterministic=deterministic,
        seed=seed,
        training_starts=training_starts,
        record=pose if in_space else None,
    )
    made = _in_space(acted_in, ran, wanted, name) if in_space else _from_above(acted_in, ran, wanted)
    view = acted_in.top_view()
    if wanted.trajectories is not None and view is not None:
        plots.trajectories(ran, view, wanted.trajectories, success_radius=acted_in.success_radius, title=name)
        made.append(wanted.trajectories)
    return made


def _in_space(env: AbstractMujocoEnv, ran: Episodes, wanted: Wanted, name: str) -> list[Path]:
    take, made = take_of(env, ran), []
    if wanted.film is not None:
        made.append(scene_film.film(take, wanted.film))
    if wanted.stills is not None:
        made.append(scene_film.strip(take, wanted.stills))
    if wanted.page is not None:
        made.append(scene_page.page(take, wanted.page, title=name))
    return made


def _from_above(env: AbstractEnv, ran: Episodes, wanted: Wanted) -> list[Path]:
    view, radius, made = env.top_view(), env.success_radius, []
    shown = ran.desired_goal.shape[0]
    if wanted.film is not None:
        made.append(render.animate(ran, view, wanted.film, success_radius=radius, shown=shown))
    if wanted.stills is not None:
        made.append(render.strip(ran, view, wanted.stills, success_radius=radius, shown=shown))
    return made
