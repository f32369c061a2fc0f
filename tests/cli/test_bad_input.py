"""Bad input: one message that says what, where and how to mend it; the right exit code; earlier results intact."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Command
from eqcrl import checkpoint
from eqcrl.plan import state_shapes
from helpers import (
    LONG,
    TINY,
    Terminal,
    assert_message,
    assert_same_run,
    copy_run,
    flags,
    records,
    snapshot,
    tiny_system,
)


@pytest.fixture
def refused(eqcrl: Command, tmp_path: Path) -> Callable[..., str]:
    """Calls `eqcrl train` with these arguments; it must refuse with this code and write nothing. The message."""

    def call(*args: Any, code: int = 2) -> str:
        before = snapshot(tmp_path)
        out = tmp_path / "new"
        answer = eqcrl("train", *args, "--out", out)
        assert answer.code == code, answer.err
        assert not out.exists()
        assert snapshot(tmp_path) == before
        assert "Compil" not in answer.out
        return answer.err

    return call


@pytest.mark.parametrize(
    ("flag", "name", "near"),
    [
        ("--env", "point-umaze", "'point-u-maze'"),
        ("--eval-env", "point-bigmaze", "'point-big-maze'"),
        ("--arch", "resnt-8", "`eqcrl list arch` shows every one that is installed"),
        ("--arch", "resent", "'resnet'"),
        ("--critic-arch", "mpl", "'mlp'"),
        ("--agent", "clr", "'crl'"),
        ("--energy", "l3", "Known: cosine, dot, l1, l2, l2-squared."),
        ("--loss", "info-nce", "'infonce'"),
        ("--relabeller", "geometrical", "'geometric'"),
        ("--actor-goals", "futur", "'future'"),
        ("--preset", "quickstrat", "'quickstart'"),
    ],
)
def test_unknown_names(refused: Callable[..., str], flag: str, name: str, near: str) -> None:
    kind = {"--eval-env": "env", "--critic-arch": "arch"}.get(flag, flag.removeprefix("--"))
    assert_message(refused(flag, name), f"There is no {kind} called {name!r}", near, f"`eqcrl list {kind}`")


def test_an_unknown_block(refused: Callable[..., str]) -> None:
    assert_message(refused("--arch.block", "dense-norm-swiss"), "There is no block called", "'dense-norm-swish'")


def test_an_unknown_kind(eqcrl: Command) -> None:
    for args in (("list", "envs"), ("info", "envs", "point-u-maze")):
        answer = eqcrl(*args)
        assert answer.code == 2
        assert_message(answer.err, "There is no kind of part called 'envs'", "Did you mean 'env'")


@pytest.mark.parametrize(
    ("flag", "near"),
    [
        ("--train.batch-sise", "--train.batch-size"),
        ("--train.batch_sise", "--train.batch-size"),
        ("--arch.widht", "--arch.width"),
        ("--sed", "--seed"),
    ],
)
def test_an_unknown_flag(refused: Callable[..., str], flag: str, near: str) -> None:
    error = refused(flag, "8")
    assert "Traceback" not in error
    assert f"No such option: {flag.replace('_', '-')}" in error or f"No such option '{flag.replace('_', '-')}'" in error
    assert near in error
    assert "eqcrl train --help" in error


def test_a_flag_of_a_part_that_was_not_chosen(refused: Callable[..., str]) -> None:
    assert "No such option" in refused("--energy.temperature", "2")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed = 1\n[train]\nbatch_sise = 3\n", (":3: there is no setting `train.batch_sise`", "'train.batch_size'")),
        ("[arch]\nname = 'resnet'\nwidht = 3\n", (":3: there is no setting `arch.widht`", "'arch.width'")),
        ("seed = 1\nenv = 'point-umaze'\n", ("There is no env called 'point-umaze'", "'point-u-maze'")),
        ("seed = [", ("mine.toml is not valid TOML: Invalid value", "Correct that line.")),
        ("[train]\nnum_envs = 'many'", (":2: `train.num_envs = 'many'` does not fit", "train.num_envs is int")),
    ],
)
def test_a_mistake_in_the_file(refused: Callable[..., str], tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    assert_message(refused("--config", file), *parts)
    if parts[0].startswith(":"):
        assert f"{file}:" in refused("--config", file)


def test_a_file_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    assert_message(
        refused("--config", tmp_path / "none.toml"), f"{tmp_path / 'none.toml'} cannot be read: No such file", "TOML"
    )


def test_a_depth_that_does_not_exist(refused: Callable[..., str]) -> None:
    for args in (
        ("--arch", "resnet-10"),
        ("--arch.depth", "10"),
        ("--critic-arch.depth", "10", "--critic-arch", "resnet"),
    ):
        assert_message(refused(*args), "A resnet of depth 10 does not exist", "Use depth 8 or 12.")
    assert_message(refused("--arch", "resnet-3"), "depth 3 does not exist", "Use depth 4.")


def test_a_batch_larger_than_the_filled_replay(refused: Callable[..., str]) -> None:
    assert_message(
        refused(*flags(TINY), "--train.batch-size", 161),
        "train.batch_size = 161 is larger than the replay when learning starts", "= 160 transitions",
        "Lower train.batch_size, or raise replay.min_filled or train.num_envs.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--train.unroll-length", 60), "train.unroll_length = 60 steps do not fit into replay.capacity = 50"),
        (("--replay.min-filled", 51), "replay.min_filled = 51 is more than replay.capacity = 50"),
        (("--train.total-env-steps", 200), "train.total_env_steps = 200 ends before the first gradient step"),
    ],
)
def test_other_combinations_that_cannot_work(refused: Callable[..., str], args: tuple[Any, ...], said: str) -> None:
    assert_message(refused(*flags(TINY), *args), said)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("#####\n#..G#\n#####", "has 0 start cells. Mark exactly one cell with R."),
        ("#####\n#RRG#\n#####", "has 2 start cells. Mark exactly one cell with R."),
        ("#####\n#R..#\n#####", "has no goal. Mark at least one cell with G."),
        ("#####\n#R#G#\n#####", "has a goal that its start cannot reach: row 2, column 4. Open a way"),
        ("#####\n#R.G.\n#####", "is open at its border."),
        ("#####\n#R?G#\n#####", "has '?' in row 2, column 3. Legend: # wall, R start"),
        ("#####\n#RG#\n#####", "is ragged: row 2 has 4 cells, row 1 has 5."),
        ("", "is empty."),
    ],
)
def test_layouts_that_cannot_be_solved(refused: Callable[..., str], tmp_path: Path, grid: str, said: str) -> None:
    file = tmp_path / "maze.txt"
    file.write_text(grid)
    assert_message(refused("--env", "point-maze", "--env.layout", file), f"The layout {file} {said}")


def test_a_layout_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    assert_message(refused("--env.layout", "bgi"), "There is no layout 'bgi': neither a built-in one nor a file", "big")
    (tmp_path / "maze.txt").write_bytes(b"\xff\xfe")
    assert_message(refused("--env.layout", tmp_path / "maze.txt"), "maze.txt cannot be read", "Give a text file.")


def test_an_output_directory_that_cannot_be_written(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    answer = eqcrl("train", *flags(TINY), "--out", tmp_path / "file" / "run")
    assert answer.code == 1
    assert_message(answer.err, "Cannot write", str(tmp_path / "file"), "Not a directory", "choose a place")
    assert snapshot(tmp_path) == {"file": b"kept"}


def test_an_output_directory_with_other_files(eqcrl: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("kept")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        answer = eqcrl("train", "--out", out)
        assert answer.code == 2
        assert_message(answer.err, f"{out} exists and is not an empty directory", "Choose another --out.")
    assert snapshot(tmp_path) == {"thesis.tex": b"kept"}


# Resuming.


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return copy_run(finished, tmp_path / "run")


def results(run: Path) -> dict[str, bytes]:
    """What must not be lost: metrics, checkpoints, pictures, configuration."""
    return {k: v for k, v in snapshot(run).items() if k != "header.json"}


@pytest.fixture
def cannot_resume(eqcrl: Command, run: Path) -> Callable[..., str]:
    """`eqcrl train --resume` must refuse, and leave the results alone. The message."""

    def call(*args: Any, code: int) -> str:
        before = results(run)
        answer = eqcrl("train", "--resume", run, *args)
        assert answer.code == code, answer.err
        assert results(run) == before
        return answer.err

    return call


def test_flags_that_disagree_with_the_run(cannot_resume: Callable[..., str], run: Path) -> None:
    error = cannot_resume("--train.batch-size", 4, "--seed", 3, "--arch", "resnet-8", code=2)
    assert_message(
        error, f"The run {run} cannot continue with another configuration", "train.batch_size is 8 there, 4 was asked",
        "seed is 0 there, 3 was", "arch.depth is 4 there, 8 was", "start a new run",
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--preset", "--config", "--out"])
def test_options_that_exclude_resuming(cannot_resume: Callable[..., str], tmp_path: Path, option: str) -> None:
    value = {"--preset": "paper", "--config": tmp_path / "run" / "config.toml", "--out": tmp_path / "b"}[option]
    error = cannot_resume(option, value, code=2)
    assert_message(error, f"{option} and --resume exclude each other", f"Leave out {option}.")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("batch_size = 8", "batch_size = 4", "train.batch_size was 8, is 4"),
        ("gamma = 0.99", "gamma = 0.9", "relabeller.gamma was 0.99, is 0.9"),
        ("width = 16", "width = 24", "arch.width was 16, is 24"),
        ("seed = 0", "seed = 2", "seed was 0, is 2"),
    ],
)
def test_a_configuration_edited_by_hand(
    cannot_resume: Callable[..., str], run: Path, old: str, new: str, said: str
) -> None:
    config = run / "config.toml"
    text = config.read_text()
    assert text.count(old) == 1
    config.write_text(text.replace(old, new))
    error = cannot_resume(code=1)
    assert_message(error, "was made under another configuration", said, "Restore these values in config.toml")


def test_a_configuration_edited_into_nonsense(cannot_resume: Callable[..., str], run: Path) -> None:
    config = run / "config.toml"
    whole = config.read_text()
    for old, new, parts in (
        ("batch_size", "batch_sise", ("config.toml:", "no setting `train.batch_sise`", "'train.batch_size'")),
        ("[train]", "[train", ("config.toml is not valid TOML",)),
        ('"point-u-maze"', '"point-umaze"', ("no env called 'point-umaze'", "'point-u-maze'")),
    ):
        config.write_text(whole.replace(old, new))
        assert_message(cannot_resume(code=2), *parts)
    config.unlink()
    assert_message(cannot_resume(code=2), f"{run} is not a run directory: it has no config.toml")


def newest(run: Path) -> Path:
    return checkpoint.latest(run / "checkpoints")


@pytest.mark.parametrize(
    ("name", "damage"),
    # The others: tests/test_checkpoint.py.
    [
        ("agent.eqx", "missing"), ("rest.eqx", "empty"), ("replay.eqx", "truncated"), ("agent.eqx", "changed"),
        ("manifest.json", "changed"),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint(cannot_resume: Callable[..., str], run: Path, name: str, damage: str) -> None:
    file = newest(run) / name
    content = file.read_bytes()
    middle = len(content) // 2
    if damage == "missing":
        file.unlink()
    elif damage == "changed" and name == "manifest.json":
        manifest = json.loads(content)
        manifest["files"]["agent"]["sha256"] = "0" * 64
        file.write_text(json.dumps(manifest))
    else:
        file.write_bytes({
            "empty": b"", "truncated": content[:middle],
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }[damage])  # fmt: skip
    error = cannot_resume(code=1)
    before = f"{checkpoint.numbers(run / 'checkpoints')[-2]:09d}"
    assert_message(error, f"The checkpoint {newest(run)} is damaged", f"Remove {newest(run)} to continue from {before}")


@pytest.mark.parametrize("command", ["eval", "render"])
def test_commands_that_need_the_agent_refuse_a_damaged_one(eqcrl: Command, run: Path, command: str) -> None:
    file = newest(run) / "agent.eqx"
    file.write_bytes(file.read_bytes()[:-3])
    before = results(run)
    answer = eqcrl(command, run)
    assert answer.code == 1
    assert_message(answer.err, f"The checkpoint {newest(run)} is damaged: agent.eqx has", "bytes instead of", "Remove")
    assert results(run) == before


@pytest.mark.parametrize("command", ["eval", "render", "plot"])
def test_commands_on_what_is_no_run(eqcrl: Command, tmp_path: Path, command: str) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        answer = eqcrl(command, path)
        assert answer.code == 2
        assert_message(answer.err, f"{path} is not a run directory", "Give the directory that `eqcrl train` wrote.")


def test_metrics_that_were_damaged_by_hand(eqcrl: Command, run: Path) -> None:
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text(lines[0] + "{oops}\n" + "".join(lines[1:]))
    answer = eqcrl("plot", run)
    assert answer.code == 1
    assert_message(answer.err, f"{metrics}:2 is not valid JSON", "Restore or remove that line.")


# While training: real processes.


def test_a_loss_that_is_not_finite(terminal: Terminal, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A step so large that the networks overflow within the first epochs.
    done = terminal.call("train", *flags(TINY), "--agent.critic-rate", 1e30, "--out", run)
    assert done.returncode == 1, done.stdout + done.stderr
    assert_message(
        done.stderr, "Training diverged: not finite after the epoch that ended at", "environment steps",
        "gradient steps", "Lower the step sizes", "--agent.critic-rate", "Kept: the metrics until then",
    )  # fmt: skip
    assert (run / "config.toml").exists()
    for record in records(run) if (run / "metrics.jsonl").exists() else []:
        assert all(v is not None for k, v in record.items() if k.startswith("train/"))
    # The pictures are for runs that ended; none is left half drawn.
    assert not list((run / "figures").iterdir())


@pytest.mark.faults
def test_a_disk_that_is_full(terminal: Terminal, finished: Path, tmp_path: Path) -> None:
    """No file may grow beyond 40 kB: metrics still go through, the next checkpoint does not."""
    run = copy_run(finished, tmp_path / "run")
    before = results(run)
    total = LONG["train.total_env_steps"] + 80 * 40

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = terminal.call("train", "--resume", run, "--train.total-env-steps", total, preexec_fn=limit)
    assert done.returncode == 1, done.stdout + done.stderr
    assert_message(
        done.stderr, f"The checkpoint {run / 'checkpoints'}", "cannot be written", "Free space", "--resume",
        f"The last complete checkpoint is {newest(finished).name}.",
    )  # fmt: skip
    assert {k: v for k, v in results(run).items() if k.startswith("checkpoints")} == {
        k: v for k, v in before.items() if k.startswith("checkpoints")
    }
    assert records(run)[: len(records(finished))] == records(finished)
    like = state_shapes(tiny_system())
    assert int(checkpoint.load(newest(run), like).unrolls) == 402
    # With space again, it goes on as if nothing had been.
    done = terminal.call("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    other = copy_run(finished, tmp_path / "other")
    done = terminal.call("train", "--resume", other, "--train.total-env-steps", total)
    assert done.returncode == 0, done.stderr
    assert_same_run(run, other)


def test_debug_gives_a_traceback(terminal: Terminal, finished: Path, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    shutil.rmtree(newest(run))
    (newest(run) / "rest.eqx").unlink()
    plain, debug = terminal.call("train", "--resume", run), terminal.call("train", "--resume", run, "--debug")
    assert plain.returncode == debug.returncode == 1
    assert_message(plain.stderr, "rest.eqx is missing", "There is no other checkpoint")
    assert "Traceback (most recent call last)" in debug.stderr
    assert "checkpoint.py" in debug.stderr
