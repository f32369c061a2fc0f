"""What a sweep is: which settings are searched, how, and by what they are judged.

`Spec` is the file as it is written, `Sweep` what it amounts to. Nothing here imports JAX.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import tomli_w

from eqcrl.jobs.keys import Scalar
from eqcrl.jobs.setting import Choice, Setting, make_setting
from eqcrl.sweeps.space import Axis

Method = Literal["grid", "random", "optuna"]
Direction = Literal["maximize", "minimize"]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep file as it is written."""

    title: str = ""
    method: Method = "grid"
    trials: int | None = None
    draw_seed: int = 0
    metric: str = "eval/success_any"
    direction: Direction = "maximize"
    last: int = 5
    preset: str = "quickstart"
    seeds: int | list[int] = 1
    budget: int | None = None
    settings: dict[str, Any] = {}
    search: dict[str, Any] = {}
    launcher: dict[str, Any] = {}
    name: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep, checked as far as that goes without its parts."""

    name: str
    title: str
    method: Method
    trials: int
    """How many settings are tried."""
    draw_seed: int
    metric: str
    direction: Direction
    last: int
    """Evaluations at the end of a run that its score is the mean of."""
    preset: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Scalar]
    axes: tuple[Axis, ...]
    launcher: str
    launcher_settings: Mapping[str, Any]
    origins: Mapping[str, str]
    """Where each dotted key was set, for messages."""

    def place(self) -> str:
        """What it is called in messages."""
        return f"Sweep {self.name}"

    def better(self, score: float) -> float:
        """A number that is larger for a better score."""
        return score if self.direction == "maximize" else -score

    def setting(self, slug: str, choices: Mapping[str, Choice], *, validate: bool) -> Setting:
        """The common settings with one choice of each axis. Raises: ConfigError if they cannot work together.

        Of values that were drawn the run itself says so, and the others go on: no `validate`.
        """
        return make_setting(self, slug, choices, self.preset, self.settings, "the sweep", validate)

    def definition(self) -> dict[str, Any]:
        """What a folder holds one of: all but the number of trials and seeds, and where they are computed."""
        kept = ("method", "draw_seed", "metric", "direction", "last", "preset")
        return {
            **{key: getattr(self, key) for key in kept},
            **{f"settings.{k}": v for k, v in sorted(self.settings.items())},
            **{f"search.{axis.axis}": axis.written() for axis in self.axes},
        }

    def to_toml(self) -> str:
        """A sweep file; `eqcrl.sweeps.source` reads it."""
        return tomli_w.dumps(
            {
                "name": self.name,
                "title": self.title,
                "method": self.method,
                **({} if self.method == "grid" else {"trials": self.trials, "draw_seed": self.draw_seed}),
                "metric": self.metric,
                "direction": self.direction,
                "last": self.last,
                "preset": self.preset,
                "seeds": list(self.seeds),
                "settings": dict(self.settings),
                "search": {axis.axis: axis.written() for axis in self.axes},
                "launcher": {"name": self.launcher, **self.launcher_settings},
            }
        )
