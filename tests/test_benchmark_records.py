"""Records of benchmarks: made from what pytest-benchmark wrote, kept, compared with earlier ones, put into the page."""

import datetime
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
# benchmarks/ is not installed
sys.path.insert(0, str(ROOT))

from benchmarks import compare as comparing  # noqa: E402
from benchmarks import records, table  # noqa: E402
from benchmarks.compare import OTHER_CLOCK, SLOWER, compare, noise, text  # noqa: E402
from benchmarks.paired import spread  # noqa: E402
from benchmarks.records import Case, Machine, Memory, Record  # noqa: E402

VERSIONS = {"python": "3.11.7", "eqcrl": "0.1.0", "jax": "0.10.2", "jaxlib": "0.10.2", "mujoco": "3.17.0"}
HERE, THERE = Machine("chip", 2), Machine("other chip", 64)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def case(ratio: float = 2.0, **more: Any) -> Case:
    """Ten rounds that agree within a percent by either clock."""
    given = {
        "ours": 0.5, "baseline": 0.5 * ratio, "ratio": ratio, "cpu_ratio": ratio, "ratio_spread": 0.01,
        "cpu_ratio_spread": 0.005, "rounds": 10, "baseline_name": "plain", "baseline_kind": "measured",
    }  # fmt: skip
    return Case(**(given | more))


def record(day: int, cases: dict[str, Case], machine: Machine = HERE, **versions: str) -> Record:
    date = START + datetime.timedelta(days=day)
    return Record(
        schema=records.SCHEMA, date=date, machine=machine, versions=VERSIONS | versions, commit="abcdef0123",
        dirty=False, cases=cases,
    )  # fmt: skip


def memory(temporaries: int) -> Memory:
    return Memory(arguments=100, outputs=100, in_place=100, temporaries=temporaries)


def report(**info: Any) -> dict[str, Any]:
    """What pytest-benchmark writes, as far as it matters."""
    return {
        "benchmarks": [{"extra_info": info}, {"extra_info": {}}],
        "datetime": "2026-01-02T03:04:05.6+00:00",
        "machine_info": {"python_version": "3.11", "cpu": {"brand_raw": "chip", "count": 8}},
        "commit_info": {"id": "0123456789", "dirty": True},
        "eqcrl": {"versions": VERSIONS, "cores": 2},
    }


# Records.


def test_a_record_has_the_figures_of_the_report_in_few_digits(tmp_path: Path) -> None:
    info = {
        "case": "step",
        "ours": 1.23456789,
        "ratio": 2.0,
        "rounds": 3,
        "memory": msgspec.to_builtins(memory(123456)),
    }
    made = records.from_report(report(**info, unknown_to_records="left out"))
    assert made.cases == {"step": Case(ours=1.2346, ratio=2.0, rounds=3, memory=memory(123456))}
    assert made.machine == HERE, "cores are those that the process had, not those of the machine"
    assert (made.commit, made.dirty, made.versions) == ("0123456789", True, VERSIONS)
    assert made.label() == "eqcrl 0.1.0 (0123456, with changes) of 2026-01-02 03:04"
    path = records.write(made, tmp_path / "new")
    assert path.name == "record-20260102-030405-0.1.0.json"
    assert records.read(path) == made
    assert records.stored(path.parent) == [(path, made)]


def test_a_remat_policy_is_a_case_by_its_memory() -> None:
    info = {"policy": "dots", "depth": 1024, "memory": msgspec.to_builtins(memory(9))}
    assert records.from_report(report(**info)).cases == {"epoch, depth 1024, remat dots": Case(memory=memory(9))}


def test_a_run_without_results_leaves_no_record() -> None:
    with pytest.raises(SystemExit, match="left no results"):
        records.from_report(report())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a record"),
        ('{"benchmarks": []}', "is not a record"),
        (msgspec.json.encode(msgspec.structs.replace(record(0, {}), schema=99)).decode(), "has schema 99"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "record-1.json").write_text(content)
    with pytest.raises(SystemExit, match=said):
        records.stored(tmp_path)


