"""The processes of a run on several hosts: that all come, and that nobody waits for one that is gone.

Each keeps a connection to the first one and says every second that it is there. Whoever is silent for too long, or
whose connection breaks before it said goodbye, is lost: then the first process tells the others who it was, and all of
them end with an error that says so. Without this, they would wait for each other in the middle of a sum.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from eqcrl.errors import RunError

PULSE_SECONDS = 1.0
SILENCE_SECONDS = 30.0
"""A process that was stopped, or a network that is down, is given up after so long; one that ended, at once."""
GATHER_SECONDS = 300.0
"""How long those that came wait for the others: jobs of a cluster do not begin in the same second."""
HELLO_SECONDS = 5.0
LONGEST_MESSAGE = 65536

Lost = Callable[[str], None]


class Link:
    """A connection that carries lines of JSON."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self._rest = b""

    def send(self, **message: Any) -> None:
        """Raises: OSError if nobody is there."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None if the other side closed.

        Raises: TimeoutError after so many seconds of silence; OSError; ValueError for what is no message.
        """
        self.connection.settimeout(seconds)
        while b"\n" not in self._rest:
            piece = self.connection.recv(4096)
            if not piece or len(self._rest) > LONGEST_MESSAGE:
                return None
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("this is no message of ours")
        return message


@dataclass
class Peers:
    """The connections of this process: of the first one to all others, of the others to the first."""

    process: int
    links: dict[int, Link]
    told: threading.Event = field(default_factory=threading.Event)
    """Set when somebody was lost; then `what` says who."""
    what: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self, lost: Lost, silence: float = SILENCE_SECONDS) -> None:
        """From now on call `lost` on another thread, once, with what happened, if a process is lost."""
        self._lock, self._lost = threading.Lock(), lost
        for other, link in self.links.items():
            threading.Thread(target=self._listen, args=(other, link, silence), daemon=True).start()
        threading.Thread(target=self._pulse, daemon=True).start()

    def leave(self, why: str | None = None) -> None:
        """Say goodbye: with a reason if the others cannot go on without us."""
        self.ended.set()
        for link in self.links.values():
            with contextlib.suppress(OSError):
                link.send(bye=why or "")

    def _pulse(self) -> None:
        while not self.ended.wait(PULSE_SECONDS):
            for link in self.links.values():
                with contextlib.suppress(OSError):  # whoever listens to it finds out
                    link.send()

    def _listen(self, other: int, link: Link, silence: float) -> None:
        try:
            while (message := link.receive(silence)) is not None:
                if "lost" in message:
                    self._tell(str(message["lost"]))
                    return
                if "bye" in message:
                    if message["bye"]:
                        self._tell(f"process {other} gave up: {message['bye']}")
                    return
            self._tell(f"process {other} ended without a word: it was killed, or it crashed")
        except TimeoutError:
            self._tell(f"process {other} has not been heard of for {silence:.0f} s: it is stopped, or the network is")
        except (OSError, ValueError):
            self._tell(f"process {other} ended without a word: it was killed, or it crashed")

    def _tell(self, what: str) -> None:
        with self._lock:
            if self.ended.is_set() or self.told.is_set():
                return
            self.what = what
            self.told.set()
        if self.process == 0:
            for link in self.links.values():
                with contextlib.suppress(OSError):
                    link.send(lost=what)
        self._lost(what)


def gather(address: tuple[str, int], count: int, process: int, seconds: float = GATHER_SECONDS) -> Peers:
    """Wait until all `count` processes are there; the first one listens at `address`.

    Raises: RunError if not all came in time, saying who is missing; or if two say that they are the same.
    """
    ends = time.monotonic() + seconds
    return _receive(address, count, ends, seconds) if process == 0 else _report(address, count, process, ends, seconds)


def _receive(address: tuple[str, int], count: int, ends: float, seconds: float) -> Peers:
    links: dict[int, Link] = {}
    try:
        server = socket.create_server(("", address[1]), backlog=count)
    except OSError as error:
        raise RunError(
            f"Process 0 cannot listen on port {address[1]}: {error.strerror or error}.",
            mend="Choose another port for --coordinator; the one after it must be free as well.",
        ) from error
    with server:
        while len(links) < count - 1:
            server.settimeout(max(ends - time.monotonic(), 0.01))
            try:
                link = Link(server.accept()[0])
                hello = link.receive(HELLO_SECONDS) or {}
            except TimeoutError:
                if time.monotonic() < ends:
                    continue
                names = ", ".join(str(other) for other in range(1, count) if other not in links)
                problem = f"of {count} processes these did not come within {seconds:.0f} s: {names}"
                _refuse(links.values(), problem)
                raise RunError(
                    f"The run cannot begin: {problem}.",
                    mend="Start `eqcrl train` with the same --coordinator and --num-processes for every --process-id.",
                ) from None
            except (OSError, ValueError):
                continue  # not one of ours
            other = hello.get("process")
            if not isinstance(other, int) or hello.get("count") != count or not 0 < other < count or other in links:
                problem = f"a process came as {other} of {hello.get('count')}, which this run of {count} cannot have"
                _refuse((link, *links.values()), problem)
                raise RunError(f"The run cannot begin: {problem}.", mend="Give each its own --process-id.")
            links[other] = link
    for link in links.values():
        link.send(go=True)
    return Peers(0, links)


def _report(address: tuple[str, int], count: int, process: int, ends: float, seconds: float) -> Peers:
    last: OSError | None = None
    while time.monotonic() < ends:
        try:
            link = Link(socket.create_connection(address, timeout=HELLO_SECONDS))
        except OSError as error:
            last = error
            time.sleep(0.2)
            continue
        try:
            link.send(process=process, count=count)
            answer = link.receive(max(ends - time.monotonic(), 0.0) + HELLO_SECONDS) or {}
        except (OSError, ValueError) as error:
            raise RunError(
                f"Process 0 at {address[0]} took our call and did not go on: {error}.",
                mend="See what it says; another one may be missing.",
            ) from error
        if "go" in answer:
            return Peers(process, {0: link})
        raise RunError(
            f"The run cannot begin: {answer.get('refused', 'process 0 ended')}.",
            mend="Start `eqcrl train` for every --process-id, each with the same --coordinator and --num-processes.",
        )
    raise RunError(
        f"Process {process} waited {seconds:.0f} s for process 0 at {address[0]} port {address[1]}: {last}.",
        mend="Start process 0 on the host of --coordinator, under a name and port that the other hosts reach.",
    )


def _refuse(links: Iterable[Link], problem: str) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.send(refused=problem)


def end_at_once(what: str) -> None:
    """Print that a process was lost, and end this one without waiting for anybody."""
    sys.stdout.flush()
    sys.stderr.write(
        f"Error: The run cannot go on: {what}.\n"
        "  What was saved is complete. Continue all processes with --resume and the run directory.\n"
    )
    sys.stderr.flush()
    os._exit(1)
