"""What a study is: which settings are varied, how often each is run, and what is drawn of it.

`Spec` is the file as it is written, `Study` what it amounts to at one scale. Nothing here imports JAX.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import tomli_w

from eqcrl.jobs.axes import written
from eqcrl.jobs.keys import LABEL, Scalar
from eqcrl.jobs.setting import Choice

SCALES = ("laptop", "gpu", "paper")

Kind = Literal["score", "curves", "bars", "heatmap", "profiles", "evaluations", "q-map", "embeddings", "residual-norms"]

NEEDS: dict[str, tuple[str, ...]] = {"score": ("x",), "evaluations": ("x",), "heatmap": ("x", "y")}
"""What a figure of a kind must say."""
X_OF_CURVES = ("env_steps", "grad_steps", "wall_seconds")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the study; x, y, lines and panels are axes of the study or any keys of the configuration."""

    kind: Kind
    x: str | None = None
    y: str | None = None
    lines: str | None = None
    panels: str = "env"
    metric: str | None = None
    title: str = ""
    where: dict[str, Any] = {}
    """Only runs with these values."""


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """What a scale puts in place of the common settings; axes and settings one by one."""

    metric: str | None = None
    preset: str | None = None
    seeds: int | list[int] | None = None
    budget: int | None = None
    settings: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    evaluations: list[dict[str, Any]] | None = None
    figures: list[Figure] | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A study file as it is written."""

    title: str
    question: str = ""
    metric: str = "eval/success_any"
    figures: list[Figure] = []
    preset: str = "quickstart"
    seeds: int | list[int] = 3
    budget: int | None = None
    settings: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    evaluations: list[dict[str, Any]] = []
    scales: dict[str, Scaled] = {}
    name: str | None = None
    scale: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A further environment for the finished policies; without a name the one that a run was trained on."""

    label: str
    env: str | None
    params: Mapping[str, Scalar]


@dataclass(frozen=True)
class Study:
    """A study at one scale, checked as far as that goes without its parts."""

    name: str
    scale: str | None
    title: str
    question: str
    metric: str
    figures: tuple[Figure, ...]
    preset: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Scalar]
    axes: Mapping[str, tuple[Choice, ...]]
    evaluations: tuple[Evaluation, ...]
    origins: Mapping[str, str]
    """Where each dotted key was set, for messages."""

    def place(self) -> str:
        """What it is called in messages."""
        return f"Study {self.name}" + (f" at scale {self.scale}" if self.scale else "")

    def definition(self) -> dict[str, Any]:
        """What decides what the runs do, seeds apart: a folder holds runs of one definition."""
        return {
            "preset": self.preset,
            **{f"settings.{k}": v for k, v in sorted(self.settings.items())},
            **{f"axes.{k}": [written(k, c) for c in choices] for k, choices in self.axes.items()},
        }

    def to_toml(self) -> str:
        """A study file of this scale alone; `eqcrl.studies.source` reads it."""
        tree: dict[str, Any] = {
            "title": self.title,
            "question": self.question,
            "name": self.name,
            **({"scale": self.scale} if self.scale else {}),
            "metric": self.metric,
            "preset": self.preset,
            "seeds": list(self.seeds),
            "settings": dict(self.settings),
            "axes": {k: [written(k, c) for c in choices] for k, choices in self.axes.items()},
            "evaluations": [
                {LABEL: e.label, **({"env": e.env} if e.env else {}), **{f"env.{k}": v for k, v in e.params.items()}}
                for e in self.evaluations
            ],
            "figures": [{k: v for k, v in msgspec.structs.asdict(f).items() if v} for f in self.figures],
        }
        return tomli_w.dumps(tree)