def test_the_newest_record_is_that_of_the_last_date(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no record"):
        records.newest(tmp_path)
    for day in (3, 20, 1):
        records.write(record(day, {"a": case()}), tmp_path)
    assert records.newest(tmp_path).name.startswith("record-20260121")


def test_what_this_process_says_of_itself() -> None:
    about = records.about_this_process()
    assert about["cores"] >= 1
    assert about["versions"].keys() == {"python", *records.PACKAGES}


def test_spread_is_the_deviation_of_the_logarithm() -> None:
    assert spread([3.0]) is None
    assert spread([2.0, 2.0, 2.0]) == 0
    assert spread([1.0, math.e]) == pytest.approx(math.sqrt(0.5))


# Comparing.


def test_nothing_to_compare_with_is_said() -> None:
    now = record(1, {"step": case()})
    for earlier in ([], [record(2, {"step": case(9.0)})], [record(0, {"other": case(9.0)})]):
        found = compare(now, earlier)
        assert (found.worse, found.same, found.new) == ([], 0, ["step"])
        assert "There is nothing to compare with" in text(now, found)


def test_slower_and_faster_beyond_noise_are_told_apart_from_noise() -> None:
    before = record(0, {"slow": case(2.0), "fast": case(2.0), "same": case(2.0), "gone": case(2.0)})
    now = record(1, {"slow": case(1.5), "fast": case(3.0), "same": case(1.9), "new": case(1.0)})
    found = compare(now, [before])
    assert {change.case for change in found.worse} == {"slow"}
    assert {change.case for change in found.better} == {"fast"}
    assert (found.vanished, found.new) == (["gone"], ["new"])
    assert found.same + len(found.worse) + len(found.better) == 6, "three cases by two clocks"
    shown = text(now, found)
    assert "slow: 1.33 times slower (ratio by CPU time 2 -> 1.5; noise makes up to 1.11; since eqcrl 0.1.0" in shown
    assert "fast: 1.50 times faster" in shown
    assert "Not measured this time:\n  gone" in shown
    assert "New, or with another baseline:\n  new" in shown


def test_rounds_that_disagree_excuse_what_rounds_that_agree_do_not() -> None:
    before = record(0, {"step": case(2.0)})
    wild = {"ratio_spread": 0.5, "cpu_ratio_spread": 0.5}
    assert compare(record(1, {"step": case(1.5)}), [before]).worse
    assert not compare(record(1, {"step": case(1.5, **wild)}), [before]).worse
    assert compare(record(1, {"step": case(0.7, **wild)}), [before]).worse


def test_calls_of_less_than_a_millisecond_must_lose_more() -> None:
    for seconds, worse in ((0.5, True), (0.0005, False)):
        cases = [{"step": case(ratio, ours=seconds)} for ratio in (2.0, 1.5)]
        assert bool(compare(record(1, cases[1]), [record(0, cases[0])]).worse) == worse
        assert compare(record(1, {"step": case(0.9, ours=seconds)}), [record(0, cases[0])]).worse


def test_two_rounds_prove_less_than_many() -> None:
    few, many = case(rounds=2, cpu_ratio_spread=0.05), case(rounds=40, cpu_ratio_spread=0.05)
    assert noise(few, few, "cpu_ratio", SLOWER) > noise(many, many, "cpu_ratio", SLOWER)


def test_the_steadier_clock_decides_and_the_other_must_lose_more() -> None:
    def losing(part: float, **spreads: float) -> list[str]:
        """What is found worse when wall time alone loses this part."""
        before = record(0, {"step": case(2.0, **spreads)})
        now = record(1, {"step": case(2.0 * (1 - part), **spreads, cpu_ratio=2.0)})
        return [change.what for change in compare(now, [before]).worse]

    between = (SLOWER + OTHER_CLOCK) / 2
    assert losing(between) == []  # of this case processor time is the steadier
    assert losing(between, cpu_ratio_spread=0.05) == ["ratio by wall time"]
    assert losing(OTHER_CLOCK + 0.1) == ["ratio by wall time"]


def test_without_rounds_a_large_loss_counts_and_a_small_one_does_not() -> None:
    bare = {"ratio_spread": None, "cpu_ratio_spread": None}
    before = record(0, {"step": case(2.0, **bare)})
    assert not compare(record(1, {"step": case(1.6)}), [before]).worse
    assert compare(record(1, {"step": case(1.4)}), [before]).worse


def test_another_baseline_is_not_compared_by_time_but_by_memory() -> None:
    before = record(0, {"step": case(2.0, memory=memory(10 * 2**20))})
    now = record(1, {"step": case(0.5, memory=memory(11 * 2**20), baseline_name="another")})
    (change,) = compare(now, [before]).worse
    assert str(change).startswith("step: 1.10 times more (temporaries 10 MiB -> 11 MiB")
    assert compare(record(1, {"step": case(0.5, baseline_kind="extrapolated")}), [before]).worse == []
    assert compare(record(1, {"step": case(0.5, amount=3.0)}), [before]).worse == []


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [(2**30, 2**30, False), (2**30, 2**30 + 2**23, False), (2**30, 2**30 + 2**24, True), (2**30, 2**29, False),
     (0, 2**15, False), (0, 2**20, True), (32_000, 90_000, False), (0, 0, False)],
)  # fmt: skip
def test_temporaries_that_rose(before: int, now: int, worse: bool) -> None:
    cases = [{"step": Case(memory=memory(size))} for size in (before, now)]
    assert bool(compare(record(1, cases[1]), [record(0, cases[0])]).worse) == worse


