"""A walk through what the ledger has: by key, whatever the keys hold, while it is written."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.state import ledger_each
from kagglecrawl.state.ledger import Ledger, Outcome
from kagglecrawl.state.ledger_look import Shelf
from tests.state.ledgers import failed, stored


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite", "loopback", "episodes")) as made:
        yield made


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_each, "_PIECE", 3)


def keys(ledger: Ledger, prefix: str) -> list[str]:
    return [entry.key for entry in ledger.each(prefix)]


def test_a_ledger_that_is_not_there_has_none(ledger: Ledger) -> None:
    assert keys(ledger, "") == []
    assert not ledger.path.exists(), "to look makes no file"


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a%", "a_", "a*", "a[", "a/1", "é", "z", "\U0010ffff"]
)
def test_a_prefix_means_itself_and_no_more(ledger: Ledger, prefix: str) -> None:
    """Nothing of a pattern's, in none of the languages of patterns, and no case is like another."""
    wild = ["a%/1", "a_/1", "a*/1", "a[b]/1", "ab/1", "a", "A/1", "é/1", "e\u0301/1"]
    many = [f"a/{number}" for number in range(10)]
    last = ["z", "\U0010ffff\U0010ffff", "\ufffd"]
    ledger.apply(stored(key, 1) for key in (*wild, *many, *last))
    expected = sorted(key for key in (*wild, *many, *last) if key.startswith(prefix))
    assert keys(ledger, prefix) == expected


def test_only_what_is_of_this_source_and_resource(ledger: Ledger) -> None:
    for whose in (("https://api.kaggle.com", "episodes"), ("loopback", "datasets")):
        with closing(Ledger(ledger.path, *whose)) as other:
            other.apply([stored("halite/1", 1)])
    ledger.apply([stored("halite/2", 1)])
    ledger.walked("all", 1, ["halite/3"], whole=True)
    assert keys(ledger, "halite/") == ["halite/2"], "of one that was only listed no more is known"


def test_the_newest_version_with_its_record(ledger: Ledger) -> None:
    ledger.apply(
        [
            stored("k/1", 1, "1", seen=1, record='{"n": 1}'),
            stored("k/1", 2, "2", seen=2, record='{"n": 2}'),
            # asked for later, but seen on the list earlier
            stored("k/1", 3, "3", seen=1.5, record='{"n": 3}'),
            stored("k/2", 4, record='{"n": 4}'),
            failed("k/2", 5, "not_found"),
            Outcome("k/3", "", "skipped", "listed", "sig", 6, '{"kind": "team"}'),
        ]
    )
    assert [tuple(entry) for entry in ledger.each("k/")] == [
        ("k/1", "2", "stored", "", "s2", 2, {"n": 2}),
        ("k/2", "1", "failed", "not_found", "s5", 5, {"n": 4}),
        ("k/3", "", "skipped", "listed", "sig", 6, {"kind": "team"}),
    ]
    (second,) = ledger.each("k/2")
    assert (second.key, second.reason, second.record) == ("k/2", "not_found", {"n": 4})


@pytest.mark.parametrize("kept", ["{", "[1]", '"text"', "null", None])
def test_what_is_no_record_is_none(ledger: Ledger, kept: str | None) -> None:
    ledger.apply([stored("k/1", 1, record=None), stored("k/2", 1, record='{"n": 1}')])
    with closing(sqlite3.connect(ledger.path)) as file:
        file.execute(
            "UPDATE version SET record = ? WHERE resource = "
            "(SELECT id FROM resource WHERE key = 'k/1')",
            (kept,),
        )
        file.commit()
    assert [entry.record for entry in ledger.each("k/")] == [None, {"n": 1}]


def test_whoever_walks_may_write(ledger: Ledger) -> None:
    """Every key once: those behind as they were, those ahead as they are."""
    ledger.apply(stored(f"k/{number}", 1) for number in range(8))
    found = []
    for entry in ledger.each("k/"):
        found.append((entry.key, entry.verdict))
        ledger.apply([failed(f"k/{number}", 2) for number in (0, 7)] + [stored("k/9", 1)])
        with closing(sqlite3.connect(ledger.path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert [key for key, _ in found] == [f"k/{number}" for number in (*range(8), 9)]
    verdicts = dict(found)
    assert (verdicts["k/0"], verdicts["k/6"], verdicts["k/7"]) == ("stored", "stored", "failed")


def test_it_holds_a_piece_and_not_all(ledger: Ledger) -> None:
    text = json.dumps({"text": "x" * 2000})
    ledger.apply(stored(f"k/{number}", 1, record=text) for number in range(1000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in ledger.each("k/")) == 1000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_shelf_walks_through_all_sources(ledger: Ledger) -> None:
    ledger.apply([stored("b/1", 1), stored("a/1", 1)])
    with closing(Ledger(ledger.path, "https://api.kaggle.com", "episodes")) as other:
        other.apply([stored("c/1", 1)])
    with Shelf(ledger.path) as shelf:
        found = [(source, entry.key) for source, entry in shelf.each("episodes")]
        assert list(shelf.each("datasets")) == []
    kaggle = "https://api.kaggle.com"
    assert found == [(kaggle, "c/1"), ("loopback", "a/1"), ("loopback", "b/1")]
