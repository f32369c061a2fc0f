"""Study files: found by name or path, read, checked, and resolved at a scale; messages name file and line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from eqcrl import registry
from eqcrl.config import static_settings
from eqcrl.errors import BrokenPlugin, ConfigError, EqcrlError, UsageError, did_you_mean
from eqcrl.jobs.axes import claim, read_choices
from eqcrl.jobs.keys import BUDGET, LABEL, PRESET, Scalar, checked, flatten, is_key, normal
from eqcrl.jobs.setting import Choice
from eqcrl.jobs.sheet import Sheet, checked_seeds
from eqcrl.settings import unknown_key
from eqcrl.studies.spec import NEEDS, SCALES, X_OF_CURVES, Evaluation, Figure, Kind, Scaled, Spec, Study


class Source:
    """The text of a study file, so that messages can name the line."""

    def __init__(self, path: Path):
        self.path = path
        self.sheet = Sheet(path, "study", "docs/studies.md")
        self.at = self.sheet.at
        self.spec = self._parsed(self.sheet.tree)

    def _parsed(self, tree: dict[str, Any]) -> Spec:
        self.sheet.known(tree, Spec, "")
        if "title" not in tree:
            raise ConfigError(f"{self.path}: a study needs a `title`.", mend="Say in a line what it compares.")
        scales = tree.get("scales", {})
        if not isinstance(scales, Mapping) or not all(isinstance(part, Mapping) for part in scales.values()):
            raise ConfigError(
                f"{self.at('scales')}: `scales` holds no tables.", mend="Write a table [scales.laptop] for each scale."
            )
        for name, part in scales.items():
            if name not in SCALES:
                raise ConfigError(
                    f"{self.at(f'scales.{name}')}: there is no scale {name!r}.", mend=did_you_mean(name, SCALES)
                )
            self.sheet.known(part, Scaled, f"scales.{name}.")
            self._known_figures(part, f"scales.{name}.")
        self._known_figures(tree, "")
        parts = {name: self.sheet.converted(part, Scaled, f"scales.{name}.") for name, part in scales.items()}
        plain = self.sheet.converted({k: v for k, v in tree.items() if k != "scales"}, Spec, "")
        return msgspec.structs.replace(plain, scales=parts)

    def _known_figures(self, tree: Any, prefix: str) -> None:
        figures = tree.get("figures", []) if isinstance(tree, Mapping) else []
        for figure in figures if isinstance(figures, list) else ():
            self.sheet.known(figure, Figure, f"{prefix}figures.")
            kind = figure.get("kind") if isinstance(figure, Mapping) else None
            if isinstance(kind, str) and kind not in get_args(Kind):
                raise ConfigError(
                    f"{self.at(f'{prefix}figures.kind')}: there is no kind of figure {kind!r}.",
                    mend=did_you_mean(kind, get_args(Kind)),
                )

    def name(self) -> str:
        """What it is called."""
        return self.spec.name or self.path.stem

    def scales(self) -> tuple[str, ...]:
        """The scales that it can be run at, from small to large; empty for a file that has but one."""
        return tuple(s for s in SCALES if s in self.spec.scales)

    def study(
        self, scale: str | None, *, seeds: int | None = None, overrides: Mapping[str, str] | None = None
    ) -> Study:
        """The study at a scale. Raises: UsageError for a scale that it does not have; ConfigError."""
        spec = self.spec
        known = self.scales()
        if spec.scale is not None:  # a study that was written out at its scale
            if scale not in (None, spec.scale):
                raise UsageError(f"{self.path} is at scale {spec.scale!r}.", mend=f"Use --scale {spec.scale}.")
            part, prefix = Scaled(), ""
        elif not known:
            if scale is not None:
                raise UsageError(f"The study {self.name()} has no scales.", mend="Leave out --scale.")
            part, prefix = Scaled(), ""
        else:
            scale = scale or known[0]
            if scale not in known:
                raise UsageError(f"The study {self.name()} has no scale {scale!r}.", mend=did_you_mean(scale, known))
            part, prefix = spec.scales[scale], f"scales.{scale}."
        return _Resolving(self, part, prefix).study(spec.scale or scale, seeds, overrides or {})


class _Resolving:
    """One scale of a source, put together and checked."""

    def __init__(self, source: Source, part: Scaled, prefix: str):
        self.source, self.part, self.prefix = source, part, prefix
        self.origins: dict[str, str] = {}

    def where(self, key: str) -> str:
        return self.source.at(self.prefix + key, key)

    def study(self, scale: str | None, seeds: int | None, overrides: Mapping[str, str]) -> Study:
        spec, part = self.source.spec, self.part
        evaluations = spec.evaluations if part.evaluations is None else part.evaluations
        axes = self._axes()
        settings = self._settings(axes, overrides)
        preset = part.preset or spec.preset
        self._check(PRESET, preset, self.where(PRESET))
        figures = tuple(spec.figures if part.figures is None else part.figures)
        for figure in figures:
            self._check_figure(figure, axes)
        return Study(
            name=self.source.name(),
            scale=scale,
            title=spec.title,
            question=spec.question,
            metric=part.metric or spec.metric,
            figures=figures,
            preset=preset,
            seeds=self._seeds(seeds),
            settings=settings,
            axes=axes,
            evaluations=tuple(self._evaluation(e) for e in evaluations),
            origins=self.origins,
        )

    def _seeds(self, asked: int | None) -> tuple[int, ...]:
        given = self.source.spec.seeds if self.part.seeds is None else self.part.seeds
        given = asked if asked is not None else given
        where = "--seeds" if asked is not None else self.where("seeds")
        return checked_seeds(given, where, "study")

    def _settings(self, axes: Mapping[str, tuple[Choice, ...]], overrides: Mapping[str, str]) -> dict[str, Scalar]:
        spec, part = self.source.spec, self.part
        found: dict[str, Scalar] = {}
        layers = [(spec.settings, "settings."), (part.settings, f"{self.prefix}settings.")]
        for tree, prefix in layers:
            for key, value in flatten(tree).items():
                origin = self.source.at(prefix + key)
                found[normal(key)] = self._check(key, value, origin)
        budget = spec.budget if part.budget is None else part.budget
        if budget is not None:
            if BUDGET in found:
                raise ConfigError(
                    f"{self.where('budget')}: `budget` and `{BUDGET}` are the same.", mend="Leave one out."
                )
            found[BUDGET] = self._check(BUDGET, budget, self.where("budget"))
        varied = {key: name for name, choices in axes.items() for choice in choices for key in choice.sets}
        for key in found.keys() & varied.keys():
            raise ConfigError(
                f"{self.origins[key]}: `{key}` is a common setting and varied by the axis `{varied[key]}` too.",
                mend="Leave one of them out.",
            )
        for key, text in overrides.items():
            if normal(key) in varied:
                raise UsageError(
                    f"--set {key}: the axis `{varied[normal(key)]}` of the study varies this.",
                    mend=f"Choose among its values with --only {varied[normal(key)]}=VALUE.",
                )
            found[normal(key)] = self._check(key, text, "--set")
        return found

    def _axes(self) -> dict[str, tuple[Choice, ...]]:
        merged = {k: (v, "axes.") for k, v in flatten(self.source.spec.axes).items()}
        merged |= {k: (v, f"{self.prefix}axes.") for k, v in flatten(self.part.axes).items()}
        axes: dict[str, tuple[Choice, ...]] = {}
        owner: dict[str, str] = {}
        for name, (values, prefix) in merged.items():
            origin = self.source.at(prefix + name)
            choices = read_choices(name, values, origin, self._check)
            claim(owner, name, [key for choice in choices for key in choice.sets], origin)
            axes[normal(name) if is_key(name) else name] = choices
        # What is compared within an environment stands together.
        return dict(sorted(axes.items(), key=lambda axis: not {"env", PRESET} & axis[1][0].sets.keys()))

    def _evaluation(self, tree: Mapping[str, Any]) -> Evaluation:
        origin, flat = self.where("evaluations"), flatten(tree)
        label, env = flat.pop(LABEL, None), flat.pop("env", None) or flat.pop("env.name", None)
        for key in flat:
            if not key.startswith("env."):
                raise ConfigError(
                    f"{origin}: an evaluation has no `{key}`.",
                    mend=f"It has `{LABEL}`, `env` and parameters `env.KEY`.",
                )
        if env is not None:
            env = str(self._check("env", env, origin))
        params = {k.removeprefix("env."): self._check(k, v, origin) for k, v in flat.items()}
        return Evaluation(str(label or env or ", ".join(f"{k} {v}" for k, v in params.items())), env, params)

    def _check_figure(self, figure: Figure, axes: Mapping[str, Any]) -> None:
        origin = self.where("figures.kind")
        for name in NEEDS.get(figure.kind, ()):
            if getattr(figure, name) is None:
                raise ConfigError(
                    f"{origin}: a figure of kind {figure.kind!r} needs `{name}`.", mend="Name an axis or a setting."
                )
        known = [*axes, *static_settings()]
        keys = [figure.y, figure.lines, figure.panels, *figure.where]
        if figure.kind == "curves":
            if figure.x not in (None, *X_OF_CURVES):
                raise ConfigError(
                    f"{origin}: curves cannot be drawn against {figure.x!r}.", mend=did_you_mean(figure.x, X_OF_CURVES)
                )
        else:
            keys.append(figure.x)
        for key in keys:
            if key is not None and key not in axes and not is_key(key):
                raise unknown_key(key, known, origin=f"{origin}, figure {figure.kind}")

    def _check(self, key: str, value: Any, origin: str) -> Scalar:
        """The value, of the right type as far as that can be told without its part."""
        self.origins[normal(key)] = origin
        return checked(key, value, origin, "study")


def find_study(name: str) -> Source:
    """The installed study of that name, or the one in the TOML file at that path.

    Raises: UnknownName for what is neither, BrokenPlugin for an entry point that is no file, ConfigError.
    """
    if name.endswith(".toml"):
        return Source(Path(name).expanduser())
    entry = registry.resolve("study", name).entry
    file = registry.load_entry(entry)
    if not isinstance(file, Path):
        raise BrokenPlugin(
            f"The study {name!r} of {entry.origin()} is a {type(file).__name__}, not the path of a file.",
            mend="Let its entry point name a pathlib.Path of a TOML file.",
        )
    return Source(file)


def each_study() -> Iterable[tuple[registry.Entry, Source | EqcrlError]]:
    """Every installed study, or what is wrong with it."""
    for entry in registry.entries("study"):
        try:
            yield entry, find_study(entry.qualified())
        except EqcrlError as error:
            yield entry, error
