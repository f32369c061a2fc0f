"""The house style of every picture: colors of Okabe and Ito, fonts for print, no global state left behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by the color-blind too. Without their yellow, which is lost on paper.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
LINE_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# Four dashes beside seven colors: 28 lines that no color alone tells apart, also in a gray copy.
LINE_DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Filled areas in a gray copy; the first is plain.
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")
# Of one hue to the color-blind too, and evenly lighter in gray.
GRADUAL = "cividis"

WALL, FREE, INK = "#4A4F57", "#FFFFFF", "#222222"

HOUSE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#D9DCE0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
}

_lock = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Within it, matplotlib draws in the house style, whatever the user's settings; after it, as before.

    Settings of matplotlib are global to the process. Two threads that changed and restored them at once could
    leave the style behind for good, so a lock lets one in at a time.
    """
    with _lock, matplotlib.style.context(["default", HOUSE]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, on its own canvas (pyplot would keep it in a global list)."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def line_style(index: int) -> dict[str, Any]:
    """Color and dash of the line with that index."""
    return {
        "color": LINE_COLORS[index % len(LINE_COLORS)],
        "linestyle": LINE_DASHES[index % len(LINE_DASHES)],
    }


def marker_style(index: int) -> dict[str, Any]:
    """Color, dash and marker of the line of few points with that index."""
    return line_style(index) | {"marker": MARKERS[index % len(MARKERS)], "markersize": 6}


def rgb(color: str) -> tuple[int, int, int]:
    """`#0072B2` as (0, 114, 178)."""
    red, green, blue = to_rgb(color)
    return round(red * 255), round(green * 255), round(blue * 255)
