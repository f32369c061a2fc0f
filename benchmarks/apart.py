"""Running what may stop for good: in a process of its own, under a time limit."""

import multiprocessing
import os
from collections.abc import Callable
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.timing import wall_and_cpu


class Stopped(Exception):
    """The other process gave no answer in time, or died."""


class Apart:
    """A call in another process: `make(*arguments)`, `make` from a module, makes it there; `limit` in seconds is for
    making it and for each call."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, limit: float, environment: dict[str, str]):
        context = multiprocessing.get_context("spawn")
        self.name, self.limit = ", ".join(map(str, arguments)), limit
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`facts` of what was made. Raises: Stopped."""
        return self._answer("making it")

    def __call__(self) -> tuple[float, float]:
        """One call, finished on return: its wall and processor time there. Raises: Stopped."""
        assert self.facts
        return self._answer("a call", ask=True)

    def close(self) -> None:
        """End the process. What is asked of it afterwards raises Stopped at once."""
        self._pipe.close()
        self.process.kill()
        self.process.join()

    def _answer(self, what: str, ask: bool = False) -> Any:
        try:
            if ask:
                self._pipe.send(True)
            if self._pipe.poll(self.limit):
                return self._pipe.recv()
            why = f"took more than {self.limit:g} s"
        except (EOFError, OSError):
            why = "was not answered, its process has ended"
        self.close()
        raise Stopped(f"{self.name}: {what} {why}.")


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made = make(*arguments)
    pipe.send(made.facts)
    while pipe.recv():
        pipe.send(wall_and_cpu(made))
