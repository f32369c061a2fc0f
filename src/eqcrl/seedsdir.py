"""A folder of runs that differ in nothing but their seeds: DIR/seed<k>/, each an ordinary run directory."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqcrl.config import RESUMABLE, Config, difference
from eqcrl.errors import ConfigError, UsageError
from eqcrl.rundir import RunDir, default_path

NAME = re.compile(r"seed(0|[1-9]\d*)")
LARGEST = 2**32 - 1


def seed_range(first: int, count: int) -> range:
    """The seeds `first` to `first + count - 1`. Raises: ConfigError for fewer than one, or one beyond 2^32 - 1."""
    if count < 1:
        raise ConfigError(f"{count} seeds are none.", mend="Ask for at least one.")
    last = first + count - 1
    if last > LARGEST:
        raise ConfigError(
            f"{count} seeds from seed = {first} on end at {last}, beyond 2^32 - 1 = {LARGEST}.",
            mend="Lower seed or the number of seeds.",
        )
    return range(first, last + 1)


def default_folder(config: Config, seeds: range) -> Path:
    """`runs/<time>_<env>_<arch>_seeds<first>-<last>`."""
    path = default_path(config)
    return path.with_name(f"{path.name.rpartition('_')[0]}_seeds{seeds[0]}-{seeds[-1]}")


def seeds_in(path: str | Path) -> list[int]:
    """Seeds of the runs in a folder, ascending; none in a run directory, or where there is no folder."""
    folder = Path(path)
    if not folder.is_dir() or (folder / "config.toml").exists():
        return []
    names = (NAME.fullmatch(inner.name) for inner in folder.iterdir() if (inner / "config.toml").is_file())
    return sorted(int(name[1]) for name in names if name)


def recorded_at(path: str | Path) -> Config:
    """The configuration of the run in a directory, or of the first seed in a folder of them.

    Raises: UsageError, RunError, ConfigError.
    """
    seeds = seeds_in(path)
    return (SeedsDir(path).run(seeds[0]) if seeds else RunDir.open(path)).config()


class SeedsDir:
    """Paths of such a folder; holds no state of its own."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def run(self, seed: int) -> RunDir:
        """Where the run of a seed lies."""
        return RunDir(self.path / f"seed{seed}")

    def refuse_existing(self, seeds: Sequence[int]) -> None:
        """Raises: UsageError if one of the runs is there, or something that is no run of another seed."""
        # Says by itself what is the matter with a run directory, or with a file.
        if (self.path / "config.toml").exists() or not self.path.is_dir():
            RunDir(self.path).refuse_existing()
            return
        if any(not NAME.fullmatch(inner.name) for inner in self.path.iterdir()):
            raise UsageError(f"{self.path} holds other things than runs called seed<k>.", mend="Choose another --out.")
        for inner in self.path.iterdir():
            if int(inner.name.removeprefix("seed")) in seeds:
                RunDir(inner).refuse_existing()

    def create(self, config: Config, seeds: Sequence[int], header: Mapping[str, Any]) -> list[RunDir]:
        """A new run directory for the configuration under each seed; headers name all that are trained together.

        Raises: what `refuse_existing` raises; RunError if it cannot be written.
        """
        self.refuse_existing(seeds)
        return [
            RunDir.create(
                self.run(seed).path,
                config.replace(seed=seed),
                {**header, "seed": seed, "seeds_together": list(seeds)},
            )
            for seed in seeds
        ]

    @staticmethod
    def open(path: str | Path) -> "SeedsDir":
        """The folder of runs that were begun. Raises: UsageError if there are none."""
        if not seeds_in(path):
            raise UsageError(
                f"{path} holds no runs called seed<k>.",
                mend="Give the directory that `eqcrl train --num-seeds` wrote.",
            )
        return SeedsDir(path)

    def configs(self) -> list[Config]:
        """The configurations of all runs, by seed.

        Raises: ConfigError if they differ in more than the seed and in what a resumed run may change, or if a folder
        holds another seed than its name says; UsageError if a seed is missing that was trained beside the others;
        RunError.
        """
        seeds = seeds_in(self.path)
        configs = [self.run(seed).config() for seed in seeds]
        for seed, config in zip(seeds, configs, strict=True):
            if config.seed != seed:
                raise ConfigError(
                    f"{self.run(seed).path} holds a run of seed {config.seed}.", mend=f"Call it seed{config.seed}."
                )
            differ = difference(configs[0].replace(seed=seed), config, RESUMABLE)
            if differ:
                rows = "; ".join(f"{k} is {a!r} in seed{seeds[0]}, {b!r} in seed{seed}" for k, (a, b) in differ.items())
                raise ConfigError(
                    f"The runs in {self.path} cannot continue together, they differ: {rows}.",
                    mend=self._alone(seed),
                )
        together = {other for seed in seeds for other in self.run(seed).header().get("seeds_together", [])}
        missing = sorted(together - set(seeds))
        if missing:
            raise UsageError(
                f"{self.path} lacks {', '.join(f'seed{seed}' for seed in missing)}, trained beside the others.",
                mend=self._alone(seeds[0]),
            )
        return configs

    def _alone(self, seed: int) -> str:
        return f"Continue each by itself: eqcrl train --resume {self.run(seed).path}"
