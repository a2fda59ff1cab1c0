"""An object in storage, from servers that give other parts than they were asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from kagglecrawl.kaggle.errors import KaggleError, Unusable
from kagglecrawl.transfer.source import Changed
from tests.transfer.stand import (
    Asked,
    Reply,
    Storage,
    each_in_turn,
    everything,
    head,
    remote,
    status,
)

DATA = random.Random(1).randbytes(3_000_000)
SMALL = DATA[:50_000]


# -- parts that are none ---------------------------------------------------------------------------


def test_no_ranges_at_all() -> None:
    with Storage(DATA, lambda _: storage.object.whole()) as storage, remote(storage) as source:
        assert source.tail(100) == b""
        assert not source.ranged
        assert source.size == len(DATA)
        source.seek(0)
        assert everything(source) == DATA
        assert len(storage.asked) == 1


def test_no_ranges_and_a_cut() -> None:
    """It can only be read from its beginning again, and nothing may be passed on as the rest."""
    with Storage(DATA) as storage, remote(storage) as source:
        storage.script = lambda asked: (
            [b"".join(storage.object.whole())[:1_000_000]]
            if asked.number == 1
            else storage.object.whole()
        )
        source.tail(100)
        with pytest.raises(Changed):
            everything(source)
        source.forget()
        source.tail(100)
        assert everything(source) == DATA


def chunked(*pieces: bytes) -> Iterator[bytes]:
    yield head(200, {"Transfer-Encoding": "chunked", "ETag": '"one"'})
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.mark.parametrize(
    "reply",
    [
        [head(200, {"ETag": '"one"'}), SMALL],
        [*chunked(SMALL, SMALL), b"0\r\n\r\n"],
        [*chunked(SMALL), b"zz\r\n"],
    ],
)
def test_a_whole_of_which_nobody_says_how_much_it_is(reply: Reply) -> None:
    """Where it ends, a cut could not be told from the end."""
    with Storage(b"", lambda _: reply) as storage, remote(storage) as source:
        with pytest.raises(Unusable, match="how long") as caught:
            source.tail(100)
        assert caught.value.slug == "storage_refused"


def test_of_a_tail_never_more_than_was_asked_for() -> None:
    """Some servers do not know of ranges from the end, and would give all of it."""
    size = len(DATA)
    for first, last in ((0, size - 1), (0, 99), (size - 2_000, size - 1), (size - 1_000, size - 2)):
        with Storage(DATA) as storage, remote(storage) as source:
            part = storage.object.part(first, last + 1)
            storage.script = each_in_turn(lambda _, reply=part: reply)  # type: ignore[misc]
            try:
                tail = source.tail(1_000)
            except (KaggleError, Changed):
                pass
            else:
                assert tail in {DATA[-1_000:], b""}
            assert source.meter.received <= 1_000


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "bytes */50000",
        "bytes 0-99/*",
        "bytes 99-0/50000",
        "bytes 0-50000/50000",
        "bytes -5-10/50000",
        "bytes 0-99",
        "items 0-99/50000",
        "bytes 0-99/50000, bytes 200-300/50000",
        f"bytes 0-99/{'9' * 5_000}",
        f"bytes {'9' * 5_000}-{'9' * 5_000}/{'9' * 5_001}",
    ],
)
def test_ranges_that_make_no_sense(given: str | None) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = lambda _: storage.object.part(0, 100, Content_Range=given)
        source.seek(0)
        with pytest.raises(Unusable) as caught:
            everything(source)
        assert caught.value.slug == "storage_refused"
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("first", [0, 99, 101, 49_000])
def test_a_part_that_begins_elsewhere(first: int) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = lambda _: storage.object.part(first, 50_000)
        source.seek(100)
        with pytest.raises(Unusable) as caught:
            source.read()
        assert caught.value.slug == "storage_refused"


def test_parts_shorter_and_longer_than_asked_for() -> None:
    def script(asked: Asked) -> Reply | None:
        span = storage.object.span(asked)
        assert span is not None
        if asked.range.startswith("-"):
            return None
        lengths = (1_000, 7, 3_000_000)
        stop = min(span[0] + lengths[asked.number % 3], len(DATA))
        return storage.object.part(span[0], stop)

    with Storage(DATA[:100_000]) as storage, remote(storage) as source:
        source.tail(500)
        source.seek(3)
        source.stop_at = 2_000
        found = b""
        while len(found) < 1_997:
            found += source.read(100)
        source.stop_at = None
        assert found + everything(source) == storage.object.data[3:]


@pytest.mark.parametrize("by", [-40_000, -1, 1, 16])
def test_a_length_that_is_not_the_ranges(by: int) -> None:
    """The range tells what comes; a body that ends before is asked for on."""
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        length = str(len(SMALL) - 10 + by)
        storage.script = lambda asked: (
            storage.object.part(0, len(SMALL) - 10, Content_Length=length)
            if asked.number == 2
            else None
        )
        source.seek(0)
        assert everything(source) == SMALL


@pytest.mark.parametrize(
    "length", ["9" * 5_000, str(2**63), "-1", "1e5", "0x10", " ", "50000, 50000"]
)
def test_lengths_that_are_none(length: str) -> None:
    """Of the whole: it is either read as one of unknown length, or refused; nothing breaks."""
    with Storage(SMALL) as storage, remote(storage) as source:
        storage.script = lambda _: storage.object.whole(Content_Length=length)
        try:
            source.tail(10)
            assert everything(source) == SMALL
        except (KaggleError, Changed):
            pass
        assert source.size < 2**63


@pytest.mark.parametrize("total", [2**63, 10**30])
def test_totals_that_no_database_holds(total: int) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        given = f"bytes {total - 100}-{total - 1}/{total}"
        storage.script = lambda _: storage.object.part(0, 100, Content_Range=given)
        with pytest.raises(Unusable):
            source.tail(100)


# -- an object of no bytes -------------------------------------------------------------------------


def test_an_empty_object() -> None:
    with Storage(b"") as storage, remote(storage) as source:
        assert source.tail(100) == b""
        assert (source.size, source.ranged, source.validator) == (0, True, "")
        source.seek(0)
        assert source.read() == b""
        assert storage.ranges == ["-100"]


def test_an_empty_object_of_another_server() -> None:
    with Storage(b"", lambda _: storage.object.whole()) as storage, remote(storage) as source:
        assert source.tail(100) == b""
        assert source.size == 0
        assert source.read() == b""


def test_a_range_that_it_does_not_have_any_more() -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = lambda _: status(416, Content_Range="bytes */100")
        source.seek(200)
        with pytest.raises(Changed):
            source.read()
