"""The entry of the command line: help without JAX, commands by name, errors as messages and exit codes."""

import subprocess
import sys

import click
import pytest

import eqcrl as package
from cli.conftest import Command
from eqcrl import errors, registry
from eqcrl.cli import main
from helpers import Terminal, assert_message

COMMANDS = [
    "train", "eval", "render", "plot", "study", "sweep", "report", "export", "list", "check", "show", "info",
    "diagnose",
]  # fmt: skip


def test_help_in_a_process_of_its_own(terminal: Terminal) -> None:
    done = terminal.call("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    shown = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert shown == COMMANDS


@pytest.mark.parametrize("args", [["--help"], ["list"], ["list", "env"], ["train", "--bogus", "--config", "none.toml"]])
def test_what_needs_no_arrays_imports_no_jax(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "eqcrl", *args], capture_output=True, text=True, timeout=300
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "eqcrl.registry" in imported  # the listing is what it is taken for
    heavy = {name.partition(".")[0] for name in imported} & {"jax", "jaxlib", "equinox", "optax", "numpy", "matplotlib"}
    assert not heavy


def test_the_command_is_installed_under_its_name() -> None:
    scripts = [p for p in registry.metadata.entry_points(group="console_scripts") if p.name == "eqcrl"]
    assert [p.load() for p in scripts] == [main.run]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(eqcrl: Command, command: str) -> None:
    answer = eqcrl(command, "--help")
    assert answer.code == 0
    assert f"Usage: eqcrl {command}" in answer.out
    assert answer.err == ""
    assert main.SUMMARIES.keys() == set(COMMANDS)


def test_version(eqcrl: Command) -> None:
    answer = eqcrl("--version")
    assert (answer.code, answer.out.strip()) == (0, f"eqcrl, version {package.__version__}")


def test_an_unknown_command(eqcrl: Command) -> None:
    answer = eqcrl("trian")
    assert answer.code == 2
    assert_message(answer.err, "There is no command called 'trian'", "Did you mean 'train'?", "eqcrl --help")
    assert answer.out == ""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> object:
    """Makes `eqcrl list` raise something."""

    def fail(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(registry, "load", lambda kind, name: command)

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("m"), 2), (errors.UsageError("m"), 2), (errors.UnknownName("m"), 2),
        (errors.NameConflict("m"), 2), (errors.BrokenPlugin("m"), 1), (errors.RunError("m"), 1),
        (errors.CheckpointError("m"), 1), (errors.DivergenceError("m"), 1), (errors.CheckFailed("m"), 1),
        (KeyboardInterrupt(), 130), (click.UsageError("m"), 2), (ZeroDivisionError("m"), 1),
    ],
)  # fmt: skip
def test_exit_codes(eqcrl: Command, failing, error: BaseException, code: int) -> None:
    failing(error)
    answer = eqcrl("list")
    assert answer.code == code
    assert "Traceback" not in answer.err
    assert answer.err


def test_what_was_not_foreseen_is_said_to_be(eqcrl: Command, failing) -> None:
    failing(ZeroDivisionError("by nought"))
    answer = eqcrl("list")
    assert "Error: ZeroDivisionError: by nought" in answer.err
    assert "--debug shows where" in answer.err


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_debug_shows_where_it_happened(eqcrl: Command, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("EQCRL_DEBUG", "1")
    answer = eqcrl("info", "env", "nowhere", *(["--debug"] if by == "flag" else []))
    assert answer.code == 2
    assert "Traceback (most recent call last)" in answer.err
    assert "registry.py" in answer.err
    assert "Error: There is no env called 'nowhere'." in answer.err


def test_a_reader_that_goes_away_is_no_error(terminal: Terminal) -> None:
    process = terminal.start("list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
