"""Quotas, and that waiting as long as a 429 says is enough."""

import itertools
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest

from kagglecrawl.replica import quotas as module
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.wire import Reply
from kagglecrawl.replica.world import World
from tests.replica_client import call, named


class Clock:
    """A clock that only moves when told; its wall time has a fraction of a second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.4 + self.now

    def wait_for(self, reply: Reply) -> float:
        """Seconds that the reply's Retry-After asks for."""
        value = reply.headers["Retry-After"]
        if value.isdecimal():
            return float(value)
        return parsedate_to_datetime(value).timestamp() - self.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    yield clock
    monkeypatch.setattr(module, "time", time)


def test_without_a_spec_there_is_no_quota(clock: Clock) -> None:
    quotas = Quotas("download=1/day")
    assert [quotas.refuse("api") for _ in range(100)] == [None] * 100


def test_families_are_separate(clock: Clock) -> None:
    quotas = Quotas("download=1/day", "api=2/second")
    assert quotas.refuse("download") is None
    assert quotas.refuse("download") is not None
    assert quotas.refuse("api") is None


def test_nested_rates_all_hold(clock: Clock) -> None:
    quotas = Quotas("api=2/second,3/minute")
    assert [quotas.refuse("api") for _ in range(2)] == [None, None]
    assert quotas.refuse("api") is not None
    clock.now += 1
    assert quotas.refuse("api") is None
    refused = quotas.refuse("api")
    assert refused is not None
    assert clock.wait_for(refused) >= 59
    clock.now += 59.1
    assert quotas.refuse("api") is None


def test_shapes_and_forms_of_a_429_take_turns_and_the_wait_is_enough(clock: Clock) -> None:
    quotas = Quotas("api=1/second")
    seen = []
    for _ in range(4):
        assert quotas.refuse("api") is None
        clock.now += 0.137
        reply = quotas.refuse("api")
        assert reply is not None
        assert reply.status == 429
        seen.append((b'"error":' in reply.body, reply.headers["Retry-After"].isdecimal()))
        clock.now += clock.wait_for(reply)
    assert seen == list(itertools.product((False, True), (True, False)))
    assert quotas.violations == 0


def test_requests_before_retry_after_are_violations_but_for_those_under_way(clock: Clock) -> None:
    quotas = Quotas("api=1/minute")
    quotas.refuse("api")
    quotas.refuse("api")
    clock.now += module.GRACE / 2
    quotas.refuse("api")  # sent before the 429 was read
    assert quotas.violations == 0
    for _ in range(8):  # each gets a 429 of its own, which is no new excuse
        clock.now += module.GRACE / 2
        quotas.refuse("api")
    assert quotas.violations == 7
    quotas.refuse("download")
    assert quotas.violations == 7
    clock.now += 61
    assert quotas.refuse("api") is None
    assert quotas.violations == 7


@pytest.mark.parametrize(
    "spec", ["", "api", "api=", "web=1/second", "api=0/second", "api=1/week", "api=1/second,"]
)
def test_a_bad_spec_is_named(spec: str) -> None:
    with pytest.raises(ValueError, match="Not a quota"):
        Quotas(spec)


def test_quotas_over_http() -> None:
    with Replica(World(), quotas=Quotas("api=2/minute", "download=1/minute")) as replica:
        ref = replica.world.public()[0].ref
        statuses = [call(replica, "ListDatasets").status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert call(replica, "GetDatasetMetadata", named(ref)).status == 429
        assert call(replica, "DownloadDataset", named(ref)).status == 302
        answer = call(replica, "DownloadDataset", named(ref))
        assert answer.status == 429
        assert "Retry-After" in answer.headers
        assert replica.stats()["requests"]["ListDatasets"] == {"200": 2, "429": 1}
        assert replica.stats()["delivered"] == {"ListDatasets": 2, "DownloadDataset": 1}