def test_compile_times_taken_once_must_double() -> None:
    def found(seconds: float) -> list[str]:
        times = {"baseline_compile_seconds": 8.0}
        before = record(0, {"task": case(compile_seconds=2.0, **times)})
        now = record(1, {"task": case(compile_seconds=seconds, **times)})
        return [change.what for change in compare(now, [before]).worse]

    assert found(3.9) == []
    assert found(4.2) == ["ratio of compile times"]


def test_a_baseline_that_compiles_nothing_has_no_ratio_of_compile_times() -> None:
    cases = {"task": case(compile_seconds=2.0, baseline_compile_seconds=0.0)}
    assert compare(record(1, cases), [record(0, cases)]).worse == []


def test_the_nearest_record_is_of_this_machine_and_these_versions_and_what_differs_is_said() -> None:
    now = record(9, {"step": case(1.0)})
    alike = record(1, {"step": case(1.0)})
    other_jax = record(2, {"step": case(5.0)}, jax="0.9.0")
    elsewhere = record(3, {"step": case(5.0)}, machine=THERE)
    assert not compare(now, [alike, other_jax, elsewhere]).worse
    assert not compare(now, [alike, other_jax, elsewhere]).differences
    found = compare(now, [other_jax, elsewhere])
    assert found.worse
    assert found.differences == [f"{other_jax.label()}: jax 0.9.0 -> 0.10.2"]
    found = compare(now, [elsewhere])
    assert found.worse
    assert found.differences == [f"{elsewhere.label()}: machine other chip, 64 cores -> chip, 2 cores"]
    assert "look twice" in text(now, found)


def test_a_part_of_the_benchmarks_meets_the_last_record_that_has_the_case() -> None:
    whole, part = record(0, {"a": case(2.0), "b": case(2.0)}), record(1, {"a": case(2.0)})
    assert [change.case for change in compare(record(2, {"b": case(1.0)}), [whole, part]).worse] == ["b", "b"]


def test_many_small_losses_are_seen_against_the_best() -> None:
    """No step is beyond noise; together they are. They are shown, and do not count as slower than before."""
    earlier = [record(day, {"step": case(2.0 * 0.93**day)}) for day in range(4)]
    now = record(4, {"step": case(2.0 * 0.93**4)})
    found = compare(now, earlier)
    assert found.worse == []
    (change,) = found.drifted
    assert (change.before, change.since) == (2.0, earlier[0])
    assert "Slower than the best of the records" in text(now, found)
    assert compare(now, [earlier[3]]).drifted == []


positive = st.floats(0.01, 100.0)
spreads = st.none() | st.floats(0.0, 1.0)
cases = st.builds(
    case, positive, cpu_ratio=positive, ratio_spread=spreads, cpu_ratio_spread=spreads, rounds=st.integers(0, 40)
)


@given(cases, cases)
def test_slower_one_way_is_faster_the_other_way(one: Case, other: Case) -> None:
    there = compare(record(1, {"step": other}), [record(0, {"step": one})])
    back = compare(record(1, {"step": one}), [record(0, {"step": other})])
    assert sorted(change.what for change in there.worse) == sorted(change.what for change in back.better)
    assert sorted(change.what for change in there.better) == sorted(change.what for change in back.worse)
    assert there.same == back.same
    assert len(there.worse) + len(there.better) + there.same == 2


@given(cases)
def test_a_record_is_not_slower_than_itself(one: Case) -> None:
    found = compare(record(1, {"step": one}), [record(0, {"step": one})])
    assert (found.worse, found.better, found.drifted) == ([], [], [])


