"""A disk that runs full, and files that are not what was written."""

import random
import shutil
import subprocess
from pathlib import Path

from benchmarks.faults import runs
from benchmarks.faults.runs import Result
from eqcrl import checkpoint

UNROLLS = 40
LONGER = 55


def finished(place: Path) -> tuple[Path, Path]:
    """A run of 40 unrolls, and the same one continued to 55."""
    path = place / "short"
    runs.must_finish(path, UNROLLS)
    longer = runs.copied(path, "longer")
    _extend(longer)
    return path, longer


def _extend(path: Path) -> subprocess.CompletedProcess[str]:
    total = LONGER * runs.ENV_STEPS_PER_UNROLL
    args = runs.command("train", "--resume", path, "--train.total-env-steps", total, "--quiet")
    return subprocess.run(args, capture_output=True, text=True, check=False, timeout=1800)


def full(place: Path, short: Path, longer: Path, times: int, rng: random.Random) -> Result:
    """A small file system with room for a random part of what is to be written."""
    result, disk = Result("disk runs full while saving"), place / "disk"
    disk.mkdir()
    size = sum(file.stat().st_size for file in short.rglob("*") if file.is_file())
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={4 * size}", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        result.lost = f"not tried: {mount.stderr.strip()}"
        return result
    try:
        for _ in range(times):
            for inner in disk.iterdir():
                shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
            path = Path(shutil.copytree(short, disk / "run"))
            before = runs.newest(path)
            free = shutil.disk_usage(disk).free
            left = rng.randrange(4096, checkpoint_bytes(path) * 2)
            (disk / "ballast").write_bytes(b"\0" * max(free - left, 0))
            done = _extend(path)
            (disk / "ballast").unlink()
            if done.returncode == 0:
                continue  # there was room enough
            result.tried += 1
            clear = "No space left on device" in done.stderr and "Traceback" not in done.stderr
            kept = runs.newest(path) >= before
            again = _extend(path)
            if done.returncode == 1 and clear and kept and again.returncode == 0 and runs.same(path, longer):
                result.recovered += 1
            else:
                result.notes.append(done.stderr + again.stderr)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
    result.lost = "what was learned since the last complete checkpoint, which the message names"
    return result


def checkpoint_bytes(path: Path) -> int:
    """What the newest checkpoint takes."""
    return sum(file.stat().st_size for file in checkpoint.latest(path / "checkpoints").iterdir())


def damaged(place: Path, short: Path, longer: Path, how: str, times: int, rng: random.Random) -> Result:
    """The newest checkpoint is not what was written; it is refused, and the one before is whole."""
    result = Result(f"newest checkpoint {how}")
    for _ in range(times):
        path = runs.copied(short, "damaged")
        newest = checkpoint.latest(path / "checkpoints")
        file = rng.choice(sorted(newest.iterdir()))
        content = bytearray(file.read_bytes())
        place_of = rng.randrange(len(content))
        if how == "with a flipped byte":
            content[place_of] ^= rng.randrange(1, 256)
        elif how == "cut short":
            del content[place_of:]
        else:  # what a file system may leave of a file that was not flushed
            content[place_of:] = bytes(len(content) - place_of)
        file.write_bytes(content)
        result.tried += 1
        done = _extend(path)
        if done.returncode == 0:
            # Spaces and names in a manifest may change without consequence.
            result.recovered += runs.same(path, longer)
            continue
        clear = done.returncode == 1 and str(newest) in done.stderr and "Traceback" not in done.stderr
        shutil.rmtree(newest)
        again = _extend(path)
        if clear and again.returncode == 0 and runs.same(path, longer):
            result.recovered += 1
        else:
            result.notes.append(f"{file.name} at {place_of}: {done.stderr}{again.stderr}")
    result.lost = "the newest checkpoint; the message says so, and from the one before it is the same run to the bit"
    return result
