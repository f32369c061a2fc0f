"""The entry of the command line: finds commands by name, turns errors into messages and exit codes."""

import os
import sys
import traceback
from typing import Any

import click

from eqcrl import __version__, registry
from eqcrl.errors import BrokenPlugin, EqcrlError, UnknownName

INTERRUPTED = 130
# What each built-in command is for, so that `eqcrl --help` imports none of them.
SUMMARIES = {
    "train": "Train an agent, or continue a run.",
    "eval": "Evaluate the policy of a run.",
    "render": "Make films, stills and pages of the policy of a run.",
    "plot": "Draw figures of runs: curves, scores, looks into networks.",
    "study": "List, plan, run and report comparisons of many runs.",
    "sweep": "Search settings on this machine or on a cluster.",
    "report": "Write one page about runs and studies.",
    "export": "Write the policy of a run as a file that runs without eqcrl.",
    "list": "List the installed parts.",
    "check": "Check an environment against the contract.",
    "show": "Show the facts of an environment and a picture of it.",
    "info": "Show versions and devices, a part, or a run.",
    "diagnose": "Look into networks before or after training, block by block.",
}


class Commands(click.Group):
    """Commands from the entry-point group `eqcrl.commands`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names from metadata, the built-in ones first and in the order of use."""
        names = {e.name for e in registry.entries("command")}
        return [n for n in SUMMARIES if n in names] + sorted(names - SUMMARIES.keys())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command. Raises: BrokenPlugin, NameConflict, UnknownName with the nearest names."""
        command = registry.load("command", cmd_name)
        if not isinstance(command, click.Command):
            raise BrokenPlugin(f"The command {cmd_name!r} is not a click command.", mend="Repair its entry point.")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands with a line each, without importing them."""
        origins = {e.name: e.origin() for e in registry.entries("command")}
        with formatter.section("Commands"):
            formatter.write_dl([(n, SUMMARIES.get(n, f"from {origins[n]}")) for n in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eqcrl")
def cli() -> None:
    """Self-supervised goal-conditioned reinforcement learning with networks up to 1024 layers deep.

    `eqcrl train` with no options trains on a point maze; `eqcrl COMMAND --help` shows what a command takes.
    Add --debug to any command for a traceback of an error.
    """


def run(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failure, 2 usage, 130 interrupted, 75 stopped by SIGTERM."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args or os.environ.get("EQCRL_DEBUG") == "1"
    sys.exit(_call([a for a in args if a != "--debug"], debug))


def _call(args: list[str], debug: bool) -> int:
    try:
        result: Any = cli.main(args=args, prog_name="eqcrl", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as done:
        # rich answers a broken pipe by exiting on its own.
        return _reader_gone() if isinstance(done.__context__, BrokenPipeError) else int(done.code or 0)
    except EqcrlError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {error}", err=True)
        if isinstance(error, UnknownName) and args and error.message.startswith("There is no command"):
            click.echo("  `eqcrl --help` shows what each is for.", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(
            f"Error: {type(error).__name__}: {error}\n  This was not foreseen; --debug shows where it "
            "happened. Please report it.",
            err=True,
        )
        return 1


def _reader_gone() -> int:
    """The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
