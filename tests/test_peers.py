"""Processes that wait for each other: that all come, that a lost one is noticed, and that a goodbye is none."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from eqcrl.errors import RunError
from eqcrl.peers import Link, Peers, gather

SOON = 20.0


@pytest.fixture
def address() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return "127.0.0.1", server.getsockname()[1]


@pytest.fixture
def three(address: tuple[str, int]) -> Iterator[list[Peers]]:
    """As they are when all have come."""
    with ThreadPoolExecutor(3) as threads:
        # The first one last: the others try until it listens.
        asked = [threads.submit(gather, address, 3, process, SOON) for process in (2, 1, 0)]
        found = sorted((each.result() for each in asked), key=lambda peers: peers.process)
    yield found
    for peers in found:
        peers.leave()
        for link in peers.links.values():
            link.connection.close()


def watched(peers: list[Peers], silence: float = SOON) -> list[list[str]]:
    told: list[list[str]] = [[] for _ in peers]
    for each, words in zip(peers, told, strict=True):
        each.watch(words.append, silence)
    return told


def until_said(*told: list[str]) -> None:
    """To each of these; it is said on other threads."""
    ends = time.monotonic() + SOON
    while not all(told):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_everybody_is_connected_to_the_first(three: list[Peers]) -> None:
    assert [sorted(peers.links) for peers in three] == [[1, 2], [0], [0]]


def test_a_process_that_dies_is_named_to_all_others(three: list[Peers]) -> None:
    told = watched(three)
    # What the kernel does for a process that was killed.
    three[2].ended.set()
    three[2].links[0].connection.shutdown(socket.SHUT_RDWR)
    until_said(told[0], told[1])
    message = "process 2 ended without a word: it was killed, or it crashed"
    assert told[0] == told[1] == [message]
    assert three[1].what == message


def test_a_process_that_is_silent_is_given_up(three: list[Peers]) -> None:
    told = watched(three[:2], silence=2.0)  # the third never says a word
    until_said(told[0], told[1])
    assert told[0] == told[1] == ["process 2 has not been heard of for 2 s: it is stopped, or the network is"]


def test_those_that_speak_are_not_given_up(three: list[Peers]) -> None:
    told = watched(three, silence=2.5)
    time.sleep(4.0)
    assert told == [[], [], []]


def test_goodbye_is_no_loss_unless_it_has_a_reason(three: list[Peers]) -> None:
    told = watched(three)
    three[1].leave()
    three[2].leave("its disk is full")
    until_said(told[0])
    assert told == [["process 2 gave up: its disk is full"], [], []]


def test_who_did_not_come_is_named(address: tuple[str, int]) -> None:
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(gather, address, 4, process, 2.0) for process in (0, 2)]
        for each in asked:
            with pytest.raises(RunError, match=r"of 4 processes these did not come within 2 s: 1, 3\.\n.*--process-id"):
                each.result()


def test_nobody_listens(address: tuple[str, int]) -> None:
    with pytest.raises(RunError, match=r"Process 1 waited 1 s for process 0 at 127.0.0.1 port \d+: .*refused"):
        gather(address, 2, 1, 1.0)


def test_two_that_say_they_are_the_same(address: tuple[str, int]) -> None:
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(gather, address, 3, process, SOON) for process in (0, 1, 1)]
        for each in asked:
            with pytest.raises(RunError, match="cannot begin: a process came as 1 of 3"):
                each.result()


def test_a_stranger_at_the_door_changes_nothing(address: tuple[str, int]) -> None:
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(gather, address, 2, 0, SOON)
        for words in (b"GET / HTTP/1.0\r\n\r\n", b"[1]\n"):
            while True:
                try:
                    with socket.create_connection(address, timeout=1.0) as stranger:
                        stranger.sendall(words)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        second = threads.submit(gather, address, 2, 1, SOON)
        assert sorted(first.result().links) == [1]
        assert sorted(second.result().links) == [0]


def test_a_port_that_is_taken(address: tuple[str, int]) -> None:
    with socket.create_server(("", address[1])), pytest.raises(RunError, match="cannot listen on port"):
        gather(address, 2, 0, 1.0)


def test_messages_come_whole_however_they_are_cut() -> None:
    here, there = socket.socketpair()
    with here, there:
        for piece in (b'{"a": 1', b'}\n{"b"', b": 2}\n"):
            there.sendall(piece)
        link = Link(here)
        assert [link.receive(1.0), link.receive(1.0)] == [{"a": 1}, {"b": 2}]
        there.sendall(b"[]\n")
        with pytest.raises(ValueError, match="no message"):
            link.receive(1.0)
        with pytest.raises(TimeoutError):
            link.receive(0.05)
        there.shutdown(socket.SHUT_RDWR)
        assert link.receive(1.0) is None
