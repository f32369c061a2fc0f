"""From what was collected to the page: its chapters, tables, figures and pictures, in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from eqcrl.plots import metric_name
from eqcrl.report import facts, figures, scores
from eqcrl.report.collect import Chapter, Collected, RunRecord, Trouble
from eqcrl.report.grouping import Environment, Setting, environments
from eqcrl.report.pictures import Absent, Album, Picture, embedded, files_of

PRIMARY = "eval/success_any"
"""What runs that belong to no study are judged by first."""


@dataclass(frozen=True)
class Shown:
    """Pictures and films of the policy of one setting: those of its first run, and of its other runs."""

    setting: Setting
    first: list[Picture]
    others: list[Picture]


@dataclass(frozen=True)
class Place:
    """One environment on the page."""

    anchor: str
    label: str
    rows: list[scores.Row]
    further: list[str]
    """Labels of further evaluations of the finished policies."""
    curves: list[figures.Curves]
    gallery: list[Shown]


@dataclass(frozen=True)
class Comparisons:
    """Probabilities of improvement over one setting, a column for each environment and one for all together."""

    reference: str
    columns: list[str]
    rows: dict[str, list[scores.Interval | None]]


@dataclass(frozen=True)
class Section:
    """One study, or the runs that belong to none."""

    anchor: str
    study: bool
    title: str
    question: str
    scale: str
    primary: str
    primary_name: str
    metrics: dict[str, str]
    places: list[Place]
    overview: list[Picture | Absent]
    together: dict[str, scores.Interval]
    """Interquartile mean of `figures.BOUNDED` over all environments, of settings that were run in each."""
    comparisons: list[Comparisons]
    differences: facts.Differences


@dataclass(frozen=True)
class Told:
    """One run in the table of runs."""

    run: RunRecord
    setting: str
    environment: str
    command: str
    started: str
    resumed: int
    together: str
    """Other seeds that were trained in the same program."""
    pictures: list[Picture]


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    sections: list[Section]
    runs: list[Told]
    provenance: facts.Differences
    troubles: list[Trouble]

    def num_finished(self) -> int:
        """Runs that were evaluated at their end."""
        return sum(told.run.finished() for told in self.runs)

    def num_settings(self) -> int:
        """Settings of all sections, one that was run in two environments counted once a section."""
        return sum(len({row.setting.label for place in s.places for row in place.rows}) for s in self.sections)

    def num_places(self) -> int:
        """Environments of all sections."""
        return len({place.label for section in self.sections for place in section.places})

    def failures(self) -> list[Trouble]:
        """Troubles that took something from the result; the others are remarks."""
        return [t for t in self.troubles if t.kind not in ("given twice", "duplicate", "left out")]


def make_page(collected: Collected, *, title: str | None, media_limit: int) -> Page:
    """Draw every figure and take up pictures, up to `media_limit` bytes of those that the runs left."""
    troubles = list(collected.troubles)
    album = Album(media_limit, troubles)
    inside = [environments(chapter.runs) for chapter in collected.chapters]
    galleries = _galleries([env for envs in inside for env in envs], album)
    sections = [
        _section(f"part-{i}", chapter, envs, galleries, troubles)
        for i, (chapter, envs) in enumerate(zip(collected.chapters, inside, strict=True), start=1)
    ]
    troubles += [Trouble(where, "not drawn", absent.reason) for where, absent in _absent(sections)]
    told = [
        _told(run, s.label, env.label, album) for envs in inside for env in envs for s in env.settings for run in s.runs
    ]
    return Page(title or _title(sections), sections, told, facts.provenance(collected.runs()), troubles)


def _told(run: RunRecord, setting: str, environment: str, album: Album) -> Told:
    header = run.header
    return Told(
        run,
        setting,
        environment,
        command=facts.command(header),
        started=facts.started(header),
        resumed=facts.resumed(header),
        together=facts.together(header),
        pictures=_left(run, album),
    )


def _absent(sections: Sequence[Section]) -> Iterator[tuple[str, Absent]]:
    """Figures that could not be drawn, and what they are about."""
    for section in sections:
        drawn = [(section.title, picture) for picture in section.overview]
        for place in section.places:
            for curves in place.curves:
                drawn += [(f"{curves.name}, {place.label}", p) for ps in curves.tabs.values() for p in ps]
        yield from ((where, picture) for where, picture in drawn if isinstance(picture, Absent))


def _title(sections: Sequence[Section]) -> str:
    if len(sections) == 1:
        places = [place.label for place in sections[0].places]
        where = " and ".join(places) if len(places) <= 2 else f"{len(places)} environments"
        return sections[0].title if sections[0].study or not places else f"Runs on {where}"
    return "; ".join(section.title for section in sections) or "Report"


def _galleries(envs: Sequence[Environment], album: Album) -> dict[int, Shown]:
    """By the identity of the setting; first runs are taken up before the others, for when not all fit."""
    settings = [s for env in envs for s in env.settings]
    first = {id(s): _policy(s.counted()[0], album) for s in settings}
    return {id(s): Shown(s, first[id(s)], [p for r in s.counted()[1:] for p in _policy(r, album)]) for s in settings}


def _policy(run: RunRecord, album: Album) -> list[Picture]:
    return list(_taken(run, files_of(run)[0], album))


def _left(run: RunRecord, album: Album) -> list[Picture]:
    return list(_taken(run, files_of(run)[1], album))


def _taken(run: RunRecord, paths: Sequence[Path], album: Album) -> Iterator[Picture]:
    for path in paths:
        what = path.stem.replace("_", " ")
        caption = f"{what}, seed {run.config.seed}"
        picture = album.take(path, f"{what} of {run.config.label()}", caption)
        if picture is not None:
            yield picture


def _section(
    anchor: str, chapter: Chapter, envs: Sequence[Environment], galleries: dict[int, Shown], troubles: list[Trouble]
) -> Section:
    study = chapter.study
    primary = study.metric if study is not None else PRIMARY
    metrics = _recorded(primary, envs)
    places = [_place(f"{anchor}-env-{i}", env, primary, metrics, galleries) for i, env in enumerate(envs, start=1)]
    overview = figures.overview(envs, primary) if study is None else _study_figures(chapter, troubles)
    profiles = figures.profiles(envs)
    across = scores.across(envs, figures.BOUNDED) if len(envs) > 1 else {}
    return Section(
        anchor=anchor,
        study=study is not None,
        title=study.title if study is not None else "Runs",
        question=study.question if study is not None else "",
        scale=(study.scale or "") if study is not None else "",
        primary=primary,
        primary_name=metric_name(primary),
        metrics=metrics,
        places=places,
        overview=overview + ([profiles] if profiles is not None else []),
        together={label: scores.statistics.interval(values) for label, values in across.items()},
        comparisons=_comparisons(envs, primary),
        differences=facts.setting_differences(envs),
    )


def _recorded(primary: str, envs: Sequence[Environment]) -> dict[str, str]:
    """The metrics that some run has and what they are called, the one that matters most first."""
    runs = [run for env in envs for s in env.settings for run in s.counted()]
    metrics = dict.fromkeys((primary, *scores.METRICS))
    return {metric: metric_name(metric) for metric in metrics if len(scores.finals(runs, metric))}


def _place(anchor: str, env: Environment, primary: str, metrics: dict[str, str], galleries: dict[int, Shown]) -> Place:
    rows = [scores.score_row(s, metrics, primary) for s in env.settings]
    further = list(dict.fromkeys(label for row in rows for label in row.further))
    gallery = [galleries[id(s)] for s in env.settings]
    return Place(
        anchor, env.label, rows, further, figures.curves(env, primary), [g for g in gallery if g.first or g.others]
    )


def _comparisons(envs: Sequence[Environment], primary: str) -> list[Comparisons]:
    """Against the first setting of each environment, and over all environments if there are several."""
    found: dict[str, dict[str, dict[str, scores.Interval]]] = {}
    for where, several in [(env.label, [env]) for env in envs] + ([("all together", envs)] if envs[1:] else []):
        by_label = scores.across(several, primary)
        if len(by_label) > 1:
            reference = next(iter(by_label))
            found.setdefault(reference, {})[where] = scores.improvements(by_label, reference)
    return [
        Comparisons(
            reference,
            list(columns),
            {
                label: [column.get(label) for column in columns.values()]
                for column in columns.values()
                for label in column
            },
        )
        for reference, columns in found.items()
    ]


def _study_figures(chapter: Chapter, troubles: list[Trouble]) -> list[Picture | Absent]:
    """The figures of the study itself; whatever goes wrong in drawing them is said, and the report goes on."""
    from eqcrl.studies.figures import draw

    assert chapter.study is not None
    if not chapter.runs:
        return []
    problems: list[str] = []
    readable = {run.path for run in chapter.runs}
    study = replace(chapter.study, runs=[run for run in chapter.study.runs if run.path in readable])
    with TemporaryDirectory() as folder:
        try:
            drawn = draw(study, Path(folder), problems)
            pictures: list[Picture | Absent] = [embedded(path, caption, caption) for caption, path in drawn]
        except Exception as error:
            pictures = []
            problems.append(f"{type(error).__name__}: {error}")
    troubles += [Trouble(str(study.path), "not drawn", problem) for problem in problems]
    return pictures
