"""Environments apart, seeds together, and labels that tell what differs."""

from dataclasses import replace
from pathlib import Path

from eqcrl.report.collect import RunRecord, collect
from eqcrl.report.grouping import Environment, differing_keys, environments, numeric_axis
from report.runs import config, make_run


def runs_in(folder: Path) -> list[RunRecord]:
    return collect([folder]).runs()


def shape(envs: list[Environment]) -> dict[str, dict[str, list[int]]]:
    """Environment -> setting -> seeds."""
    return {env.label: {s.label: [run.config.seed for run in s.runs] for s in env.settings} for env in envs}


def test_environments_are_apart_and_a_setting_has_one_name_in_all(tmp_path: Path) -> None:
    for i, (env, depth, seed) in enumerate(
        (e, d, s) for e in ("point-u-maze", "point-big-maze") for d in (16, 4) for s in (2, 0)
    ):
        make_run(tmp_path / f"r{i}", env=env, arch__depth=depth, seed=seed)
    inside = {"arch.depth=4": [0, 2], "arch.depth=16": [0, 2]}
    assert shape(environments(runs_in(tmp_path))) == {"point-u-maze": inside, "point-big-maze": inside}


def test_parameters_and_evaluation_make_another_environment(tmp_path: Path) -> None:
    make_run(tmp_path / "a", env="point-maze", env__layout="u")
    make_run(tmp_path / "b", env="point-maze", env__layout="big")
    make_run(tmp_path / "c", env="point-u-maze")
    make_run(tmp_path / "d", env="point-u-maze", eval_env="point-u-maze-fixed-start")
    labels = list(shape(environments(runs_in(tmp_path))))
    assert labels == [
        "point-maze (env.layout=u)", "point-maze (env.layout=big)", "point-u-maze",
        "point-u-maze (eval_env=point-u-maze-fixed-start)",
    ]  # fmt: skip


def test_one_setting_alone_is_called_by_agent_and_network(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    assert shape(environments(runs_in(tmp_path))) == {"point-u-maze": {"crl, resnet-4": [0]}}
    assert environments([]) == []


def test_long_labels_keep_what_tells_the_settings_apart(tmp_path: Path) -> None:
    """Runs of another kind beside a comparison differ from it in much that says nothing within it."""
    more = {"train__batch_size": 16, "train__updates_per_epoch": 3, "replay__capacity": 300, "eval__num_envs": 3}
    for i, (depth, energy, others) in enumerate(((4, "l1", {}), (8, "l1", {}), (8, "l2", {}), (4, "l1", more))):
        make_run(tmp_path / str(i), arch__depth=depth, energy=energy, **others)
    ((labels),) = shape(environments(runs_in(tmp_path))).values()
    assert [label.count("=") for label in labels] == [3] * 4
    assert all(label.startswith("arch.depth=") and "energy=" in label for label in labels)
    assert len(set(labels)) == 4


def test_runs_of_a_study_are_called_by_its_axes(tmp_path: Path) -> None:
    """Axes that only tell environments apart are left out; budgets that follow from them make no other setting."""
    runs = []
    for i, (env, steps) in enumerate((("point-u-maze", 1000), ("point-big-maze", 2000))):
        for depth in (8, 4):
            path = make_run(
                tmp_path / f"{i}-{depth}", env=env, arch__depth=depth, train__total_env_steps=steps, until=steps
            )
            (run,) = collect([path]).runs()
            runs.append(replace(run, axes={"maze": f"maze {i}", "arch": f"resnet-{depth}", "agent": "crl"}))
    inside = {"resnet-8": [0], "resnet-4": [0]}
    assert shape(environments(runs)) == {"point-u-maze": inside, "point-big-maze": inside}


def test_what_counts(tmp_path: Path) -> None:
    def counted(**untils: int) -> list[str]:
        folder = tmp_path / "-".join(untils)
        for seed, (name, until) in enumerate(untils.items()):
            died = {"diverged": {"message": "no"}} if name.startswith("dead") else {}
            make_run(folder / name, until=until, seed=seed, header=died)
        ((setting,),) = (env.settings for env in environments(runs_in(folder)))
        assert setting.provisional() == (not any(run.finished() for run in setting.runs))
        return [run.path.name for run in setting.counted()]

    assert counted(a=1000, b=500, dead=500) == ["a"]
    assert counted(c=300, dead_too=500) == ["c"]
    assert counted(dead_alone=500) == ["dead_alone"]


def test_what_differs_in_the_order_of_the_configuration() -> None:
    one, other = config(seed=1), config(seed=2, train__batch_size=16, arch__depth=8, env="point-big-maze")
    assert differing_keys([one, other]) == ["env", "arch.depth", "train.batch_size"]
    assert differing_keys([one, config(seed=9)]) == []


def test_one_number_is_an_axis_and_nothing_else_is(tmp_path: Path) -> None:
    def axis(folder: str, **values: list) -> tuple[str, list[float]] | None:
        for i, chosen in enumerate(zip(*values.values(), strict=True)):
            make_run(tmp_path / folder / str(i), **dict(zip(values, chosen, strict=True)))
        (env,) = environments(runs_in(tmp_path / folder))
        return numeric_axis(env.settings)

    assert axis("depth", arch__depth=[8, 4, 16]) == ("arch.depth", [4.0, 8.0, 16.0])
    assert axis("two", arch__depth=[4, 8], train__batch_size=[8, 16]) is None
    assert axis("word", energy=["l1", "l2"]) is None
    assert axis("flag", train__fresh_resets=[True, False]) is None
    assert axis("one", arch__depth=[4]) is None
