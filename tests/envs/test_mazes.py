"""Layouts: the paper's grids, every way a grid can be wrong, and what is derived from one."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from eqcrl.envs.mazes import LAYOUTS, MAX_CELLS, find_maze, parse_maze, self_contained
from eqcrl.errors import ConfigError

# The grids of the paper's released code, typed from its description: train layouts, then evaluation layouts.
# `open` is ours.
TRAIN = {
    "u": "#####/#RGG#/###G#/#GGG#/#####",
    "open": "#######/#RGGGG#/#GGGGG#/#GGGGG#/#GGGGG#/#GGGGG#/#######",
    "u2": "######/#RGGG#/####G#/#GGGG#/######",
    "u3": "#######/#RGGGG#/#####G#/#GGGGG#/#######",
    "u4": "#####/#GGG#/#R#G#/###G#/#G#G#/#GGG#/#####",
    "u5": "########/#GGGGGG#/#R####G#/######G#/#G####G#/#GGGGGG#/########",
    "u6": "#######/#GGGGG#/#R###G#/#####G#/#G###G#/#GGGGG#/#######",
    "u7": "######/#GGGG#/#R##G#/####G#/#G##G#/#GGGG#/######",
    "big": "########/#RG##GG#/#GG#GGG#/##GGG###/#GG#GGG#/#G#GG#G#/#GGG#GG#/########",
    "humanoid-big": "########/#RG##GG#/#GG#GGG#/##GGG###/#GG#GGG#/#G#GG#G#/#GGG#GG#/########",
    "hardest": (
        "############/#RGGG#GGGGG#/#G##G#G#G#G#/#GGGGGG#GGG#/#G####G###G#/#GG#G#GGGGG#/"
        "##G#G#G#G###/#GG#GGG#GGG#/############"
    ),
}
EVALUATION = {
    "u": "#####/#R..#/###.#/#GGG#/#####",
    "open": "#######/#R...G#/#.....#/#.....#/#.....#/#G...G#/#######",
    "u2": "######/#R...#/####.#/#GGGG#/######",
    "u3": "#######/#R....#/#####.#/#GGGGG#/#######",
    "u4": "#####/#...#/#R#.#/###.#/#G#.#/#GGG#/#####",
    "u5": "########/#......#/#R####.#/######.#/#G####G#/#GGGGGG#/########",
    "u6": "#######/#.....#/#R###.#/#####.#/#G###G#/#GGGGG#/#######",
    "u7": "######/#....#/#R##.#/####.#/#G##G#/#GGGG#/######",
    "big": "########/#R.##GG#/#..#..G#/##...###/#..#...#/#.#G.#G#/#.GG#GG#/########",
    "humanoid-big": "########/#R.##GG#/#..#.GG#/##...###/#..#...#/#.#G.#G#/#.GG#GG#/########",
}


def mask(text: str, symbols: str) -> list[list[bool]]:
    return [[symbol in symbols for symbol in row] for row in text.split("/")]


WALLS = {
    "u": 18,
    "open": 24,
    "u2": 21,
    "u3": 24,
    "u4": 24,
    "u5": 39,
    "u6": 34,
    "u7": 29,
    "big": 38,
    "humanoid-big": 38,
    "hardest": 62,
}


@pytest.mark.parametrize(("name", "walls"), WALLS.items())
def test_built_in_walls_and_start_are_the_papers(name: str, walls: int) -> None:
    maze = find_maze(name)
    assert maze.walls().tolist() == mask(TRAIN[name], "#")
    assert maze.walls().sum() == walls
    np.testing.assert_array_equal(maze.cells("R"), np.argwhere(mask(TRAIN[name], "R")))


@pytest.mark.parametrize("name", EVALUATION)
def test_built_in_goals_are_the_papers_evaluation_goals(name: str) -> None:
    np.testing.assert_array_equal(find_maze(name).cells("G"), np.argwhere(mask(EVALUATION[name], "G")))


def test_goals_of_the_hardest_maze_are_the_cells_at_least_twelve_steps_away() -> None:
    maze = find_maze("hardest")
    np.testing.assert_array_equal(maze.cells("G"), np.argwhere(shortest_paths(maze.walls(), (1, 1)) >= 12))


def test_every_cell_of_the_training_layouts_can_be_reached() -> None:
    assert set(LAYOUTS) == set(TRAIN)
    for name, text in TRAIN.items():
        np.testing.assert_array_equal(find_maze(name).reachable_cells(), np.argwhere(mask(text, "RG")))


def shortest_paths(walls: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Dijkstra on the graph of free cells; -1 where there is no way."""
    number = np.arange(walls.size).reshape(walls.shape)
    edges = [
        (number[i, j], number[i + di, j + dj])
        for i, j in np.argwhere(~walls)
        for di, dj in ((0, 1), (1, 0))
        if i + di < walls.shape[0] and j + dj < walls.shape[1] and not walls[i + di, j + dj]
    ]
    ends = np.array(edges, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(edges)), (ends[0], ends[1])), (walls.size, walls.size))
    distance = dijkstra(graph, directed=False, indices=number[start]).reshape(walls.shape)
    return np.where(np.isinf(distance), -1, distance)