@given(cases, cases, st.floats(0.0, 1.0))
def test_less_is_never_beyond_noise_where_more_is_not(one: Case, other: Case, part: float) -> None:
    """If a ratio is found worse, a smaller one with the same rounds is."""
    lower = msgspec.structs.replace(other, ratio=part * other.ratio, cpu_ratio=part * other.cpu_ratio)
    before = [record(0, {"step": one})]
    worse = {change.what for change in compare(record(1, {"step": other}), before).worse}
    assert worse <= {change.what for change in compare(record(1, {"step": lower}), before).worse}


@given(cases, cases, st.sampled_from(["ratio", "cpu_ratio"]), st.floats(0.01, 0.5))
def test_noise_allows_at_least_the_stated_part_whichever_comes_first(
    one: Case, other: Case, clock: comparing.Clock, least: float
) -> None:
    allowed = noise(one, other, clock, least)
    assert allowed == noise(other, one, clock, least)
    assert allowed >= 1 / (1 - least)


def test_false_alarms_are_rare_and_real_losses_are_found() -> None:
    """Runs drawn with a known spread: the same program seldom looks slower, a loss far beyond it always does."""
    rng = np.random.default_rng(0)

    def drawn(ratio: float, rounds: int) -> Case:
        ratios = ratio * np.exp(rng.normal(0.0, 0.08, rounds))
        both = {"ratio_spread": spread(list(ratios)), "cpu_ratio_spread": spread(list(ratios))}
        return case(float(np.median(ratios)), rounds=rounds, **both)

    for rounds, found in ((5, 0.4), (20, 0.999)):
        same, less = (
            np.mean([
                bool(compare(record(1, {"a": drawn(now, rounds)}), [record(0, {"a": drawn(2.0, rounds)})]).worse)
                for _ in range(300)
            ])
            for now in (2.0, 1.5)
        )  # fmt: skip
        assert same < 0.01
        assert less > found


def test_the_commands_exit_with_one_if_something_got_slower(tmp_path: Path) -> None:
    def run(module: str, *args: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, args)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    info = {"case": "step", **msgspec.to_builtins(case(2.0))}
    (tmp_path / "bench.json").write_text(json.dumps(report(**info)))
    made = run("records", tmp_path / "bench.json")
    first = Path(made.stdout.strip())
    assert (made.returncode, first.parent) == (0, tmp_path), made.stderr
    alone = run("compare", first, "--against", tmp_path)
    assert alone.returncode == 0
    assert "nothing to compare with" in alone.stdout
    records.write(msgspec.structs.replace(record(30, {"step": case(1.5)}), cases={"step": case(1.5)}), tmp_path)
    later = run("compare", "--against", tmp_path)
    assert later.returncode == 1
    assert "step: 1.33 times slower" in later.stdout
    assert "Traceback" not in later.stderr
    shown = run("table", first)
    assert shown.returncode == 0, shown.stderr
    assert "step" in shown.stdout


# The page.


def test_the_page_names_its_records_and_can_be_made_again(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "kept"
    page.write_text(f"before\n{table.BEGIN}\nstale rows\n{table.END}\nafter\n")
    kept = [record(0, {"a": case(2.0), "b": case(2.0)}), record(1, {"b": case(3.0, memory=memory(2**20))})]
    shown = [(records.write(one, folder).name, one) for one in kept]
    table.write_markdown(page, shown)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "stale rows" not in written
    assert "| a | 0.5 s | 1 s | 2.00 | 2.00 | - | plain |" in written
    assert "| b | 0.5 s | 1.5 s | 3.00 | 3.00 | - | plain |" in written, "of a case in both, the last"
    assert "| b | 0 | 0 | 1.0 | - |" in written
    assert "`record-20260101-000000-0.1.0.json`: eqcrl 0.1.0 (abcdef0) of 2026-01-01 00:00 on chip, 2 cores" in written
    assert "jax 0.10.2" in written
    assert table.named_records(page, folder) == shown
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="no place"):
        table.write_markdown(page, shown)


def test_the_tables_of_the_documentation_are_those_of_the_records_that_they_name() -> None:
    page = ROOT / "docs" / "performance.md"
    if shown := table.named_records(page, records.KEPT):
        assert table.between_markers(page)[1] == table.section(shown), "python -m benchmarks.table ... --markdown"


def test_every_kept_record_can_be_read() -> None:
    for path, kept in records.stored(records.KEPT):
        assert kept.cases, path
        assert path.stat().st_size < 64_000, f"{path} is not small"
