"""Evaluated episodes as a short film or a strip of stills: the maze from above, one panel an episode."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from eqcrl.envs.base import TopView
from eqcrl.errors import UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots.output import atomic, check_suffix
from eqcrl.plots.plane import Plane, plane_of
from eqcrl.plots.stage import Stage
from eqcrl.video import FILM_SUFFIXES, shown_moments, write_film


def animate(
    episodes: Episodes,
    top_view: TopView | None,
    path: str | Path,
    *,
    success_radius: float,
    shown: int | Sequence[int] = 4,
    fps: int = 20,
    max_seconds: float = 20.0,
    width: int = 640,
) -> Path:
    """A film of some episodes side by side, one frame a step; the suffix of `path` is the format.

    The formats are .gif and .mp4. `shown` is how many episodes (the first ones, whatever their outcome) or
    their indexes; `width` is in pixels. The film ends a second after all of them have reached their goal, at the
    latest with the episodes; where that takes longer than `max_seconds`, frames are left out evenly.

    Raises: UsageError for an environment without a top view, no episodes, an unknown suffix, `fps` outside 1
    to 50; RunError if the disk refuses or there is no encoder.
    """
    path = Path(path)
    check_suffix(path, FILM_SUFFIXES, "film")
    if not 1 <= fps <= 50:
        raise UsageError(f"fps = {fps} frames per second is not possible.", mend="Use 1 to 50; a GIF knows no more.")
    plane = plane_of(episodes, top_view, success_radius)
    chosen = _choose(plane, shown)
    steps = film_steps(plane, chosen, fps=fps, max_seconds=max_seconds)
    stage = Stage(plane, chosen, columns=_columns(plane, len(chosen)), width=width)
    write_film(path, stage.frame, steps, fps=fps)
    return path


def strip(
    episodes: Episodes,
    top_view: TopView | None,
    path: str | Path,
    *,
    success_radius: float,
    shown: int | Sequence[int] = 1,
    stills: int = 5,
    width: int = 1200,
) -> Path:
    """A PNG of `stills` moments from the start to the end of the film, left to right, one row an episode.

    Raises: UsageError for an environment without a top view, no episodes, another suffix, less than two
    stills; RunError if the disk refuses.
    """
    path = Path(path)
    check_suffix(path, (".png",), "strip of stills")
    if stills < 2:
        raise UsageError(f"A strip of {stills} stills shows no motion.", mend="Ask for two or more.")
    plane = plane_of(episodes, top_view, success_radius)
    rows = []
    for episode in _choose(plane, shown):
        last = film_steps(plane, [episode], fps=20, max_seconds=np.inf)[-1]
        stage = Stage(plane, [episode], columns=1, width=max(width // stills, 1))
        rows.append(np.concatenate([stage.frame(round(t)) for t in np.linspace(0, last, stills)], axis=1))
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG", optimize=True)
    return path


def still(
    episodes: Episodes, top_view: TopView | None, path: str | Path, *, success_radius: float, width: int = 640
) -> Path:
    """A PNG of the first episode as it begins: start, goal and walls.

    Raises: UsageError for an environment without a top view, no episodes or another suffix; RunError if the disk
    refuses.
    """
    path = Path(path)
    check_suffix(path, (".png",), "picture")
    stage = Stage(plane_of(episodes, top_view, success_radius), [0], columns=1, width=width)
    with atomic(path) as temporary:
        Image.fromarray(stage.frame(0)).save(temporary, format="PNG", optimize=True)
    return path


def film_steps(plane: Plane, chosen: Sequence[int], *, fps: int, max_seconds: float) -> list[int]:
    """The steps that the film shows: from 0 until `LINGER` after the last first success, or to the end if any
    episode fails; every k-th if these are more than `fps * max_seconds`."""
    return shown_moments(plane.at_goal[:, list(chosen)], rate=fps, max_seconds=max_seconds)


def _choose(plane: Plane, shown: int | Sequence[int]) -> list[int]:
    total = plane.num_episodes()
    chosen = list(range(min(shown, total))) if isinstance(shown, int) else [int(i) for i in shown]
    if not chosen or any(not 0 <= i < total for i in chosen):
        raise UsageError(
            f"Episodes {shown} cannot be shown: {total} were evaluated.",
            mend=f"Choose from 0 to {total - 1}, at least one.",
        )
    return chosen


def _columns(plane: Plane, panels: int) -> int:
    """Columns of the grid whose outline is near 4:3 and that leaves few places empty."""
    height, width = plane.high - plane.low

    def cost(columns: int) -> float:
        rows = -(-panels // columns)
        return abs(np.log(columns * width / (rows * height) / (4 / 3))) + (rows * columns - panels) / panels

    return min(range(1, panels + 1), key=cost)
