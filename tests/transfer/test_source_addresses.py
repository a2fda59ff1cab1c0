"""Signed addresses: renewed, redirected, and never told to anybody."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable

import pytest

from kagglecrawl.kaggle.errors import KaggleError, NoReply, Unusable
from kagglecrawl.transfer.source import Changed
from tests.transfer.stand import (
    SECRET,
    Asked,
    Reply,
    Storage,
    everything,
    garbage,
    head,
    nothing,
    remote,
    status,
)

DATA = random.Random(1).randbytes(3_000_000)
SMALL = DATA[:50_000]


# -- the address -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_an_address_that_has_expired_is_renewed_once(code: int) -> None:
    renewals = []

    def renew() -> str:
        renewals.append(1)
        return storage.url.replace("bundle", f"new{len(renewals)}")

    with Storage(DATA) as storage, remote(storage, renew=renew) as source:
        storage.script = lambda asked: status(code) if "/bundle/" in asked.path else None
        source.tail(10)
        source.seek(0)
        assert everything(source) == DATA
        assert len(renewals) == 1
        assert source.meter.again == {"url_renewed": 1}


def test_an_address_can_expire_every_few_megabytes() -> None:
    """The new one works for a while, and so on."""
    renewals: list[str] = []

    def renew() -> str:
        renewals.append(f"/new{len(renewals) + 1}/")
        return storage.url.replace("/bundle/", renewals[-1])

    used = set()

    def script(asked: Asked) -> Reply | None:
        if asked.range == "-10":
            return None
        if asked.path in used or not renewals or renewals[-1] not in asked.path:
            return status(403)
        used.add(asked.path)
        return storage.object.cut(asked, 1_400_000)

    with Storage(DATA, script) as storage, remote(storage, renew=renew) as source:
        source.tail(10)
        source.seek(0)
        assert everything(source) == DATA
        assert renewals == ["/new1/", "/new2/", "/new3/"]


def test_a_new_address_that_is_refused_as_well() -> None:
    with Storage(SMALL, lambda _: status(403)) as storage:
        with remote(storage, renew=lambda: storage.url) as source, pytest.raises(Unusable) as got:
            source.tail(10)
        assert got.value.slug == "storage_refused"
        assert str(got.value) == "storage answered 403 to a new URL"
        assert len(storage.asked) == 2


def test_what_renewing_raises_is_raised() -> None:
    class Refused(Exception):
        pass

    def renew() -> str:
        raise Refused

    with (
        Storage(SMALL, lambda _: status(403)) as storage,
        remote(storage, renew=renew) as source,
        pytest.raises(Refused),
    ):
        source.tail(10)


def test_redirects_are_followed_a_few_times_and_looked_at_each_time() -> None:
    seen = []

    def follow(location: str, base: str) -> str:
        seen.append((location, base.removeprefix(storage.address)))
        return storage.address + location

    def script(asked: Asked) -> Reply | None:
        hop = int(asked.path[-1]) if asked.path.startswith("/hop") else 0
        return status(302, Location=f"/hop{hop + 1}") if hop < 3 else None

    with Storage(SMALL, script) as storage, remote(storage, follow=follow) as source:
        assert source.tail(10) == SMALL[-10:]
        assert seen == [
            ("/hop1", f"/bundle/archive.zip?{SECRET}"),
            ("/hop2", "/hop1"),
            ("/hop3", "/hop2"),
        ]
        assert all(each.range == "-10" for each in storage.asked)


@pytest.mark.parametrize(
    "location",
    ["/bundle/archive.zip", "", None, "http://evil.example/x", "file:///etc/passwd", "//evil.ex/"],
)
def test_redirects_that_lead_nowhere(location: str | None) -> None:
    given = {} if location is None else {"Location": location}
    with Storage(SMALL, lambda _: status(302, **given)) as storage:
        with remote(storage) as source, pytest.raises(Unusable) as caught:
            source.tail(10)
        assert caught.value.slug == "redirect_refused"
        assert len(storage.asked) <= 4


# -- secrets ---------------------------------------------------------------------------------------


def headers_broken(_: Asked) -> Reply:
    return [
        b"HTTP/1.1 206 -\r\nContent-Range: bytes 49990-49999/50000\r\nno colon here\r\n\r\n",
        SMALL[-10:],
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        nothing,
        garbage,
        headers_broken,
        lambda _: status(403),
        lambda _: status(500),
        lambda _: status(302, Location="http://evil.example/"),
        lambda _: status(302, Location=f"https://evil.example/?{SECRET}"),
        lambda _: [head(206, {"Content-Range": f"bytes {SECRET}"})],
        lambda _: [head(200, {"Transfer-Encoding": "chunked"}), b"x"],
    ],
)
def test_no_address_in_a_log_or_in_what_is_raised(
    trouble: Callable[[Asked], Reply], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Storage(SMALL, trouble) as storage:
        with remote(storage, renew=lambda: storage.url) as source:
            try:
                source.tail(10)
                everything(source)
            except (KaggleError, Changed) as error:
                shown = "".join(traceback.format_exception(error))
                assert SECRET not in shown.replace(f"bytes {SECRET}", "")
        assert storage.asked
    assert SECRET not in caplog.text
    assert "archive.zip" not in caplog.text


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Storage(SMALL) as storage:
        url = storage.url
    with (
        Storage(SMALL) as storage,
        remote(storage, url=url) as source,
        pytest.raises(NoReply) as caught,
    ):
        source.tail(10)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text
