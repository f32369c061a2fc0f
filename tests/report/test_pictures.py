"""Pictures in the page: whole ones, up to the limit, and a word about the others."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from eqcrl.errors import UsageError
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import new_figure
from eqcrl.report import pictures
from eqcrl.report.collect import Trouble, collect
from eqcrl.report.pictures import Absent, Album, Picture, draw, embedded, files_of
from eqcrl.video import write_film
from report.runs import add_pictures, gif, make_run, png


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def mp4(folder: Path) -> bytes:
    """A small film, by the encoder of eqcrl."""
    path = folder.parent / "film.mp4"
    write_film(path, lambda t: np.full((32, 32, 3), 80 * t, np.uint8), range(3), fps=5.0)
    return path.read_bytes()


def test_files_go_into_the_page_as_they_are(tmp_path: Path) -> None:
    troubles: list[Trouble] = []
    album = Album(10**6, troubles)
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.GIF").write_bytes(gif())
    (tmp_path / "c.mp4").write_bytes(mp4(tmp_path))
    kinds = {}
    for path in sorted(tmp_path.iterdir()):
        picture = album.take(path, "alt", "caption")
        assert picture is not None
        assert content(picture.source) == path.read_bytes()
        kinds[picture.kind] = picture.source.partition(";")[0]
        assert bool(picture.still) == (picture.kind == "film")
    assert kinds == {"image": "data:image/png", "film": "data:image/gif", "video": "data:video/mp4"}
    assert album.taken == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert not troubles


def test_a_film_has_its_first_frame_for_those_who_want_no_motion(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(gif())
    picture = Album(10**6, []).take(tmp_path / "a.gif", "alt")
    assert picture is not None
    with Image.open(io.BytesIO(content(picture.still))) as still:
        assert (still.format, still.size, still.getpixel((5, 5))) == ("PNG", (40, 30), (0, 0, 0))


def test_beyond_the_limit_it_is_said_and_what_fits_still_comes(tmp_path: Path) -> None:
    troubles: list[Trouble] = []
    big, small = tmp_path / "big.png", tmp_path / "small.png"
    big.write_bytes(png() + bytes(5000))
    small.write_bytes(png())
    album = Album(1000, troubles)
    assert album.take(big, "") is None
    assert album.take(small, "") is not None
    ((where, kind, reason),) = [(t.where, t.kind, t.reason) for t in troubles]
    assert (where, kind) == (str(big), "left out")
    assert "--media-limit" in reason
    assert "0.001 MB" in reason


@pytest.mark.parametrize("suffix", [".png", ".gif", ".mp4"])
def test_broken_files_are_left_out_and_told(tmp_path: Path, suffix: str) -> None:
    troubles: list[Trouble] = []
    album = Album(10**6, troubles)
    whole = {".png": png(), ".gif": gif(), ".mp4": mp4(tmp_path)}[suffix]
    for name, held in (("text", b"<html>"), ("cut", whole[: len(whole) // 2]), ("empty", b"")):
        (tmp_path / f"{name}{suffix}").write_bytes(held)
        assert album.take(tmp_path / f"{name}{suffix}", "") is None
    assert album.take(tmp_path / f"gone{suffix}", "") is None
    assert [t.kind for t in troubles] == ["broken"] * 4
    assert album.taken == 0


def blank(path: Path) -> Figure:
    figure = new_figure(2, 1)
    figure.add_subplot()
    save_figure(figure, path)
    return figure


def test_figures_are_vectors_while_they_are_small_and_pixels_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = draw(blank, "alt", "caption")
    assert isinstance(vectors, Picture)
    assert (vectors.alt, vectors.caption) == ("alt", "caption")
    assert vectors.source.startswith("data:image/svg+xml;")
    assert b"<svg" in content(vectors.source)
    monkeypatch.setattr(pictures, "SVG_LIMIT", 100)
    pixels = draw(blank, "alt")
    assert isinstance(pixels, Picture)
    with Image.open(io.BytesIO(content(pixels.source))) as image:
        assert (image.format, image.size) == ("PNG", (300, 150))


def test_what_cannot_be_drawn_leaves_its_message() -> None:
    def fails(path: Path) -> Figure:
        raise UsageError("Nothing to draw.", mend="Wait.")

    absent = draw(fails, "alt")
    assert absent == Absent("Nothing to draw.\n  Wait.")


def test_figures_from_the_disk(tmp_path: Path) -> None:
    blank(tmp_path / "a.svg")
    (tmp_path / "b.png").write_bytes(png())
    (tmp_path / "c.png").write_bytes(b"no")
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    found = [embedded(tmp_path / name, "alt") for name in ("a.svg", "b.png", "c.png", "d.pdf", "e.png")]
    assert [type(p) for p in found] == [Picture, Picture, Absent, Absent, Absent]


def test_what_a_run_left(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (run,) = collect([path]).runs()
    assert files_of(run) == ([], [])
    add_pictures(path)
    (path / "videos" / "notes.txt").touch()
    assert files_of(run) == (
        [path / "figures" / "trajectories.png", path / "videos" / "policy.gif"],
        [path / "figures" / "learning_curve.png"],
    )
