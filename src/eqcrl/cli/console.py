"""The console that commands print to."""

from rich.console import Console

# Piped or logged output has no width of its own, and folding it at 80 would break tables and lines for grep.
LOG_WIDTH = 160


def make_console(*, quiet: bool = False) -> Console:
    """A console of the terminal's width, or wide enough for every line of ours where there is no terminal."""
    console = Console(quiet=quiet)
    return console if console.is_terminal else Console(quiet=quiet, width=LOG_WIDTH)
