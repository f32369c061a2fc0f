"""Runs that differ by seed only form one group; a group has a mean and an interval."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from eqcrl.config import PART_KINDS, Config
from eqcrl.errors import UsageError, did_you_mean

Record = Mapping[str, Any]
"""One line of `metrics.jsonl`."""
Records = Sequence[Record]
"""One run."""

RESAMPLES = 2000
MAX_GRID = 500


def group_runs(runs: Iterable[tuple[Config, Records]]) -> dict[str, list[Records]]:
    """Groups of runs with the same configuration but for the seed, by a label such as `arch.depth=64`.

    The label has every setting on which the groups differ, except parameters that only follow from the name
    of their part (the layout of a maze). Groups are in the order of these values.

    Raises: UsageError for no runs, or for two with the same configuration and seed (they are no two samples).
    """
    groups: dict[tuple[tuple[str, str], ...], tuple[Config, dict[int, Records]]] = {}
    for config, records in runs:
        identity = tuple(sorted((k, repr(v)) for k, v in config.flat().items() if k != "seed"))
        members = groups.setdefault(identity, (config, {}))[1]
        if config.seed in members:
            raise UsageError(
                f"Two of the runs ({_name(config)}) have the same configuration and the same seed "
                f"{config.seed}: counted as two they would make the interval too narrow.",
                mend="Leave one of them out.",
            )
        members[config.seed] = records
    if not groups:
        raise UsageError("There are no runs to compare.", mend="Give at least one run directory.")
    configs = [config for config, _ in groups.values()]
    flats = [config.flat() for config in configs]
    keys = _telling_keys(flats)
    order = sorted(range(len(configs)), key=lambda i: [_sortable(flats[i].get(k)) for k in keys])
    members = [list(seeds.values()) for _, seeds in groups.values()]
    labels = [", ".join(f"{k}={flat[k]}" for k in keys if k in flat) for flat in flats]
    labels = [label or _name(config) for label, config in zip(labels, configs, strict=True)]
    return {labels[i]: members[i] for i in order}


def _name(config: Config) -> str:
    return f"{config.agent.name} on {config.env.name}"


def _telling_keys(flats: list[dict[str, Any]]) -> list[str]:
    """Keys on which the groups differ, in the order of the configuration, without what part names imply."""
    keys = list(dict.fromkeys(key for flat in flats for key in flat if key != "seed"))
    differing = [k for k in keys if len({repr(f.get(k)) for f in flats}) > 1]
    return [k for k in differing if not _implied(k, flats)]


def _implied(key: str, flats: list[dict[str, Any]]) -> bool:
    """Whether the key is a part's parameter and no two groups with the same part differ in it."""
    part, _, parameter = key.partition(".")
    if not parameter or part not in PART_KINDS:
        return False
    values: dict[str, set[str]] = {}
    for flat in flats:
        values.setdefault(repr(flat.get(part)), set()).add(repr(flat.get(key)))
    return all(len(seen) == 1 for seen in values.values())


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, Real):
        return 0, float(value), ""
    return 1, 0.0, "" if value is None else str(value)


def series(records: Records, metric: str, x: str) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """The finite values of a metric over increasing x.

    Of several records at one x the last counts (a run was resumed from an earlier checkpoint).
    Empty if no record has both.
    """
    values: dict[float, float] = {}
    for record in records:
        at, value = record.get(x), record.get(metric)
        if _finite(at) and _finite(value):
            values[float(at)] = float(value)  # type: ignore[arg-type]
    xs = np.array(sorted(values))
    return xs, np.array([values[at] for at in xs.tolist()])


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and bool(np.isfinite(float(value)))


def require_metric(runs: Iterable[Records], metric: str) -> None:
    """Raises: UsageError unless some record has the metric, with the nearest that there are."""
    known = {key for records in runs for record in records for key, value in record.items() if _finite(value)}
    if not known:
        raise UsageError("The runs have no metrics yet.", mend="Wait for the first evaluation.")
    if metric not in known:
        raise UsageError(f"No run has recorded {metric!r}.", mend=did_you_mean(metric, known))


def align(
    curves: Sequence[tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]],
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "seeds points"]]:
    """Curves interpolated onto one grid: all their x within the range that every curve covers.

    Nothing is extrapolated: beyond the end of the shortest curve the mean would be over other seeds.
    Raises: UsageError if no x is covered by all.
    """
    low = max(x[0] for x, _ in curves)
    high = min(x[-1] for x, _ in curves)
    if low > high:
        raise UsageError(
            f"Runs of one group do not overlap: one starts at {low:g}, where another has ended at {high:g}.",
            mend="Leave out the run that stopped early.",
        )
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > MAX_GRID:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, MAX_GRID).round().astype(int))]
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])


def mean_interval(
    values: Float[np.ndarray, "seeds points"], confidence: float = 0.95
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
    """Percentile bootstrap interval of the mean over seeds, whole curves resampled.

    The random seed is fixed: the same data give the same picture. Over fewer than about five
    seeds it is narrower than its name says. Raises: ValueError for fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"An interval needs two seeds or more, not {len(values)}.")
    result = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        batch=100,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return result.confidence_interval.low, result.confidence_interval.high