@st.composite
def grids(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """Walls inside a closed border, a start and a goal on different free cells, connected or not."""
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(2, 8))
    inside = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    walls = np.ones((rows + 2, columns + 2), bool)
    walls[1:-1, 1:-1] = np.reshape(inside, (rows, columns))
    cells = st.tuples(st.integers(1, rows), st.integers(1, columns))
    start, goal = draw(st.tuples(cells, cells).filter(lambda pair: pair[0] != pair[1]))
    walls[start] = walls[goal] = False
    return walls, start, goal


def text_of(walls: np.ndarray, start: tuple[int, int], goal: tuple[int, int], separator: str) -> str:
    symbols = np.where(walls, "#", ".")
    symbols[start], symbols[goal] = "R", "G"
    return separator.join("".join(row) for row in symbols)


@given(grids(), st.sampled_from(["/", "\n", "\r\n", " \n\n "]))
def test_any_grid_is_accepted_exactly_when_its_goal_is_connected(
    grid: tuple[np.ndarray, tuple[int, int], tuple[int, int]], separator: str
) -> None:
    walls, start, goal = grid
    regions, _ = label(~walls)
    text = text_of(*grid, separator)
    if regions[start] != regions[goal]:
        with pytest.raises(ConfigError, match=rf"cannot reach: row {goal[0] + 1}, column {goal[1] + 1}\."):
            parse_maze(text, "random")
        return
    maze = parse_maze(text, "random")
    assert maze.shape() == walls.shape
    np.testing.assert_array_equal(maze.walls(), walls)
    np.testing.assert_array_equal(maze.cells("R"), [start])
    np.testing.assert_array_equal(maze.cells("G"), [goal])
    np.testing.assert_array_equal(maze.steps_from_start(), shortest_paths(walls, start))
    np.testing.assert_array_equal(maze.reachable_cells(), np.argwhere(regions == regions[start]))


@given(grids(), st.floats(0.5, 8.0))
def test_wall_boxes_cover_the_wall_cells(
    grid: tuple[np.ndarray, tuple[int, int], tuple[int, int]], cell_size: float
) -> None:
    walls, start, goal = grid
    walls = walls.copy()
    walls[1:-1, 1:-1] = False  # connected, whatever was drawn
    boxes = parse_maze(text_of(walls, start, goal, "/"), "random").wall_boxes(cell_size)
    assert len(boxes) == walls.sum()
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], cell_size)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(centers, np.argwhere(walls) * cell_size)


