"""Threads that send: so many at once, so many bytes, and nobody waits for them at the end."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from kagglecrawl.s3.crew import Crew

WAIT = 30.0


def test_results_and_errors_come_back() -> None:
    crew = Crew(2, 100)

    def fail() -> int:
        raise LookupError("no")

    assert [crew.submit(1, lambda n=n: n * n).result(WAIT) for n in range(10)] == [  # type: ignore[misc]
        n * n for n in range(10)
    ]
    with pytest.raises(LookupError):
        crew.submit(100, fail).result(WAIT)
    assert crew.submit(100, lambda: 1).result(WAIT) == 1, "the room was not given back"
    crew.close()


def test_no_more_at_once_than_workers() -> None:
    crew = Crew(3, 1000)
    lock, gate = threading.Lock(), threading.Event()
    now = most = 0
    three = threading.Event()

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                three.set()
        assert gate.wait(WAIT)
        with lock:
            now -= 1

    sent = [crew.submit(1, work) for _ in range(12)]
    assert three.wait(WAIT)
    gate.set()
    for one in sent:
        one.result(WAIT)
    assert most == 3
    crew.close()


def test_waits_for_room() -> None:
    crew = Crew(4, 10)
    gate = threading.Event()
    first = crew.submit(8, lambda: gate.wait(WAIT))
    submitted = threading.Event()
    sent = []

    def more() -> None:
        sent.append(crew.submit(8, lambda: True))
        submitted.set()

    other = threading.Thread(target=more)
    other.start()
    assert crew.submit(2, lambda: True).result(WAIT), "there was room for two bytes"
    assert not submitted.wait(0.05), "ten bytes are the most"
    gate.set()
    other.join(WAIT)
    assert first.result(WAIT)
    assert sent[0].result(WAIT)
    assert crew.submit(1000, lambda: True).result(WAIT), "what is larger goes alone"
    crew.close()


def test_closing_frees_who_waits_and_cancels_what_waits() -> None:
    crew = Crew(1, 10)
    gate, begun = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return gate.wait(WAIT)

    held = crew.submit(5, hold)
    assert begun.wait(WAIT)
    waiting = crew.submit(5, lambda: True)
    caught: list[Exception] = []

    def more() -> None:
        try:
            crew.submit(5, lambda: True)
        except RuntimeError as error:
            caught.append(error)

    other = threading.Thread(target=more)
    other.start()
    crew.close()
    other.join(WAIT)
    assert caught, "who waits for room is told"
    gate.set()
    assert held.result(WAIT)
    with pytest.raises(CancelledError):
        waiting.result(WAIT)
    with pytest.raises(RuntimeError):
        crew.submit(1, lambda: True)
    crew.close()
