"""Films on the disk: frames to a GIF or through ffmpeg, and which moments of some episodes a film shows."""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from eqcrl.errors import RunError
from eqcrl.files import atomic

FILM_SUFFIXES = (".gif", ".mp4")
LINGER = 1.0
"""Seconds that the film goes on after the last of its episodes has reached the goal."""
HOLD = 1.0
"""Seconds for which the last frame stays."""

Draw = Callable[[int], UInt8[np.ndarray, "height width 3"]]
"""Moment -> picture; width and height are even, as video needs. Asked for in any order."""


def shown_moments(
    at_goal: Bool[np.ndarray, "moments episodes"], *, rate: float, max_seconds: float, every: int = 1
) -> list[int]:
    """The moments that a film shows, evenly spaced, and at last the last.

    From 0 until `LINGER` after the last first success, or to the end if any episode fails; `rate` is how many
    moments pass in a second. Each `every`-th is shown, or a multiple of that so that they are played, `rate / every`
    in a second, within `max_seconds`.
    """
    last = len(at_goal) - 1
    if at_goal.any(axis=0).all():
        last = min(last, int(at_goal.argmax(axis=0).max()) + round(LINGER * rate))
    stride = every * max(1, int(np.ceil((last + 1) / max(rate * max_seconds, 1))))
    moments = list(range(0, last + 1, stride))
    return moments if moments[-1] == last else [*moments, last]


def write_film(path: Path, draw: Draw, moments: Sequence[int], *, fps: float) -> None:
    """Write the pictures of these moments to `path` (.gif or .mp4); the last one stays for `HOLD`.

    Raises: RunError if the disk refuses or there is no encoder; an earlier film is then intact.
    """
    with atomic(path) as temporary:
        if path.suffix.lower() == ".gif":
            _write_gif(temporary, draw, moments, fps)
        else:
            _write_mp4(temporary, draw, moments, fps, path)


def _write_gif(path: Path, draw: Draw, moments: Sequence[int], fps: float) -> None:
    """One palette for all frames, from a middle and a last one.

    Without it each frame would bring its own, which is slow, large and flickers.
    """
    samples = np.concatenate([draw(moments[len(moments) // 2]), draw(moments[-1])])
    palette = Image.fromarray(samples).quantize(128, dither=Image.Dither.NONE)
    frames = (Image.fromarray(draw(t)).quantize(palette=palette, dither=Image.Dither.NONE) for t in moments)
    wait = round(100 / fps) * 10  # ms; GIF counts in hundredths of a second
    durations = [wait] * (len(moments) - 1) + [round(HOLD * 1000)]
    first = next(frames)
    first.save(path, format="GIF", save_all=True, append_images=frames, duration=durations, loop=0, disposal=1)


def _write_mp4(path: Path, draw: Draw, moments: Sequence[int], fps: float, final: Path) -> None:
    """Frames through a pipe to ffmpeg.

    Not `imageio_ffmpeg.write_frames`: it runs Python in a forked child, which may hang beside JAX's threads, and
    hides ffmpeg's exit status.
    """
    height, width, _ = draw(moments[0]).shape
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps:g} -i -".split()
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
                    frame = b""
                    for t in moments:
                        frame = np.ascontiguousarray(draw(t)).tobytes()
                        encoder.stdin.write(frame)
                    for _ in range(round(HOLD * fps)):
                        encoder.stdin.write(frame)
                    encoder.stdin.close()
            said.seek(0)
            words = said.read().decode(errors="replace").strip()
    except (RuntimeError, OSError) as error:
        raise RunError(f"{final} cannot be written, ffmpeg does not start: {error}", mend=mend) from error
    if encoder.returncode != 0:
        raise RunError(f"{final} cannot be written, ffmpeg ended with {encoder.returncode}: {words}", mend=mend)