def test_the_view_from_above_and_what_is_connected() -> None:
    maze = parse_maze("#######/#R.#.G#/###...#/#.#.#.#/#.#...#/#######".replace("R.#.G", "R...G"), "mine")
    view = maze.top_view(3.0)
    assert (view.low, view.high) == ((-1.5, -1.5), (16.5, 19.5))
    np.testing.assert_array_equal(view.walls, maze.wall_boxes(3.0))
    connected = maze.steps_from_start() >= 0
    assert connected.sum() < (~maze.walls()).sum(), "some free cells are cut off"
    start = jnp.array([3.0, 3.0])
    for (i, j), known in np.ndenumerate(connected):
        for offset in (-1.4, 0.0, 1.4):
            place = jnp.array([3.0 * i + offset, 3.0 * j - offset])
            assert bool(maze.connects(3.0, start, place)) == known
            assert bool(maze.connects(3.0, place, start)) == known
    for outside in ([-9.0, 3.0], [3.0, -9.0], [3.0, 99.0], [99.0, 3.0], [jnp.nan, 3.0]):
        assert not bool(maze.connects(3.0, start, jnp.array(outside)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        (" \n / \n", "is empty"),
        ("####/#RX#/####", "has 'X' in row 2, column 3"),
        ("#####/#R G#/#####", "has ' ' in row 2, column 3"),
        ("####/#RG#/###", "ragged: row 3 has 3 cells, row 1 has 4"),
        ("####/#RG./####", "open at its border"),
        ("#.##/#RG#/####", "open at its border"),
        ("####/#RG#/##G#", "open at its border"),
        ("####/RRG#/####", "open at its border"),
        ("####/#.G#/####", "has 0 start cells"),
        ("#####/#RGR#/#####", "has 2 start cells"),
        ("####/#R.#/####", "has no goal"),
        ("#####/#R#G#/#####", "start cannot reach: row 2, column 4"),
        ("######/#RG#G#/######", "start cannot reach: row 2, column 5"),
        ("#" * (MAX_CELLS + 1), "more than 1000000 cells"),
    ],
)
def test_what_is_wrong_with_a_layout_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_maze(text, "mine")
    assert caught.value.message.startswith("The layout mine ")
    assert complaint in caught.value.message
    assert caught.value.mend


def test_a_layout_may_be_as_large_as_the_limit() -> None:
    columns = MAX_CELLS // 4
    wall, lane = "#" * columns, "." * (columns - 2)
    text = "\n".join([wall, f"#R{lane[1:]}#", f"#{lane[1:]}G#", wall])
    assert parse_maze(text, "large").steps_from_start()[2, columns - 2] == columns - 2


def test_a_file_is_read_and_named_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("#####\n#R.G#\n#####\n", encoding="utf-8")
    maze = find_maze(str(path))
    assert maze.rows == ("#####", "#R.G#", "#####")
    assert maze.name == str(path)
    path.write_text("#####\n#R..#\n#####\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.txt has no goal"):
        find_maze(str(path))


def test_a_file_under_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("####\n#RG#\n####\n", encoding="utf-8")
    assert find_maze("~/mine.txt").shape() == (3, 4)


def test_a_missing_layout_gets_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no layout 'hardset'.*\n.*Did you mean 'hardest'\?"):
        find_maze("hardset")
    with pytest.raises(ConfigError, match="neither a built-in one nor a file"):
        find_maze(str(tmp_path / "absent.txt"))
    with pytest.raises(ConfigError, match="neither a built-in one nor a file"):
        find_maze(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["maze" * 3000, "~nobody-by-this-name/mine.txt", "a\0b", ""],
    ids=["too long", "no such user", "null byte", "nothing"],
)
def test_a_name_that_no_file_can_have_is_a_missing_layout(name: str) -> None:
    with pytest.raises(ConfigError, match="There is no layout"):
        find_maze(name)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(b"####\n#\xff\xfe#\n####")
    with pytest.raises(ConfigError, match=r"layout file .*mine\.txt cannot be read"):
        find_maze(str(path))


def test_a_layout_may_be_given_as_text_and_a_file_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("#####\n#R.G#\n#####\n")
    assert self_contained(str(path)) == "#####/#R.G#/#####"
    assert find_maze(self_contained(str(path))).rows == find_maze(str(path)).rows
    assert self_contained("big") == "big"
    with pytest.raises(ConfigError, match="given as text has 0 start cells"):
        find_maze("#####/#..G#/#####")
