"""An object in storage, over a line that breaks, and until the crawl ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import islice

import pytest

from kagglecrawl.kaggle.errors import NoReply, RetryLater, ServerFailed
from kagglecrawl.transfer.source import ATTEMPTS, PIECE, Stopped
from tests.transfer.stand import (
    Asked,
    Object,
    Reply,
    Storage,
    each_in_turn,
    everything,
    garbage,
    head,
    nothing,
    remote,
    status,
)

DATA = random.Random(1).randbytes(3_000_000)
SMALL = DATA[:50_000]


# -- what breaks is asked again --------------------------------------------------------------------


def test_cuts_are_made_good() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        storage.script = lambda asked: storage.object.cut(asked, 900_000)
        assert source.tail(1_000_000) == DATA[-1_000_000:]
        source.seek(0)
        assert everything(source) == DATA
        assert source.meter.received == len(DATA)
        assert source.meter.again == {"cut": len(storage.asked) - 2}
        starts = [each.range.partition("-")[0] for each in storage.asked[2:]]
        assert starts == ["0", "900000", "1800000"]


def test_a_line_that_is_cut_ever_so_often_gets_there_as_long_as_it_gets_on() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        storage.script = lambda asked: storage.object.cut(asked, 300_000)
        source.tail(10)
        source.seek(0)
        assert everything(source) == DATA


def test_bytes_behind_the_end_of_an_answer_are_not_taken() -> None:
    with Storage(SMALL) as storage, remote(storage) as source:

        def answer(asked: Asked) -> Reply:
            return [*storage.object.answer(asked), b"more, of nobody"]

        storage.script = answer
        source.tail(100)
        source.seek(0)
        assert everything(source) == SMALL


@pytest.mark.parametrize(
    ("trouble", "reason", "error"),
    [
        (nothing, "broken", NoReply),
        (garbage, "broken", NoReply),
        (lambda _: [b"HTTP/1.1 206 " + b"x" * 70_000], "broken", NoReply),
        (lambda _: [b"HTTP/1.1 206 -\r\n" + b"a: b\r\n" * 200 + b"\r\n"], "broken", NoReply),
        (lambda _: status(500), "server_error", ServerFailed),
        (lambda _: status(503, Retry_After="0"), "server_error", ServerFailed),
        (lambda _: status(408), "server_error", ServerFailed),
        (lambda _: status(429), "server_error", ServerFailed),
        (lambda _: Object(SMALL).cut(Asked(0, "", {"range": "bytes=0-49999"}), 0), "cut", NoReply),
    ],
)
def test_what_passes_and_what_does_not(
    trouble: Callable[[Asked], Reply], reason: str, error: type[RetryLater]
) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = lambda asked: trouble(asked) if asked.number < 1 + ATTEMPTS else None
        source.seek(0)
        assert everything(source) == SMALL
        assert source.meter.again == {reason: ATTEMPTS - 1}
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = trouble
        source.seek(0)
        with pytest.raises(error):
            everything(source)
        assert source.meter.again == {reason: ATTEMPTS}
        storage.script = None  # whoever asks once more begins to count anew
        assert everything(source) == SMALL


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ("61", 61.0),
        ("3600", 3600.0),
        ("9" * 400, 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
    ],
)
def test_a_long_retry_after_is_for_the_queue(given: str, least: float) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        storage.script = lambda _: status(503, Retry_After=given)
        with pytest.raises(ServerFailed) as caught:
            source.tail(10)
        assert len(storage.asked) == 1
        assert caught.value.delay is not None
        assert least <= caught.value.delay < 1e9


def test_a_short_retry_after_is_waited_for() -> None:
    class Waits(threading.Event):
        waited: list[float | None] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waited.append(timeout)
            return False

    stop = Waits()
    with Storage(SMALL) as storage, remote(storage, stop=stop) as source:
        storage.script = each_in_turn(
            lambda _: status(503, Retry_After="7"), lambda _: status(503, Retry_After="soon")
        )
        assert source.tail(10) == SMALL[-10:]
        first, second = stop.waited
        assert first is not None
        assert first >= 7
        assert second is not None
        assert second < 1


def test_the_pauses_double_and_are_not_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waits(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.waited: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.waited.append(timeout)
            return False

    found = []
    with Storage(b"", nothing) as storage:
        for _ in range(3):
            stop = Waits()
            with remote(storage, stop=stop) as source, pytest.raises(NoReply):
                source.tail(10)
            assert len(stop.waited) == ATTEMPTS - 1
            for number, pause in enumerate(stop.waited):
                assert 0.0005 * 2**number <= pause <= 0.0015 * 2**number
            found.append(tuple(stop.waited))
    assert len(set(found)) == 3


# -- stalls ----------------------------------------------------------------------------------------


def test_silence_is_noticed() -> None:
    def silent(asked: Asked) -> Reply:
        yield from islice(storage.object.answer(asked), 1)
        yield SMALL[:500]
        storage.over.wait(5)

    with Storage(SMALL) as storage, remote(storage, stall=0.05) as source:
        storage.script = each_in_turn(lambda _: None, silent)
        source.tail(10)
        source.seek(0)
        assert everything(source) == SMALL
        assert source.meter.again == {"timeout": 1}
        assert storage.ranges[2].startswith("500-")


def test_no_answer_at_all_is_noticed() -> None:
    def silent(_: Asked) -> Reply:
        storage.over.wait(5)
        return []

    with Storage(SMALL) as storage, remote(storage, stall=0.05) as source:
        storage.script = each_in_turn(silent)
        assert source.tail(10) == SMALL[-10:]
        assert source.meter.again == {"timeout": 1}


def test_drops_are_noticed_although_each_is_in_time() -> None:
    def dripping(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        for byte in body:
            if storage.over.wait(0.01):
                return
            yield bytes([byte])

    with Storage(SMALL) as storage, remote(storage, stall=0.1) as source:
        storage.script = each_in_turn(lambda _: None, dripping)
        source.tail(10)
        source.seek(0)
        assert everything(source) == SMALL
        assert source.meter.again == {"stalled": 1}


def test_a_drip_for_ever_is_given_up() -> None:
    def dripping(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        for byte in body:
            if storage.over.wait(0.01):
                return
            yield bytes([byte])

    with Storage(SMALL, dripping) as storage, remote(storage, stall=0.05) as source:
        with pytest.raises(NoReply, match="hardly anything"):
            source.tail(10_000)
        assert source.meter.again == {"stalled": ATTEMPTS}


def test_a_head_that_drips_is_given_up() -> None:
    """Each byte of it is in time."""

    def dripping(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        for byte in bytes(begin):
            if storage.over.wait(0.01):
                return
            yield bytes([byte])
        yield body

    with Storage(SMALL) as storage, remote(storage, stall=0.05) as source:
        storage.script = each_in_turn(dripping)
        assert source.tail(10) == SMALL[-10:]
        assert sum(source.meter.again.values()) == 1


@pytest.mark.parametrize("length", ["1000000000000", None])
def test_the_body_of_a_redirect_is_not_waited_for(length: str | None) -> None:
    def redirecting(_: Asked) -> Reply:
        yield head(302, {"Location": "/elsewhere", "Content-Length": length})
        while not storage.over.wait(0.01):
            yield bytes(100_000)

    with Storage(SMALL) as storage, remote(storage) as source:
        storage.script = each_in_turn(redirecting)
        assert source.tail(10) == SMALL[-10:]
        assert source.meter.again == {}


# -- the end of the crawl --------------------------------------------------------------------------


def test_nothing_is_asked_once_it_is_to_stop() -> None:
    stop = threading.Event()
    with Storage(SMALL) as storage, remote(storage, stop=stop) as source:
        source.tail(1_000)
        stop.set()
        for position in (0, len(SMALL) - 10):  # the network, and memory
            source.seek(position)
            with pytest.raises(Stopped):
                source.read()
        with pytest.raises(Stopped):
            source.tail(10)
        assert len(storage.asked) == 1


def test_a_pause_ends_at_once() -> None:
    stop = threading.Event()

    def stopping(_: Asked) -> Reply:
        threading.Timer(0.02, stop.set).start()
        return status(503, Retry_After="60")

    with Storage(SMALL, stopping) as storage, remote(storage, stop=stop) as source:
        with pytest.raises(Stopped):
            source.tail(10)
        assert len(storage.asked) == 1


def test_it_stops_between_two_pieces() -> None:
    stop = threading.Event()

    def endless(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        yield body[:PIECE]
        stop.set()
        yield body[PIECE:]

    with Storage(DATA) as storage, remote(storage, stop=stop) as source:
        source.tail(10)
        storage.script = endless
        source.seek(0)
        with pytest.raises(Stopped):
            everything(source)


def test_it_stops_in_a_cut() -> None:
    stop = threading.Event()

    def stopping(asked: Asked) -> Reply:
        stop.set()
        return storage.object.cut(asked, 5)

    with (
        Storage(SMALL, stopping) as storage,
        remote(storage, stop=stop) as source,
        pytest.raises(Stopped),
    ):
        source.tail(1_000)


def test_a_read_that_waits_is_interrupted() -> None:
    stop = threading.Event()
    reached = threading.Event()

    def silent(asked: Asked) -> Reply:
        yield from islice(storage.object.answer(asked), 1)
        reached.set()
        storage.over.wait(10)

    with Storage(SMALL) as storage, remote(storage, stop=stop, stall=60) as source:
        source.tail(10)
        storage.script = silent
        source.seek(0)

        def interrupt() -> None:
            reached.wait(10)
            storage.over.wait(0.02)
            stop.set()
            source.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(Stopped):
            source.read()
        thread.join()
        assert not storage.over.is_set()


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_an_interrupt_when_nothing_is_read(when: str) -> None:
    with Storage(SMALL) as storage:
        with remote(storage) as source:
            if when != "before":
                source.tail(10)
            if when == "after":
                source.close()
            source.interrupt()
        assert len(storage.asked) == (when != "before")
