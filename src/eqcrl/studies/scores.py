"""The runs of a study with what they reached, looked up by the values of their settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eqcrl.config import INHERITS, PART_KINDS, Config
from eqcrl.errors import EqcrlError
from eqcrl.jobs.keys import is_key, normal
from eqcrl.rundir import RunDir
from eqcrl.statistics import Records, final_score
from eqcrl.studies.folder import OpenStudy, StudyRun


@dataclass(frozen=True)
class Scored:
    """A finished run: its whole configuration and its evaluations."""

    run: StudyRun
    config: Config
    records: Records

    def score(self, metric: str) -> float | None:
        """Mean over the last five evaluations; None if the metric was not recorded."""
        return final_score(self.records, metric)

    def value(self, key: str) -> Any:
        """Of an axis, or of any key of the configuration; None if there is no such key here.

        `arch` on an axis is `resnet-64`, `arch.name` then `resnet`.
        """
        if key in PART_KINDS and key in self.run.settings:
            return self.run.settings[key]
        flat, plain = self.config.flat(), normal(key)
        head, _, rest = plain.partition(".")
        if plain in flat:
            return flat[plain]
        if head in INHERITS and getattr(self.config, head) is None:
            return flat.get(f"{INHERITS[head]}.{rest}" if rest else INHERITS[head])
        return self.run.settings.get(key)

    def word(self, key: str) -> str:
        """The value for people, such as `depth 64`; names of parts and labels speak for themselves."""
        value = self.value(key)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return (
            text
            if normal(key) in PART_KINDS or not is_key(key)
            else f"{key.rpartition('.')[2].replace('_', ' ')} {text}"
        )


def finished(study: OpenStudy) -> tuple[list[Scored], list[str]]:
    """The runs that are done, and for each that cannot be read why."""
    found, problems = [], []
    for run in study.of("done"):
        try:
            directory = RunDir.open(run.path)
            config, records = directory.config(), directory.metrics()
        except EqcrlError as error:
            problems.append(f"{run.name()}: {error.message}")
            continue
        if not records:
            problems.append(f"{run.name()}: it holds no evaluations.")
            continue
        found.append(Scored(run, config, records))
    return found, problems


def grouped(runs: Sequence[Scored], *keys: str) -> dict[tuple[Any, ...], list[Scored]]:
    """Runs by the values of these keys, in the order of the values: numbers first, by size, then as they come."""
    groups: dict[tuple[Any, ...], list[Scored]] = {}
    for run in runs:
        groups.setdefault(tuple(run.value(key) for key in keys), []).append(run)
    known = list(groups)
    return {k: groups[k] for k in sorted(known, key=lambda k: [_order(v, known.index(k)) for v in k])}


def _order(value: Any, place: int) -> tuple[int, float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value)) if number else (1, 0.0 if number else float(place))


def scores_of(runs: Sequence[Scored], metric: str) -> list[float]:
    """Final scores of the runs that have one."""
    return [score for run in runs if (score := run.score(metric)) is not None]


def evaluated(runs: Sequence[Scored], metric: str) -> Mapping[str, list[tuple[Scored, float]]]:
    """Label of each further evaluation -> runs with their scores there."""
    found: dict[str, list[tuple[Scored, float]]] = {}
    for run in runs:
        for label, scores in run.run.evaluated.items():
            if isinstance(scores.get(metric), int | float):
                found.setdefault(label, []).append((run, float(scores[metric])))
    return found
