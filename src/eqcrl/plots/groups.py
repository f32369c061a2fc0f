"""Runs that differ by seed only form one group; groups of one environment form one panel."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float

from eqcrl.config import INHERITS, PART_KINDS, Config
from eqcrl.errors import UsageError, did_you_mean
from eqcrl.statistics import Record as Record
from eqcrl.statistics import Records, is_finite
from eqcrl.statistics import series as series

MAX_GRID = 500
ENVIRONMENTS = ("env", "eval_env")

T = TypeVar("T")
"""What is known of a run: its records, its final score, the run itself."""
Point = tuple[float, ...]
"""Values of the settings that are axes of a picture."""


@dataclass(frozen=True)
class _Group(Generic[T]):
    """Runs with the same configuration but for seed and axes."""

    config: Config
    flat: dict[str, Any]
    """Without seed and axes."""
    members: dict[tuple[Point, int], T] = field(default_factory=dict)


def group_runs(runs: Iterable[tuple[Config, T]]) -> dict[str, list[T]]:
    """Groups of runs with the same configuration but for the seed, by a label such as `arch.depth=64`.

    The label has every setting on which the groups differ, except parameters that only follow from the name
    of their part (the layout of a maze). Groups are in the order of these values.

    Raises: UsageError for no runs, or for two with the same configuration and seed (they are no two samples).
    """
    groups = _groups(runs, ())
    labelled = _labelled(groups, _telling_keys([group.flat for group in groups]), _name)
    return {label: list(group.members.values()) for label, group in labelled.items()}


def panels(runs: Iterable[tuple[Config, T]]) -> dict[str, dict[str, list[T]]]:
    """For each environment that was evaluated, by name, the groups of its runs by label.

    So nothing of one environment is averaged with what belongs to another, or drawn over it. A label has the settings
    on which groups of some panel differ; it is the same in all panels. Raises: UsageError as `group_runs` does.
    """
    found = _panels(runs, ())
    return {
        name: {label: list(group.members.values()) for label, group in groups.items()} for name, groups in found.items()
    }


def along(runs: Iterable[tuple[Config, T]], axes: Sequence[str]) -> dict[str, dict[str, dict[Point, list[T]]]]:
    """As `panels`, but runs that differ in the numeric settings `axes` stay in one group, and are told apart in it.

    Panel -> label -> value of each axis -> runs. Without `actor_arch` or `critic_arch`, `arch` stands for it.
    Raises: UsageError also for a run without such a number.
    """
    found: dict[str, dict[str, dict[Point, list[T]]]] = {}
    for name, groups in _panels(runs, axes).items():
        for label, group in groups.items():
            points = found.setdefault(name, {}).setdefault(label, {})
            for (point, _), member in sorted(group.members.items(), key=lambda item: item[0][0]):
                points.setdefault(point, []).append(member)
    return found


def environment(config: Config) -> str:
    """What a run was evaluated in, such as `ant-u-maze` or `ant-u-maze, evaluated in ant-big-maze`."""
    other = config.eval_env
    if other is None or other.name == config.env.name:
        return config.env.name
    return f"{config.env.name}, evaluated in {other.name}"


def _panels(runs: Iterable[tuple[Config, T]], axes: Sequence[str]) -> dict[str, dict[str, _Group[T]]]:
    by_name: dict[str, list[_Group[T]]] = {}
    for group in _groups(runs, axes):
        by_name.setdefault(environment(group.config), []).append(group)
    flats = [[group.flat for group in groups] for groups in by_name.values()]
    keys = list(dict.fromkeys(key for of_panel in flats for key in _telling_keys(of_panel)))
    return {name: _labelled(by_name[name], keys, lambda config: config.agent.name) for name in sorted(by_name)}


def _groups(runs: Iterable[tuple[Config, T]], axes: Sequence[str]) -> list[_Group[T]]:
    groups: dict[tuple[tuple[str, str], ...], _Group[T]] = {}
    for config, member in runs:
        flat = _flat(config, axes)
        point = tuple(_number(flat, key, config) for key in axes)
        kept = {k: v for k, v in flat.items() if k != "seed" and k not in axes}
        identity = tuple(sorted((k, repr(v)) for k, v in kept.items()))
        members = groups.setdefault(identity, _Group(config, kept)).members
        if (point, config.seed) in members:
            raise UsageError(
                f"Two of the runs ({_name(config)}) have the same configuration and the same seed "
                f"{config.seed}: counted as two they would make the interval too narrow.",
                mend="Leave one of them out.",
            )
        members[point, config.seed] = member
    if not groups:
        raise UsageError("There are no runs to compare.", mend="Give at least one run directory.")
    return list(groups.values())


def _flat(config: Config, axes: Sequence[str]) -> dict[str, Any]:
    """Dotted keys; where an axis belongs to a part that takes after another one, that is written out for both."""
    flat = config.flat()
    if not any(key.partition(".")[0] in INHERITS for key in axes):
        return flat
    for field_, parent in INHERITS.items():
        if field_ not in flat:
            inherited = {k: v for k, v in flat.items() if k == parent or k.startswith(f"{parent}.")}
            flat |= {field_ + k.removeprefix(parent): v for k, v in inherited.items()}
    parents = set(INHERITS.values())
    return {k: v for k, v in flat.items() if k.partition(".")[0] not in parents}


def _number(flat: Mapping[str, Any], key: str, config: Config) -> float:
    value = flat.get(key)
    if not is_finite(value) or isinstance(value, bool):
        numbers = [k for k, v in flat.items() if is_finite(v) and not isinstance(v, bool)]
        raise UsageError(
            f"The run {config.label()!r} has no number {key!r} to draw against.", mend=did_you_mean(key, numbers)
        )
    return value  # type: ignore[return-value]


def _labelled(groups: Sequence[_Group[T]], keys: Sequence[str], name: Any) -> dict[str, _Group[T]]:
    ordered = sorted(groups, key=lambda group: [_sortable(group.flat.get(k)) for k in keys])
    texts = [", ".join(f"{k}={group.flat[k]}" for k in keys if k in group.flat) for group in ordered]
    return {text or name(group.config): group for text, group in zip(texts, ordered, strict=True)}


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
    if is_finite(value):
        return 0, float(value), ""
    return 1, 0.0, "" if value is None else str(value)


def require_metric(runs: Iterable[Records], metric: str) -> None:
    """Raises: UsageError unless some record has the metric, with the nearest that there are."""
    known = {key for records in runs for record in records for key, value in record.items() if is_finite(value)}
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
