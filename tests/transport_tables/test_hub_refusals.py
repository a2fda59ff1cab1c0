"""What comes in place of a table of Meta Kaggle, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagglecrawl.config import SettingError
from kagglecrawl.kaggle import errors
from kagglecrawl.kaggle.errors import (
    BadReply,
    CredentialsNeeded,
    CredentialsRefused,
    Damaged,
    KaggleError,
    NoReply,
    NoSpace,
    ServerFailed,
    Throttled,
    Unreachable,
)
from kagglecrawl.metakaggle.table import TableRefused
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.transport.hub import check_hub
from tests.transport_tables.bench import (
    Bench,
    expected,
    hub,
    run,
    world,
)


def of(method: str, fault: Fault) -> Rule:
    return Rule(fault, method=method, arrivals=(1,))


REFUSED: list[tuple[Rule, type[KaggleError], str]] = [
    (of("GetDataset", Fault("status", 401)), CredentialsRefused, "GetDataset answered 401"),
    (of("GetDataset", Fault("status", 403)), TableRefused, "meta_kaggle=FOLDER"),
    (of("GetDataset", Fault("html")), BadReply, "a web page"),
    (of("DownloadDataset", Fault("status", 503)), ServerFailed, "Competitions.csv of Meta Kaggle"),
    (of("DownloadDataset", Fault("html")), BadReply, "a web page"),
    (of("storage", Fault("status", 403)), NoReply, "storage answered 403"),
    (of("storage", Fault("html")), BadReply, "a web page"),
    (of("storage", Fault("wrong_hash")), Damaged, "damaged"),
    (of("storage", Fault("cut")), NoReply, "broke off"),
]


@pytest.mark.parametrize(("rule", "error", "text"), REFUSED)
def test_what_comes_in_place_of_a_table_is_said_and_not_kept(
    tmp_path: Path, rule: Rule, error: type[KaggleError], text: str
) -> None:
    async def use(bench: Bench) -> None:
        with pytest.raises(error, match=text) as caught:
            await bench.get()
        assert type(caught.value) is error
        assert "X-Goog" not in str(caught.value)
        assert await bench.all() == expected()

    with Replica(world(), faults=Faults.script([rule])) as replica:
        hub(use, replica, tmp_path)


def test_it_is_asked_again_and_a_retry_after_is_kept_to(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        assert await bench.all() == expected()
        assert bench.stats.get_value("kaggle/retries/throttled") == 1
        assert bench.stats.get_value("kaggle/retries/server_error") == 1

    rules = [
        of("GetDataset", Fault("status", 429, retry_after=1)),
        of("DownloadDataset", Fault("status", 503)),
    ]
    with Replica(world(), faults=Faults.script(rules)) as replica:
        hub(use, replica, tmp_path, KAGGLE_MAX_ATTEMPTS=2)
        assert replica.stats()["retry_after_violations"] == 0


def test_a_retry_after_of_hours_is_not_waited_for(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        with pytest.raises(Throttled) as caught:
            await bench.get()
        assert caught.value.delay == 7200

    rule = of("GetDataset", Fault("status", 429, retry_after=7200))
    with Replica(world(), faults=Faults.script([rule])) as replica:
        hub(use, replica, tmp_path)


def test_a_table_that_kaggle_does_not_have(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        with pytest.raises(TableRefused, match=r"Nothing\.csv of Meta Kaggle cannot be had .*404"):
            await bench.get("Nothing")

    with Replica(world()) as replica:
        hub(use, replica, tmp_path)


def test_nobody_and_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(bench: Bench) -> None:
        with pytest.raises(Unreachable, match="Check the network"):
            await bench.get()

    async def elsewhere(bench: Bench) -> None:
        with pytest.raises(
            errors.Misconfigured, match=r"cannot be fetched from .*meta_kaggle=FOLDER"
        ):
            await bench.get()

    async def full(bench: Bench) -> None:
        with pytest.raises(NoSpace, match="WORKSPACE_MIN_FREE"):
            await bench.get()

    async def anonymous(bench: Bench) -> None:
        with pytest.raises(CredentialsNeeded, match="meta_kaggle=FOLDER"):
            await bench.get()

    run(nowhere, tmp_path / "work", KAGGLE_API_URL="http://127.0.0.1:9/api")
    run(elsewhere, tmp_path / "work", KAGGLE_API_URL="http://127.0.0.1:9")
    with pytest.raises(SettingError, match="meta_kaggle=FOLDER"):
        check_hub("https://kaggle.example.org/api")
    drip = of("storage", Fault("drip", seconds=30))
    with Replica(world(), faults=Faults.script([drip])) as replica:
        hub(full, replica, tmp_path, WORKSPACE_MIN_FREE="100000000GB")
        monkeypatch.delenv("KAGGLE_API_TOKEN")
        hub(anonymous, replica, tmp_path)
