"""What holds for every picture, whatever it shows."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image


def words(figure: Figure) -> Iterator[Text]:
    """Every text that is seen. Axes hold labels of ticks beyond their ends, which are not."""
    yield from (text for text in figure.findobj(Text, include_self=False) if _of_figure(figure, text))
    for axes in [axes for parent in figure.axes for axes in (parent, *parent.child_axes)]:
        yield from (axes.title, axes._left_title, axes._right_title, axes.xaxis.label, axes.yaxis.label, *axes.texts)  # type: ignore[attr-defined]
        yield from _tick_labels(axes)


def _of_figure(figure: Figure, text: Text) -> bool:
    of_legends = [t for legend in figure.legends for t in legend.get_texts()]
    return text in [*of_legends, *figure.texts, figure._suptitle]  # type: ignore[attr-defined]


def _tick_labels(axes: Axes) -> Iterator[Text]:
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        room = 1e-6 * (high - low)
        for tick in axis.get_major_ticks():
            if low - room <= tick.get_loc() <= high + room:
                yield tick.label1


def assert_whole(figure: Figure, path: Path) -> None:
    """The picture is as large as it was asked to be, every word is inside of it, and none lies over another."""
    width, height = Image.open(path).size
    assert abs(width - 150 * figure.get_size_inches()[0]) <= 1
    assert abs(height - 150 * figure.get_size_inches()[1]) <= 1
    boxes = [(t.get_text(), t.get_window_extent()) for t in words(figure) if t.get_visible() and t.get_text().strip()]
    assert boxes
    for text, box in boxes:
        assert figure.bbox.x0 - 1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1, text
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1), (one, other)
