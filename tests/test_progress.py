"""What a person sees while training."""

import io
import re
import time

import pytest
from rich.console import Console

from eqcrl.progress import Reporter, human_seconds, summary_table

RECORD = {
    "env_steps": 10_240, "grad_steps": 200, "wall_seconds": 75.0, "train/critic_loss": 2.5, "train/actor_loss": 1.0,
    "train/categorical_accuracy": 0.5, "train/grad_steps_per_second": 1234.0, "eval/success_any": 0.25,
    "eval/success_end": 0.125, "eval/time_at_goal": 3.5, "eval/distance_end": 2.0,
    "train/physics_resets": 0.0,
}  # fmt: skip


def plain() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200), text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (119.4, "119 s"), (119.6, "2 min 00 s"),
        (200, "3 min 20 s"), (7199, "119 min 59 s"), (7200, "2 h 00 min"), (5 * 3600 + 125, "5 h 02 min"),
        (48 * 3600, "2 d 0 h"), (76 * 3600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_human_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_the_end_is_foretold_once_after_the_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    console, text = plain()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Reporter(console, 11, 0) as reporter:
        reporter.learning_starts()
        now[0] += 6.0
        reporter.epoch_done(1)
        reporter.epoch_done(2)
    assert re.search(
        r"First epoch took 6\.0 s; 10 to go: about 60 s without evaluations, done \w{3} \d\d:\d\d\.", text.getvalue()
    )
    assert text.getvalue().count("First epoch") == 1


def test_a_resumed_run_counts_from_where_it_stands() -> None:
    console, text = plain()
    with Reporter(console, 10, 7) as reporter:
        reporter.learning_starts()
        reporter.epoch_done(8)
    assert "2 to go" in text.getvalue()


def test_one_line_an_evaluation_where_there_is_no_terminal() -> None:
    console, text = plain()
    with Reporter(console, 10, 0) as reporter:
        reporter.evaluated(RECORD, 0)
    lines = [line for line in text.getvalue().splitlines() if line.strip()]
    assert len(lines) == 1
    for part in ("10,240 env steps", "200 gradient steps", "success 0.25", "critic 2.500", "75 s"):
        assert part in lines[0]
    assert "\x1b" not in text.getvalue()


def test_diverged_physics_is_reported_when_it_happens_and_not_again() -> None:
    console, text = plain()
    with Reporter(console, 10, 0, resets={4: 2}) as reporter:
        for resets in (2.0, 5.0, 5.0):
            reporter.evaluated(RECORD | {"train/physics_resets": resets}, 4)
    assert text.getvalue().count("diverged") == 1
    assert "3 resets since the last line, 5 so far" in text.getvalue()


def test_a_live_bar_on_a_terminal() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with Reporter(console, 10, 0) as reporter:
        reporter.learning_starts()
        reporter.epoch_done(3)
        reporter.evaluated(RECORD, 0)
        reporter.progress.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert "3/10" in shown
    assert "training" in shown


def test_the_summary_has_first_best_and_last() -> None:
    better = RECORD | {"env_steps": 20_480, "eval/success_any": 0.75}
    last = RECORD | {"env_steps": 30_720, "eval/success_any": 0.5, "eval/distance_end": None}
    console, text = plain()
    console.print(summary_table([RECORD, better, last], 12.0))
    row = {line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:5]]
           for line in text.getvalue().splitlines() if line.startswith("│")}  # fmt: skip
    assert row["environment steps"] == ["10,240", "20,480", "30,720"]
    assert row["eval/success_any"] == ["0.250", "0.750", "0.500"]
    assert row["eval/distance_end"] == ["2.000", "2.000", "-"]
    assert row["of it tracing and compiling"][-1] == "12 s"
