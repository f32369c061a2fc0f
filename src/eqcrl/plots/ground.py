"""The plane under a picture from above: bounds and walls, the first coordinate down."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from eqcrl.plots.style import WALL


def draw_ground(
    axes: Axes, walls: Float[np.ndarray, "walls 4"], low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"]
) -> None:
    """Set the axes to the plane between `low` and `high`, as a layout is written, and draw its walls."""
    axes.set_aspect("equal")
    axes.set_xlim(low[1], high[1])
    axes.set_ylim(high[0], low[0])  # the first coordinate points down
    axes.set_xlabel("goal coordinate 1")
    axes.set_ylabel("goal coordinate 0")
    axes.grid(False)
    corners = [
        [(left, top), (right, top), (right, bottom), (left, bottom)] for top, left, bottom, right in walls.tolist()
    ]
    # Not antialiased: the seam between two neighboring boxes would show as a hairline.
    axes.add_collection(PolyCollection(corners, facecolors=WALL, linewidths=0, antialiaseds=False), autolim=False)
