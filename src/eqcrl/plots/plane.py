"""Evaluated episodes on the plane that they are drawn on: checked, as NumPy arrays."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from eqcrl.envs.base import TopView
from eqcrl.errors import UsageError
from eqcrl.evaluate import Episodes


@dataclass(frozen=True)
class Plane:
    """The plane of a picture, in the units of the goal; the first coordinate points down."""

    paths: Float[np.ndarray, "moments episodes 2"]
    goals: Float[np.ndarray, "episodes 2"]
    at_goal: Bool[np.ndarray, "moments episodes"]
    """Whether the goal is held after t steps; False in row 0, which is before the first."""
    walls: Float[np.ndarray, "walls 4"]
    low: Float[np.ndarray, "2"]
    high: Float[np.ndarray, "2"]
    success_radius: float

    def success(self) -> Bool[np.ndarray, "episodes"]:
        """Episodes that were at the goal at least once."""
        return np.any(self.at_goal, axis=0)

    def num_episodes(self) -> int:
        """How many there are."""
        return self.paths.shape[1]

    def steps(self) -> int:
        """Steps of an episode."""
        return len(self.paths) - 1


def plane_of(episodes: Episodes, top_view: TopView | None, success_radius: float) -> Plane:
    """Episodes and their surroundings, ready to draw.

    The bounds are those of the view, widened where a path or goal leaves them (an open plane without walls).
    Raises: UsageError for a task without a top view, goals with fewer than two coordinates, or no episodes.
    """
    if top_view is None:
        raise UsageError(
            "This environment has no top view: its task does not live in a plane to draw.",
            mend="Return a TopView from its `top_view()` if it does.",
        )
    paths, goals = np.asarray(episodes.achieved_goal, float), np.asarray(episodes.desired_goal, float)
    held = np.asarray(episodes.at_goal, bool)
    if paths.ndim != 3 or goals.shape != paths.shape[1:] or held.shape != (len(paths) - 1, paths.shape[1]):
        raise UsageError(
            f"These are not episodes: achieved goals {paths.shape}, desired goals {goals.shape}, at goal {held.shape}.",
            mend="Give what `eqcrl.evaluate.run_episodes` returns: (time + 1, episodes, goal), "
            "(episodes, goal), (time, episodes).",
        )
    if paths.shape[2] < 2:
        raise UsageError("The goal has one coordinate only, and a plane has two.", mend="Return None as top view.")
    if paths.shape[1] == 0:
        raise UsageError("There are no episodes to draw.", mend="Evaluate at least one episode.")
    paths, goals = paths[:, :, :2], goals[:, :2]
    points = np.concatenate([paths.reshape(-1, 2), goals])
    points = points[np.isfinite(points).all(axis=1)]
    return Plane(
        paths=paths,
        goals=goals,
        at_goal=np.concatenate([np.zeros((1, paths.shape[1]), bool), held]),
        walls=np.asarray(top_view.walls, float).reshape(-1, 4),
        low=np.minimum(np.asarray(top_view.low, float), points.min(axis=0, initial=np.inf)),
        high=np.maximum(np.asarray(top_view.high, float), points.max(axis=0, initial=-np.inf)),
        success_radius=float(success_radius),
    )
