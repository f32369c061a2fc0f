"""Where a sweep stands: order, scores, what is left."""

from pathlib import Path
from typing import Any

import pytest

from eqcrl.sweeps.source import Source
from eqcrl.sweeps.spec import Sweep
from eqcrl.sweeps.standing import RunStanding, Standing, TrialStanding, _rank, as_json


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "t.toml").write_text('method = "random"\ntrials = 5\nseeds = 2\n[search]\narch.width = [1, 2]\n')
    return Source(tmp_path / "t.toml").sweep()


def run(state: Any, score: float | None = None, steps: int = 0, left: float | None = None) -> RunStanding:
    return RunStanding(0, state, steps, 100, score, left, "died" if state == "dead" else "")


def trial(name: str, *runs: RunStanding) -> TrialStanding:
    return TrialStanding(name, {"arch.width": 1}, runs)


def standing(sweep: Sweep, *trials: TrialStanding) -> Standing:
    return Standing(sweep, tuple(sorted(trials, key=lambda row: _rank(sweep, row))))


def test_the_best_comes_first_and_what_is_not_over_later(sweep: Sweep) -> None:
    rows = [
        trial("dead", run("dead"), run("done", 0.9, 100)),
        trial("new", run("missing"), run("missing")),
        trial("so far", run("running", 0.8, 50), run("missing")),
        trial("worse", run("done", 0.1, 100), run("done", 0.3, 100)),
        trial("best", run("done", 0.4, 100), run("done", 0.6, 100)),
    ]
    found = standing(sweep, *rows)
    assert [row.name for row in found.trials] == ["best", "worse", "so far", "new", "dead"]
    best = found.best()
    assert best is not None
    assert (best.name, best.score()) == ("best", 0.5)
    assert rows[0].score() is None, "a seed that died is not left out of the mean"
    assert [row.state() for row in rows] == ["dead", "missing", "running", "done", "done"]
    assert standing(sweep, *rows[:3]).best() is None
    turned = Sweep(**{**vars(sweep), "direction": "minimize"})
    assert [row.name for row in standing(turned, *rows).trials][:2] == ["worse", "best"]


def test_counts_are_of_all_that_will_be(sweep: Sweep) -> None:
    found = standing(sweep, trial("a", run("done", 1.0, 100), run("running", 0.5, 50)))
    assert found.counts() == {"done": 1, "missing": 8, "running": 1}
    assert as_json(found, True)["runs"] == found.counts()


def test_time_left(sweep: Sweep) -> None:
    assert standing(sweep, trial("a", run("done", 1.0, 100), run("missing"))).seconds_left() is None
    # 50 steps take 25 s; 50 + 50 of these, and 800 of four trials to come, two side by side.
    going = [run("running", 0.5, 50, 25.0), run("running", 0.5, 50, 25.0)]
    assert standing(sweep, trial("a", *going)).seconds_left() == pytest.approx((100 + 800) * 0.5 / 2)
