"""Maze layouts as text grids: built-in ones, files of the user's, and what can be derived from a grid.

Legend: `#` wall, `R` start, `G` goal of the evaluation, `.` free. Row i, column j of the text is the cell
centred on (i s, j s) for cell size s, as in the paper's mazes.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqcrl.envs.base import TopView
from eqcrl.errors import ConfigError, did_you_mean

# The evaluation layouts of the paper's released code (arXiv 2503.14858): goals lie far from the start.
# It has none for "hardest": here the goals are the cells at least 12 steps along the shortest path from R.
LAYOUTS: dict[str, str] = {
    # Not of the paper: no wall inside, goals in the far corners.
    "open": "#######/#R...G#/#.....#/#.....#/#.....#/#G...G#/#######",
    "u": "#####/#R..#/###.#/#GGG#/#####",
    "u2": "######/#R...#/####.#/#GGGG#/######",
    "u3": "#######/#R....#/#####.#/#GGGGG#/#######",
    "u4": "#####/#...#/#R#.#/###.#/#G#.#/#GGG#/#####",
    "u5": "########/#......#/#R####.#/######.#/#G####G#/#GGGGGG#/########",
    "u6": "#######/#.....#/#R###.#/#####.#/#G###G#/#GGGGG#/#######",
    "u7": "######/#....#/#R##.#/####.#/#G##G#/#GGGG#/######",
    "big": "########/#R.##GG#/#..#..G#/##...###/#..#...#/#.#G.#G#/#.GG#GG#/########",
    "humanoid-big": "########/#R.##GG#/#..#.GG#/##...###/#..#...#/#.#G.#G#/#.GG#GG#/########",
    "hardest": (
        "############/#R...#...GG#/#.##.#.#G#G#/#......#GGG#/#.####.###G#/"
        "#..#G#...GG#/##.#G#.#G###/#..#GG.#GGG#/############"
    ),
}
SYMBOLS = "#RG."
MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class Maze:
    """A validated layout: one start, at least one goal, every goal connected to the start."""

    name: str
    rows: tuple[str, ...]

    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.rows[0])

    def walls(self) -> Bool[np.ndarray, "rows columns"]:
        """True where a wall stands."""
        return np.array([[c == "#" for c in row] for row in self.rows])

    def cells(self, symbols: str) -> Int[np.ndarray, "cells 2"]:
        """Row and column of every cell with one of these symbols, in reading order."""
        found = [(i, j) for i, row in enumerate(self.rows) for j, c in enumerate(row) if c in symbols]
        return np.array(found, dtype=np.int32).reshape(-1, 2)

    def steps_from_start(self) -> Int[np.ndarray, "rows columns"]:
        """Length of the shortest path from R in cells; -1 for walls and what R cannot reach."""
        row, column = self.cells("R")[0]
        return _flood(self.walls(), (int(row), int(column)))

    def reachable_cells(self) -> Int[np.ndarray, "cells 2"]:
        """Every cell connected to the start, the start included."""
        return np.argwhere(self.steps_from_start() >= 0).astype(np.int32)

    def corridor(self) -> Int[np.ndarray, "cells 2"]:
        """Row and column of the cells from R on, one after another. Raises: ConfigError for a layout that branches."""
        steps = self.steps_from_start()
        cells = self.reachable_cells()
        cells = cells[np.argsort(steps[cells[:, 0], cells[:, 1]], kind="stable")]
        # Neighbors one after another, and no others: then there is exactly one way.
        apart = np.abs(cells[:, None] - cells[None]).sum(-1)
        numbers = np.arange(len(cells))
        if not np.array_equal(apart == 1, np.abs(numbers[:, None] - numbers) == 1):
            raise ConfigError(
                f"The layout {self.name} is not one corridor that begins at R.",
                mend="Use u, u2, u3, u4 or u5, or an environment without stitching for this layout.",
            )
        return cells

    def wall_boxes(self, cell_size: float) -> Float[np.ndarray, "walls 4"]:
        """Upper left and lower right corner of every wall cell, in the units of `cell_size`."""
        centers = self.cells("#").astype(float) * cell_size
        half = cell_size / 2
        return np.concatenate([centers - half, centers + half], axis=1)

    def top_view(self, cell_size: float) -> TopView:
        """The walls, seen from above."""
        rows, columns = self.shape()
        half = cell_size / 2
        return TopView(
            self.wall_boxes(cell_size), (-half, -half), (rows * cell_size - half, columns * cell_size - half)
        )

    def connects(self, cell_size: float, one: Float[Array, "2"], other: Float[Array, "2"]) -> Bool[Array, ""]:
        """Whether both positions lie in free cells connected to R; False for a position outside of the layout."""
        connected = jnp.asarray(self.steps_from_start() >= 0)
        # The border is wall, so that what lies outside counts as wall too.
        cells = [
            jnp.clip(jnp.round(p / cell_size).astype(int), 0, jnp.array(connected.shape) - 1) for p in (one, other)
        ]
        return connected[cells[0][0], cells[0][1]] & connected[cells[1][0], cells[1][1]]


def _flood(walls: Bool[np.ndarray, "rows columns"], start: tuple[int, int]) -> Int[np.ndarray, "rows columns"]:
    steps = np.full(walls.shape, -1, dtype=np.int32)
    steps[start] = 0
    queue = deque([start])
    while queue:
        i, j = queue.popleft()
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if not walls[cell] and steps[cell] < 0:
                steps[cell] = steps[i, j] + 1
                queue.append(cell)
    return steps


def parse_maze(text: str, name: str) -> Maze:
    """A maze from its text, rows on lines of their own or separated by `/`.

    Raises: ConfigError for an unknown symbol, ragged rows, a gap in the outer wall, no start or several, no
        goal, a goal that the start does not reach, or more than a million cells.
    """
    rows = tuple(r.strip() for r in text.replace("/", "\n").splitlines() if r.strip())
    legend = "Legend: # wall, R start, G evaluation goal, . free."
    if not rows:
        raise ConfigError(f"The layout {name} is empty.", mend=legend)
    if sum(map(len, rows)) > MAX_CELLS:
        raise ConfigError(f"The layout {name} has more than {MAX_CELLS} cells.", mend="Use a smaller grid.")
    for i, row in enumerate(rows, start=1):
        for j, symbol in enumerate(row, start=1):
            if symbol not in SYMBOLS:
                raise ConfigError(f"The layout {name} has {symbol!r} in row {i}, column {j}.", mend=legend)
        if len(row) != len(rows[0]):
            raise ConfigError(
                f"The layout {name} is ragged: row {i} has {len(row)} cells, row 1 has {len(rows[0])}.",
                mend="Give every row the same length.",
            )
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    if set(border) != {"#"}:
        raise ConfigError(f"The layout {name} is open at its border.", mend="Close it with # on all four sides.")
    maze = Maze(name, rows)
    starts, goals = maze.cells("R"), maze.cells("G")
    if len(starts) != 1:
        raise ConfigError(f"The layout {name} has {len(starts)} start cells.", mend="Mark exactly one cell with R.")
    if len(goals) == 0:
        raise ConfigError(f"The layout {name} has no goal.", mend="Mark at least one cell with G.")
    steps = maze.steps_from_start()
    lost = [(int(i) + 1, int(j) + 1) for i, j in goals if steps[i, j] < 0]
    if lost:
        raise ConfigError(
            f"The layout {name} has a goal that its start cannot reach: row {lost[0][0]}, column {lost[0][1]}.",
            mend="Open a way between R and every G.",
        )
    return maze


def find_maze(layout: str) -> Maze:
    """The built-in layout of that name, the one in the text file at that path, or the one that the text is.

    Raises: ConfigError for a name that is neither (with the nearest), an unreadable file, an invalid layout.
    """
    if layout in LAYOUTS:
        return parse_maze(LAYOUTS[layout], layout)
    if layout.startswith("#"):
        return parse_maze(layout, "given as text")
    try:
        path = Path(layout).expanduser()
        exists = path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null character: no name of a file
        path, exists = Path(), False
    if exists:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The layout file {path} cannot be read: {error}.", mend="Give a text file.") from None
        return parse_maze(text, str(path))
    raise ConfigError(
        f"There is no layout {layout!r}: neither a built-in one nor a file.", mend=did_you_mean(layout, LAYOUTS)
    )


def self_contained(layout: str) -> str:
    """The layout in a form that needs no file: a built-in name, or the rows joined by `/`. Raises: ConfigError."""
    return layout if layout in LAYOUTS else "/".join(find_maze(layout).rows)
