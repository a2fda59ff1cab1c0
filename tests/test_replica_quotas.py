"""Quotas, and that waiting as long as a 429 says is enough."""

import itertools
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest

from kagglecrawl.replica import quotas as module
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.quotas import Burst, Quotas
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


def test_what_comes_too_early_is_told_by_family_and_method(clock: Clock) -> None:
    quotas = Quotas("api=1/minute", "download=1/minute")
    for method in ("List", "Get"):
        quotas.refuse("api", method)
    clock.now += module.GRACE / 2
    quotas.refuse("api", "Get")
    clock.now += module.GRACE
    for method in ("List", "Get", "Get"):
        quotas.refuse("api", method)
    quotas.refuse("download", "Download")
    assert quotas.under_way == {"api": 1}
    assert quotas.early == {("api", "List"): 1, ("api", "Get"): 2}
    assert quotas.violations == 3
    quotas.reset()
    assert (quotas.under_way, quotas.violations) == ({}, 0)
    quotas.refuse("api", "Get")  # the wait goes on
    assert quotas.violations == 1


def test_bursts_come_on_top_of_a_rate(clock: Clock) -> None:
    quotas = Quotas("api=5/second", bursts=[Burst("api", every=4, count=3, wait=2)])
    statuses = []
    for _ in range(14):
        reply = quotas.refuse("api")
        statuses.append(reply.status if reply else 200)
        clock.now += clock.wait_for(reply) if reply else 0.21
    assert statuses == 2 * [200, 200, 200, 200, 429, 429, 429]
    assert quotas.refuse("download") is None
    assert quotas.violations == 0
    refused = [quotas.refuse("api") for _ in range(6)]
    assert [reply is None for reply in refused] == [True] * 4 + [False] * 2


def test_what_a_rate_refuses_brings_no_burst_nearer(clock: Clock) -> None:
    quotas = Quotas("api=1/minute", bursts=[Burst("api", every=3)])
    assert [quotas.refuse("api") is None for _ in range(9)] == [True] + [False] * 8
    for _ in range(2):
        clock.now += 60
        assert quotas.refuse("api") is None
    clock.now += 60
    assert quotas.refuse("api") is not None
    clock.now += 2
    assert quotas.refuse("api") is None


@pytest.mark.parametrize("spec", ["", "api", "api=5", "api=0:1:1", "api=5:0:1", "web=5:1:1"])
def test_a_bad_burst_is_named(spec: str) -> None:
    with pytest.raises(ValueError, match="Not a burst"):
        Burst.parse(spec)
    assert Burst.parse("api=50:3:1") == Burst("api", 50, 3, 1)


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
        stats = replica.stats()
        assert stats["delivered"] == {"ListDatasets": 2, "DownloadDataset": 1}
        api, download = stats["families"]["api"], stats["families"]["download"]
        assert (api["answers"], api["429"]) == (4, 2)
        assert (download["answers"], download["429"]) == (2, 1)
        assert api["under_way"] + api["violations"] == 1
        assert sum(stats["violations_by_method"].values()) == stats["retry_after_violations"]


def test_429s_of_every_origin_are_counted_by_family() -> None:
    limits = Quotas("api=1000/second", bursts=[Burst("api", every=2, wait=60)])
    rule = Rule(Fault("status", 429), "GetDatasetMetadata")
    with Replica(World(), quotas=limits, faults=Faults.script([rule])) as replica:
        ref = replica.world.public()[0].ref
        assert call(replica, "GetDatasetMetadata", named(ref)).status == 429
        assert [call(replica, "ListDatasets").status for _ in range(2)] == [200, 429]
        api = replica.stats()["families"]["api"]
        assert (api["answers"], api["429"], api["under_way"] + api["violations"]) == (3, 2, 0)
