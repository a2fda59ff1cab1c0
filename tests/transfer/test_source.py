"""An object in storage: which bytes are asked for, and which object it is."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import NoReply
from kagglecrawl.transfer.source import ATTEMPTS, Changed, Manners, Remote
from kagglecrawl.transfer.zips import TAIL
from tests.transfer.stand import (
    MODIFIED,
    SECRET,
    Asked,
    Object,
    Reply,
    Storage,
    each_in_turn,
    everything,
    never,
    remote,
    status,
)

DATA = random.Random(1).randbytes(3_000_000)
SMALL = DATA[:50_000]


# -- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 999, 1_000, 1_001, 1_002, 2_000, 50_000])
def test_the_tail_is_not_asked_for_again(size: int) -> None:
    data = DATA[:size]
    with Storage(data) as storage, remote(storage) as source:
        tail = source.tail(1_000)
        assert tail == data[-1_000:]
        assert (source.size, source.validator) == (size, '"one"')
        source.seek(0)
        assert everything(source) == data
        assert storage.ranges == ["-1000"] + ([f"0-{size - 1001}"] if size > 1_000 else [])
        assert source.meter.received == size


@pytest.mark.parametrize("start", [0, 1, 1_999_998, 1_999_999, 2_000_000, 2_000_001, 2_999_999])
def test_at_the_borders_of_the_tail(start: int) -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        source.tail(1_000_000)
        source.seek(start)
        assert everything(source) == DATA[start:]
        source.seek(start)
        assert source.read(1) == DATA[start : start + 1]
        assert source.position == start + 1
        assert everything(source) == DATA[start + 1 :]


def test_behind_the_end_is_nothing_and_nobody_is_asked() -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(100)
        for position in (len(SMALL), len(SMALL) + 1, 10 * len(SMALL)):
            source.seek(position)
            assert source.read() == b""
        source.distrust()
        assert source.read() == b""
        assert storage.ranges == ["-100"]


def test_a_jump_back_and_forth() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        source.tail(1_000)
        for start in (2_000_000, 5, 2_999_500, 1_000_000, 0):
            source.seek(start)
            assert source.read(10) == DATA[start : start + 10]
        assert [each.partition("-")[0] for each in storage.ranges[1:]] == [
            "2000000",
            "5",
            "1000000",
            "0",
        ]


def test_a_seek_to_where_it_is_goes_on_with_the_same_answer() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        source.tail(10)
        source.seek(100)
        source.read(50)
        source.seek(source.position)
        position = source.position
        assert everything(source) == DATA[position:]
        assert len(storage.asked) == 2


def test_no_byte_from_stop_at_on_is_asked_for() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        source.tail(10)
        source.seek(1_000)
        source.stop_at = 1_500
        found = b""
        while len(found) < 500:
            found += source.read()
        assert found == DATA[1_000:1_500]
        source.stop_at = None
        assert everything(source) == DATA[1_500:]
        assert storage.ranges == ["-10", "1000-1499", f"1500-{len(DATA) - 11}"]


def test_what_is_asked_says_who_and_which_object() -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        source.seek(0)
        everything(source)
        first, second = storage.asked
        assert first.headers["accept-encoding"] == second.headers["accept-encoding"] == "identity"
        assert first.headers["user-agent"] == "kagglecrawl"
        assert "if-range" not in first.headers
        assert second.headers["if-range"] == '"one"'
        assert not {"authorization", "cookie", "referer"} & (first.headers | second.headers).keys()


def test_a_netrc_is_nobodys_business(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password s\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        assert "authorization" not in storage.asked[0].headers


def test_a_proxy_is_asked_but_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Storage(SMALL) as storage, Storage(b"") as proxy:
        proxy.script = lambda _: status(502)
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.address.replace("//", "//user:pass@"))
            monkeypatch.delenv(name.upper(), raising=False)
        with remote(storage) as source:
            assert source.tail(10) == SMALL[-10:]
        assert not proxy.asked
        manners = Manners(lambda location, _: location, retry_base=0.001)
        url = f"https://storage.googleapis.com/x?{SECRET}"
        source = Remote(url, never, manners, threading.Event())
        with pytest.raises(NoReply) as caught:
            source.tail(10)
        source.close()
        assert [each.path for each in proxy.asked] == ["storage.googleapis.com:443"] * ATTEMPTS
        shown = "".join(traceback.format_exception(caught.value))
        assert "pass" not in shown
        assert SECRET not in shown


# -- which object it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        ('"one"', MODIFIED, '"one"'),
        ('"one"', None, '"one"'),
        ('W/"one"', MODIFIED, MODIFIED),
        ('W/"one"', None, ""),
        ("one", MODIFIED, MODIFIED),
        (None, MODIFIED, MODIFIED),
        (None, None, ""),
    ],
)
def test_validators(etag: str | None, modified: str | None, validator: str) -> None:
    thing = Object(SMALL, etag, modified)
    with Storage(thing) as storage, remote(storage) as source:
        source.tail(10)
        assert source.validator == validator
        source.seek(0)
        assert everything(source) == SMALL
        assert storage.asked[1].headers.get("if-range", "") == validator


@pytest.mark.parametrize(
    ("hashes", "known"),
    [
        ("crc32c=AAAAAQ==,md5=AAAAAAAAAAAAAAAAAAAAAA==", (1, bytes(16))),
        ("md5=AAAAAAAAAAAAAAAAAAAAAA==, crc32c=AAAAAQ==", (1, bytes(16))),
        ("crc32c=AAAAAA==", (0, None)),
        ("md5=AAAAAAAAAAAAAAAAAAAAAA==", (None, bytes(16))),
        ("crc32c=,md5=", (None, None)),
        ("crc32c=AAAA,md5=AAAA", (None, None)),
        ("crc32c=****", (None, None)),
        ("sha256=AAAAAQ==", (None, None)),
        (None, (None, None)),
    ],
)
def test_hashes(hashes: str | None, known: tuple[int | None, bytes | None]) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        storage.script = lambda _: storage.object.part(0, len(SMALL), x_goog_hash=hashes)
        source.tail(TAIL)
        assert (source.crc32c, source.md5) == known


def other(storage: Storage, **changes: object) -> Callable[[Asked], Reply]:
    """Answers of another object that is now in the place of the first."""

    def answer(asked: Asked) -> Reply:
        known = storage.object
        fields = {"data": known.data, "etag": known.etag, "modified": known.modified, **changes}
        storage.object = Object(**fields)  # type: ignore[arg-type]
        return storage.object.answer(asked)

    return answer


@pytest.mark.parametrize(
    "changes",
    [
        {"etag": '"two"'},
        {"data": SMALL + b"x"},
        {"data": SMALL[:-1]},
        {"etag": None},
        {"etag": '"two"', "data": b""},
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_another_object_in_its_place(changes: dict[str, object], position: int) -> None:
    with Storage(SMALL) as storage, remote(storage) as source:
        source.tail(10)
        storage.script = lambda asked: other(storage, **changes)(asked)
        source.seek(position)
        with pytest.raises(Changed):
            everything(source)
        source.forget()
        assert source.tail(10) == storage.object.data[-10:]
        source.seek(0)
        assert everything(source) == storage.object.data


def test_another_object_while_it_is_read() -> None:
    with Storage(DATA) as storage, remote(storage) as source:
        storage.script = each_in_turn(
            storage.object.answer,
            lambda asked: storage.object.cut(asked, 1_000_000),
            lambda asked: other(storage, etag='"two"')(asked),
        )
        source.tail(10)
        source.seek(0)
        with pytest.raises(Changed):
            everything(source)
