"""Frames of episodes in motion, drawn straight into pixels: what stands still is drawn once."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from eqcrl.plots.plane import Plane
from eqcrl.plots.style import BLACK, BLUE, FREE, GREEN, INK, WALL, rgb

OVERSAMPLING = 2
"""Everything is drawn at this multiple and averaged down: smooth edges without a vector renderer."""
TAIL = 20
"""Steps of bright trail behind the agent; what is older stays pale."""
GAP = 8
MIN_PANEL = 120


def _blend(color: str, share: float) -> tuple[int, int, int]:
    """The color mixed with that share of the free ground."""
    mixed = (1 - share) * np.array(rgb(color)) + share * np.array(rgb(FREE))
    red, green, blue = mixed.round().astype(int).tolist()
    return red, green, blue


class Stage:
    """A grid of panels, one episode each, under a caption with step and state.

    `frame(t)` is the picture after t steps, about `width` pixels wide (even numbers, as video needs).
    """

    def __init__(self, plane: Plane, chosen: Sequence[int], *, columns: int, width: int) -> None:
        self.plane = plane
        self.chosen = list(chosen)
        self.columns = columns
        rows = -(-len(self.chosen) // columns)
        extent = np.maximum(plane.high - plane.low, 1e-9)
        panel_width = max((width - GAP) // columns - GAP, MIN_PANEL)
        self.scale = min(panel_width / extent[1], 4 * panel_width / extent[0])
        """Pixels per unit of the goal."""
        self.panel = np.maximum(np.round(extent * self.scale).astype(int), 8)
        """Height and width of a panel in pixels."""
        self.font_size = int(np.clip(panel_width / 15, 11, 18))
        self.caption = self.font_size + 8
        self.pitch = self.panel + np.array([self.caption + GAP, GAP])
        """Rows and columns of pixels from one panel to the next."""
        size = np.array([rows, columns]) * self.pitch + GAP
        self.size = size + size % 2
        """Height and width of a frame in pixels."""
        self.font = ImageFont.truetype(
            str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), self.font_size * OVERSAMPLING
        )
        self._still = Image.new("RGB", tuple((self.size * OVERSAMPLING)[::-1].tolist()), rgb(FREE))
        self._caption_form = self._fitting_caption()
        self._pale = 0
        """Steps whose pale trail is on the still picture already."""
        for panel in range(len(self.chosen)):
            self._draw_ground(panel)
        self._ground = self._still.copy()

    def pixel(self, panel: int, point: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Row and column in the frame of points of the plane (first coordinate down, second right)."""
        return self._corner(panel) + (np.asarray(point) - self.plane.low) * self.scale

    def frame(self, t: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture after t steps. Fastest with increasing t."""
        if t < self._pale:
            self._still, self._pale = self._ground.copy(), 0
        self._lengthen_trails(t)
        picture = self._still.copy()
        draw = ImageDraw.Draw(picture)
        for panel, episode in enumerate(self.chosen):
            self._draw_actor(draw, panel, episode, t)
        return np.asarray(picture.reduce(OVERSAMPLING))

    def _corner(self, panel: int) -> np.ndarray:
        """Row and column of the panel's upper left pixel."""
        return np.array(divmod(panel, self.columns)) * self.pitch + np.array([GAP + self.caption, GAP])

    def _points(self, panel: int, points: np.ndarray) -> list[tuple[float, float]]:
        """Points as PIL wants them: x and y on the oversampled picture."""
        return [(x, y) for y, x in (self.pixel(panel, points) * OVERSAMPLING).reshape(-1, 2).tolist()]

    def _radius(self, minimum: float) -> float:
        return max(minimum, 0.012 * float(self.panel.max())) * OVERSAMPLING

    def _draw_ground(self, panel: int) -> None:
        """Walls, goal and its radius, start."""
        ground = Image.new("RGB", tuple((self.panel * OVERSAMPLING)[::-1].tolist()), rgb(FREE))
        draw = ImageDraw.Draw(ground)
        scale = self.scale * OVERSAMPLING

        def local(point: np.ndarray) -> tuple[float, float]:
            y, x = ((point - self.plane.low) * scale).tolist()
            return x, y

        for wall in self.plane.walls:
            (left, top), (right, bottom) = local(wall[:2]), local(wall[2:])
            draw.rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=rgb(WALL))
        episode = self.chosen[panel]
        if np.isfinite(self.plane.goals[episode]).all():
            x, y = local(self.plane.goals[episode])
            radius = self.plane.success_radius * scale
            mask = Image.new("L", ground.size, 0)
            ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=70)
            ground.paste(rgb(GREEN), mask=mask)
            line = round(1.5 * OVERSAMPLING)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=rgb(GREEN), width=line)
            arm = self._radius(3.0)
            draw.line((x - arm, y, x + arm, y), fill=rgb(GREEN), width=line)
            draw.line((x, y - arm, x, y + arm), fill=rgb(GREEN), width=line)
        if np.isfinite(self.plane.paths[0, episode]).all():
            x, y = local(self.plane.paths[0, episode])
            arm = self._radius(2.5)
            draw.rectangle((x - arm, y - arm, x + arm, y + arm), fill="white", outline=rgb(BLACK), width=OVERSAMPLING)
        row, column = (self._corner(panel) * OVERSAMPLING).tolist()
        self._still.paste(ground, (column, row))
        ImageDraw.Draw(self._still).rectangle(
            (column, row, column + ground.width - 1, row + ground.height - 1),
            outline=rgb(WALL),
            width=OVERSAMPLING,
        )

    def _lengthen_trails(self, t: int) -> None:
        draw = ImageDraw.Draw(self._still)
        for panel, episode in enumerate(self.chosen):
            path = self.plane.paths[self._pale : t + 1, episode]
            path = path[np.isfinite(path).all(axis=1)]
            if len(path) > 1:
                draw.line(self._points(panel, path), fill=_blend(BLUE, 0.65), width=2 * OVERSAMPLING, joint="curve")
        self._pale = t

    def _draw_actor(self, draw: ImageDraw.ImageDraw, panel: int, episode: int, t: int) -> None:
        """Trail, dot and caption. At the goal the dot becomes a larger ring around a white core."""
        plane = self.plane
        path = plane.paths[max(t - TAIL, 0) : t + 1, episode]
        path = path[np.isfinite(path).all(axis=1)]
        points = self._points(panel, path)
        for i, (start, end) in enumerate(pairwise(points)):
            share = 0.6 * (1 - (i + 1) / max(len(points) - 1, 1))
            draw.line((*start, *end), fill=_blend(BLUE, share), width=3 * OVERSAMPLING)
        at_goal = bool(plane.at_goal[t, episode])
        if points:
            x, y = points[-1]
            radius = self._radius(4.0) * (1.5 if at_goal else 1.0)
            color = rgb(GREEN) if at_goal else rgb(BLUE)
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius),
                fill=color,
                outline="white",
                width=OVERSAMPLING,
            )
            if at_goal:
                core = 0.45 * radius
                draw.ellipse((x - core, y - core, x + core, y + core), fill="white")
        self._write_caption(draw, panel, episode, t)

    def _fitting_caption(self) -> str:
        """The longest form of the caption that leaves room for the state at every step in every panel."""
        plane = self.plane
        room = float(self.panel[1]) * OVERSAMPLING - self.font.getlength(f"was there at {plane.steps()}")
        widest = {"episode": max(self.chosen), "t": plane.steps()}
        forms = ("episode {episode}, step {t}", "#{episode}, step {t}", "#{episode}: {t}", "{t}")
        fitting = (f for f in forms if self.font.getlength(f.format(**widest)) + self.font.getlength("  ") <= room)
        return next(fitting, forms[-1])

    def _write_caption(self, draw: ImageDraw.ImageDraw, panel: int, episode: int, t: int) -> None:
        held = self.plane.at_goal[: t + 1, episode]
        state = "at the goal" if held[t] else f"was there at {int(held.argmax())}" if held.any() else ""
        row, column = (self._corner(panel) * OVERSAMPLING).tolist()
        width = int(self.panel[1]) * OVERSAMPLING
        text = self._caption_form.format(episode=episode, t=t)
        middle = row - self.caption * OVERSAMPLING / 2
        draw.text((column, middle), text, fill=rgb(INK), font=self.font, anchor="lm")
        draw.text((column + width, middle), state, fill=rgb(GREEN), font=self.font, anchor="rm")
