"""Sweep files: read, checked and put together; messages name file and line."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from eqcrl.errors import ConfigError, UsageError, did_you_mean
from eqcrl.jobs.axes import claim
from eqcrl.jobs.keys import BUDGET, PRESET, Scalar, checked, flatten, normal
from eqcrl.jobs.sheet import Sheet, checked_seeds
from eqcrl.launchers.find import checked_settings
from eqcrl.sweeps.space import Axis, Choices, leaves, read_axis
from eqcrl.sweeps.spec import Direction, Method, Spec, Sweep

LOCAL = "local"


class Source:
    """The text of a sweep file, so that messages can name the line."""

    def __init__(self, path: Path):
        self.path = path
        self.sheet = Sheet(path, "sweep", "docs/sweeps.md")
        self.sheet.known(self.sheet.tree, Spec, "")
        for key, words in (("method", get_args(Method)), ("direction", get_args(Direction))):
            word = self.sheet.tree.get(key)
            if isinstance(word, str) and word not in words:
                raise ConfigError(f"{self.sheet.at(key)}: there is no {key} {word!r}.", mend=did_you_mean(word, words))
        self.spec = self.sheet.converted(self.sheet.tree, Spec, "")
        self.origins: dict[str, str] = {}

    def name(self) -> str:
        """What it is called."""
        return self.spec.name or self.path.stem

    def launcher(self) -> str:
        """Where it says that it should be computed."""
        name = self.spec.launcher.get("name", LOCAL)
        if not isinstance(name, str):
            raise ConfigError(
                f"{self.sheet.at('launcher.name')}: `launcher.name = {name!r}` is not the name of a launcher.",
                mend="`eqcrl list launcher` shows them.",
            )
        return name

    def sweep(
        self,
        *,
        trials: int | None = None,
        seeds: int | None = None,
        overrides: Mapping[str, str] | None = None,
        launcher: str | None = None,
        launcher_settings: Mapping[str, Any] | None = None,
    ) -> Sweep:
        """The sweep, with what flags say over the file. Raises: UsageError, ConfigError, UnknownName."""
        spec, self.origins = self.spec, {}
        axes = self._axes()
        settings = self._settings(axes, overrides or {})
        self._check(PRESET, spec.preset, self.sheet.at(PRESET))
        if spec.last < 1:
            raise ConfigError(
                f"{self.sheet.at('last')}: `last = {spec.last}` takes no evaluation.", mend="Take 1 or more."
            )
        where = "--seeds" if seeds is not None else self.sheet.at("seeds")
        name, params = self._launcher(launcher, launcher_settings or {})
        return Sweep(
            name=self.name(),
            title=spec.title,
            method=spec.method,
            trials=self._trials(axes, trials),
            draw_seed=spec.draw_seed,
            metric=spec.metric,
            direction=spec.direction,
            last=spec.last,
            preset=spec.preset,
            seeds=checked_seeds(spec.seeds if seeds is None else seeds, where, "sweep"),
            settings=settings,
            axes=axes,
            launcher=name,
            launcher_settings=params,
            origins=self.origins,
        )

    def _trials(self, axes: tuple[Axis, ...], asked: int | None) -> int:
        given = self.spec.trials if asked is None else asked
        where = self.sheet.at("trials", "method") if asked is None else "--trials"
        if self.spec.method == "grid":
            if given is not None:
                raise ConfigError(
                    f"{where}: a grid has as many trials as there are combinations.",
                    mend="Leave out the trials, or take method = 'random'.",
                )
            return math.prod(len(axis.ends()) for axis in axes)
        if given is None:
            raise ConfigError(
                f"{where}: how many trials does {self.spec.method!r} make?", mend="Write trials = 20, or give --trials."
            )
        if given < 1:
            raise ConfigError(f"{where}: {given} trials are none.", mend="Ask for at least one.")
        return given

    def _axes(self) -> tuple[Axis, ...]:
        found: list[Axis] = []
        owner: dict[str, str] = {}
        for name, value in leaves(self.spec.search):
            origin = self.sheet.at(f"search.{name}", *(f"search.{name.rpartition('.')[0]}",))
            axis = read_axis(name, value, origin, self._check)
            claim(owner, name, axis.sets(), origin)
            if self.spec.method == "grid" and not isinstance(axis, Choices):
                raise ConfigError(
                    f"{origin}: a grid has values, and `{name}` is a range.",
                    mend="Write them as [a, b, c], or take method = 'random' or 'optuna'.",
                )
            found.append(axis)
        if not found:
            raise ConfigError(
                f"{self.sheet.at('search')}: the sweep searches nothing.",
                mend="Name settings with their values or ranges under [search].",
            )
        return tuple(found)

    def _settings(self, axes: tuple[Axis, ...], overrides: Mapping[str, str]) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {}
        for key, value in flatten(self.spec.settings).items():
            found[normal(key)] = self._check(key, value, self.sheet.at(f"settings.{key}"))
        if self.spec.budget is not None:
            if BUDGET in found:
                raise ConfigError(
                    f"{self.sheet.at('budget')}: `budget` and `{BUDGET}` are the same.", mend="Leave one out."
                )
            found[BUDGET] = self._check(BUDGET, self.spec.budget, self.sheet.at("budget"))
        searched = {key: axis.axis for axis in axes for key in axis.sets()}
        for key in found.keys() & searched.keys():
            raise ConfigError(
                f"{self.origins[key]}: `{key}` is a common setting and searched by `{searched[key]}` too.",
                mend="Leave one of them out.",
            )
        for key, text in overrides.items():
            if normal(key) in searched:
                raise UsageError(f"--set {key}: the sweep searches this.", mend="Change it under [search].")
            found[normal(key)] = self._check(key, text, "--set")
        return found

    def _launcher(self, asked: str | None, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        written = {k: v for k, v in self.spec.launcher.items() if k != "name"}
        name = self.launcher() if asked is None else asked
        # Settings of one launcher mean nothing to another.
        rows = {k: (v, self.sheet.at(f"launcher.{k}")) for k, v in written.items()} if name == self.launcher() else {}
        rows |= {k: (v, f"--launcher.{k.replace('_', '-')}") for k, v in given.items()}
        return name, checked_settings(name, rows, self.sheet.at("launcher.name") if asked is None else "--launcher")

    def _check(self, key: str, value: Any, origin: str) -> Scalar:
        self.origins[normal(key)] = origin
        return checked(key, value, origin, "sweep")
