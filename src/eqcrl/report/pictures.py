"""Pictures and films as text of the page itself, within a limit that says what was left out."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from matplotlib.figure import Figure
from PIL import Image

from eqcrl.errors import EqcrlError
from eqcrl.plots.style import house_style
from eqcrl.report.collect import RunRecord, Trouble

SVG_LIMIT = 150_000
"""Bytes up to which a figure is embedded as vectors; beyond, as PNG if that is smaller."""
MIME = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class Picture:
    """Something to look at: `source` is a data URI, `still` one of the first frame of a film that plays by itself."""

    source: str
    alt: str
    caption: str = ""
    kind: Literal["image", "film", "video"] = "image"
    still: str = ""


@dataclass(frozen=True)
class Absent:
    """Why there is no picture."""

    reason: str


def data_uri(content: bytes, suffix: str) -> str:
    """The content as an address that holds it."""
    return f"data:{MIME[suffix]};base64,{base64.b64encode(content).decode('ascii')}"


def draw(function: Callable[[Path], Figure], alt: str, caption: str = "") -> Picture | Absent:
    """What a function of `eqcrl.plots` draws, as vectors or pixels, whichever is small enough.

    What cannot be drawn of these runs is no error of the report: the message stands in its place.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        try:
            figure = function(path)
        except EqcrlError as error:
            return Absent(str(error))
        content, suffix = path.read_bytes(), ".svg"
        if len(content) > SVG_LIMIT:
            pixels = io.BytesIO()
            with house_style():
                figure.savefig(pixels, format="png")
            if len(pixels.getvalue()) < len(content):
                content, suffix = pixels.getvalue(), ".png"
    return Picture(data_uri(content, suffix), alt, caption)


def embedded(path: Path, alt: str, caption: str = "") -> Picture | Absent:
    """A figure that lies on the disk already, whatever its size."""
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
    except OSError as error:
        return Absent(f"{path} cannot be read: {error.strerror or error}.")
    if suffix not in (".png", ".svg") or not _is_whole(content, suffix):
        return Absent(f"{path} is no PNG or SVG file.")
    return Picture(data_uri(content, suffix), alt, caption)


class Album:
    """Takes files into the page until `limit` bytes are taken; the rest is noted in `troubles`."""

    def __init__(self, limit: int, troubles: list[Trouble]) -> None:
        self.limit = limit
        self.troubles = troubles
        self.taken = 0

    def take(self, path: Path, alt: str, caption: str = "") -> Picture | None:
        """The file as a picture, or None if it is broken or does not fit, which is noted."""
        suffix = path.suffix.lower()
        try:
            size = path.stat().st_size
            if self.taken + size > self.limit:
                rest = f"of the {megabytes(self.limit)} for pictures and films {megabytes(self.taken)} were taken"
                self._note(path, "left out", f"It has {megabytes(size)}, and {rest} (--media-limit).")
                return None
            content = path.read_bytes()
        except OSError as error:
            self._note(path, "broken", f"It cannot be read: {error.strerror or error}.")
            return None
        if not _is_whole(content, suffix):
            self._note(path, "broken", f"It is no {suffix[1:].upper()} file.")
            return None
        self.taken += size
        if suffix == ".mp4":
            return Picture(data_uri(content, suffix), alt, caption, "video")
        still = _first_frame(content) if suffix == ".gif" else ""
        return Picture(data_uri(content, suffix), alt, caption, "film" if suffix == ".gif" else "image", still)

    def _note(self, path: Path, kind: Literal["left out", "broken"], reason: str) -> None:
        self.troubles.append(Trouble(str(path), kind, reason))


def megabytes(size: int) -> str:
    """Such as `1.5 MB`."""
    return f"{size / 1e6:.3g} MB"


def _is_whole(content: bytes, suffix: str) -> bool:
    """Whether the file is of its format and goes to its end: a process may have died while it wrote."""
    if suffix == ".mp4":
        kinds = _boxes(content)
        return kinds[:1] == [b"ftyp"] and b"moov" in kinds
    if suffix == ".svg":
        return b"<svg" in content and content.rstrip().endswith(b"</svg>")
    if suffix == ".gif" and not content.endswith(b";"):
        return False
    try:
        with Image.open(io.BytesIO(content), formats=[suffix[1:].upper()]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def _boxes(content: bytes) -> list[bytes]:
    """Kinds of the boxes that an MP4 file is made of (ISO/IEC 14496-12, section 4.2); none if they do not fill it."""
    kinds, at = [], 0
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        if size == 1:  # the size is a 64-bit number after the kind
            size = int.from_bytes(content[at + 8 : at + 16])
        kinds.append(kind)
        at = len(content) if size == 0 else at + max(size, 8)
    return kinds if at == len(content) else []


def _first_frame(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as image:
        frame = io.BytesIO()
        image.convert("RGB").save(frame, format="PNG", optimize=True)
    return data_uri(frame.getvalue(), ".png")


def files_of(run: RunRecord) -> tuple[list[Path], list[Path]]:
    """What the run left to look at: pictures and films of its policy, and other figures such as its learning curve."""
    figures = [run.path / "figures" / name for name in ("trajectories.png", "stills.png")]
    films = sorted(p for p in (run.path / "videos").glob("*") if p.suffix.lower() in (".gif", ".mp4"))
    policy = [p for p in figures if p.is_file()] + films
    others = sorted(p for p in (run.path / "figures").glob("*.png") if p not in policy)
    return policy, others
