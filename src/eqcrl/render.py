"""Evaluated episodes as a short film or a strip of stills: the maze from above, one panel an episode."""

import contextlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from eqcrl.envs.base import TopView
from eqcrl.errors import RunError, UsageError
from eqcrl.evaluate import Episodes
from eqcrl.plots.output import atomic, check_suffix
from eqcrl.plots.plane import Plane, plane_of
from eqcrl.plots.stage import Stage

FILM_SUFFIXES = (".gif", ".mp4")
LINGER = 1.0
"""Seconds that the film goes on after the last of its episodes has reached the goal."""
HOLD = 1.0
"""Seconds for which the last frame stays."""


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
    suffix = check_suffix(path, FILM_SUFFIXES, "film")
    if not 1 <= fps <= 50:
        raise UsageError(f"fps = {fps} frames per second is not possible.", mend="Use 1 to 50; a GIF knows no more.")
    plane = plane_of(episodes, top_view, success_radius)
    chosen = _choose(plane, shown)
    steps = film_steps(plane, chosen, fps=fps, max_seconds=max_seconds)
    stage = Stage(plane, chosen, columns=_columns(plane, len(chosen)), width=width)
    with atomic(path) as temporary:
        if suffix == ".gif":
            _write_gif(stage, steps, temporary, fps)
        else:
            _write_mp4(stage, steps, temporary, fps, path)
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


def film_steps(plane: Plane, chosen: Sequence[int], *, fps: int, max_seconds: float) -> list[int]:
    """The steps that the film shows: from 0 until `LINGER` after the last first success, or to the end if any
    episode fails; every k-th if these are more than `fps * max_seconds`."""
    held = plane.at_goal[:, list(chosen)]
    last = plane.steps()
    if held.any(axis=0).all():
        last = min(last, int(held.argmax(axis=0).max()) + round(LINGER * fps))
    stride = max(1, int(np.ceil((last + 1) / max(fps * max_seconds, 1))))
    steps = list(range(0, last + 1, stride))
    return steps if steps[-1] == last else [*steps, last]


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


def _write_gif(stage: Stage, steps: list[int], path: Path, fps: int) -> None:
    """One palette for all frames, from a middle and a last one.

    Without it each frame would bring its own, which is slow, large and flickers.
    """
    samples = np.concatenate([stage.frame(steps[len(steps) // 2]), stage.frame(steps[-1])])
    palette = Image.fromarray(samples).quantize(128, dither=Image.Dither.NONE)
    frames = (Image.fromarray(stage.frame(t)).quantize(palette=palette, dither=Image.Dither.NONE) for t in steps)
    wait = round(100 / fps) * 10  # ms; GIF counts in hundredths of a second
    durations = [wait] * (len(steps) - 1) + [round(HOLD * 1000)]
    first = next(frames)
    first.save(path, format="GIF", save_all=True, append_images=frames, duration=durations, loop=0, disposal=1)


def _write_mp4(stage: Stage, steps: list[int], path: Path, fps: int, final: Path) -> None:
    """Frames through a pipe to ffmpeg.

    Not `imageio_ffmpeg.write_frames`: it runs Python in a forked child, which may hang beside JAX's threads, and
    hides ffmpeg's exit status.
    """
    height, width = stage.size.tolist()
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -".split()
    target = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    mend = "A .gif needs no encoder."
    try:
        with tempfile.TemporaryFile() as said:
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *source, *target, str(path)]
            # A session of its own, so that Ctrl-C ends this program first and not the film in the middle.
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            ) as encoder:
                assert encoder.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # it gave up; its status and last words follow
                    for t in [*steps, *[steps[-1]] * round(HOLD * fps)]:
                        encoder.stdin.write(np.ascontiguousarray(stage.frame(t)).data)
                    encoder.stdin.close()
            said.seek(0)
            words = said.read().decode(errors="replace").strip()
    except (RuntimeError, OSError) as error:
        raise RunError(f"{final} cannot be written, ffmpeg does not start: {error}", mend=mend) from error
    if encoder.returncode != 0:
        raise RunError(f"{final} cannot be written, ffmpeg ended with {encoder.returncode}: {words}", mend=mend)
