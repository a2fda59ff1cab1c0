"""The ledger: what it keeps, whatever comes twice or late."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglecrawl.kaggle.errors import OF_FILES
from kagglecrawl.state.ledger import Known, Ledger, Outcome, Walk
from kagglecrawl.state.ledger_look import Look, Wanted
from tests.state.ledgers import KAGGLE, contents, digest, failed, manifest, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path, KAGGLE, "datasets")) as made:
        yield made


def gone(path: Path, key: str) -> tuple[str, float]:
    with closing(sqlite3.connect(path)) as file:
        found = file.execute("SELECT gone, gone_since FROM resource WHERE key = ?", (key,))
        how, since = found.fetchone()
        return how, since


# -- outcomes --------------------------------------------------------------------------------------


def test_what_is_stored_stays(ledger: Ledger) -> None:
    files = [("data/a.csv", 3, digest("a"), "0a-2"), ("b.csv", 4, digest("b"), "")]
    kept = manifest("output/o_s", 2, 7)
    ledger.apply([stored("o/s", 10, choice="all", manifest=kept, files=files)])
    for outcome in (failed("o/s", 20), Outcome("o/s", "1", "skipped", "usability", "s30", 30)):
        ledger.apply([outcome])
        known = ledger.known("o/s", "1")
        verdict = (outcome.verdict, outcome.reason, outcome.signature, outcome.at)
        assert known == Known("1", *verdict, "s10", False, True, "all", kept, "s10", False, "", "")
        assert ledger.record("o/s", "1") == {"Ref": "o/s", "at": 10}
        assert list(ledger.files("o/s", "1")) == sorted(files)
    ledger.apply([stored("o/s", 40, record=None)])
    known = ledger.known("o/s", "1")
    assert known is not None
    assert (known.verdict, known.signature, known.record_signature) == ("stored", "s40", "s10")
    ledger.apply([stored("o/s", 50, manifest=manifest("", 0))])
    assert list(ledger.files("o/s", "1")) == []
    assert ledger.record("o/s", "1") == {"Ref": "o/s", "at": 50}


def test_what_is_not_known(ledger: Ledger, path: Path) -> None:
    """And looking makes nothing, nor does writing nothing."""
    for _ in range(2):
        assert ledger.known("o/s", "1") is None
        assert ledger.record("o/s", "1") is None
        assert list(ledger.files("o/s", "1")) == []
        assert ledger.holder("output/o_s", "o/s") is None
        if not path.exists():
            ledger.apply([])
            assert ledger.walked("all", 1, [], whole=True) == Walk(0, 0, 0)
            ledger.check()
            assert not path.parent.exists()
            ledger.apply([stored("o/s", 1, version="2"), stored("p/s", 1), failed("q/s", 1)])
    assert ledger.record("q/s", "1") is None
    for whose in ((KAGGLE, "models"), ("loopback", "datasets")):
        with closing(Ledger(path, *whose)) as other:
            assert other.known("p/s", "1") is None


def test_files_are_read_once_and_only_if_they_are_new(ledger: Ledger) -> None:
    read: list[int] = []

    def files(count: int) -> Iterator[tuple[str, int, bytes, str]]:
        for number in range(count):
            read.append(number)
            yield f"{number:05}.csv", number, digest(str(number)), ""

    late = stored("o/s", 5, manifest=manifest("f", 1), files=files(1))
    none = stored("o/s", 20, files=files(1))
    ledger.apply([stored("o/s", 10, manifest=manifest("f", 2500), files=files(2500))])
    ledger.apply([late, none])
    assert read == list(range(2500))
    found: list[tuple[str, int, bytes, str]] = []
    for each in ledger.files("o/s", "1"):
        if len(found) == 1200:  # a look that lasts is in nobody's way
            with closing(Ledger(ledger.path, "loopback", "datasets")) as other:
                other.apply([stored("o/s", 1)])
            ledger.apply([failed("o/s", 30)])
        found.append(each)
    assert [size for _, size, *_ in found] == read


def test_who_holds_a_folder(ledger: Ledger) -> None:
    """Compared as the least exact disk compares."""
    ledger.apply(
        [
            stored("a_b/c", 1, manifest=manifest("out/A_B_C\u00e9", 1, 1)),
            failed("a_b/c", 2),
            stored("x/y", 1, manifest=manifest("", 0)),
        ]
    )
    assert ledger.holder("out/a_b_ce\u0301", "a/b_c") == "a_b/c"
    assert ledger.holder("out/a_b_c\u00e9", "a_b/c") is None
    assert ledger.holder("", "z/z") is None
    with closing(Ledger(ledger.path, KAGGLE, "kernels")) as other:
        assert other.holder("out/a_b_c\u00e9", "a/b_c") is None


def test_half_of_a_surrogate_pair_is_kept(ledger: Ledger) -> None:
    record = {"Content": "\ud83d \x00 \U0001f600"}
    ledger.apply([stored("o/s", 1, record=json.dumps(record, ensure_ascii=False))])
    assert ledger.record("o/s", "1") == record


def test_what_the_giver_raises_is_his(ledger: Ledger, path: Path) -> None:
    """And nothing is taken."""

    def outcomes(error: Exception) -> Iterator[Outcome]:
        yield stored("a/a", 1)
        yield stored("b/b", 1)
        raise error

    def files() -> Iterator[tuple[str, int, bytes, str]]:
        yield "a", 1, digest("a"), ""
        raise sqlite3.OperationalError("database is locked")

    for error in (sqlite3.DatabaseError("of the job"), OSError("of the disk"), KeyError("x")):
        with pytest.raises(type(error)) as raised:
            ledger.apply(outcomes(error))
        assert raised.value is error
    with pytest.raises(sqlite3.OperationalError):
        ledger.apply([stored("c/c", 1, manifest=manifest("f", 2), files=files())])
    assert not any(contents(path).values())
    ledger.apply([stored("d/d", 1)])


# -- lists -----------------------------------------------------------------------------------------


def test_gone_and_back(ledger: Ledger, path: Path) -> None:
    assert ledger.walked("all", 10, ["a/a", "b/b", "c/c"], whole=True) == Walk(3, 0, 0)
    ledger.apply([stored("a/a", 11), stored("b/b", 12), failed("c/c", 13, "not_found")])
    ledger.walked("coffee", 20, ["e/e"], whole=True)
    assert ledger.walked("all", 30, ["b/b"], whole=False) == Walk(1, 0, 0)
    assert gone(path, "a/a") == ("", 0)
    assert ledger.walked("all", 40, ["b/b"], whole=True) == Walk(1, 0, 1)
    assert gone(path, "a/a") == ("not_listed", 40)
    assert gone(path, "c/c") == ("deleted", 13)
    assert gone(path, "e/e") == ("", 0)
    assert ledger.walked("all", 50, ["b/b"], whole=True) == Walk(1, 0, 0)
    assert gone(path, "a/a") == ("not_listed", 40)
    assert ledger.walked("all", 60, ["a/a", "c/c"], whole=False) == Walk(2, 1, 0)
    assert gone(path, "a/a") == ("", 0)
    assert gone(path, "c/c") == ("deleted", 13)
    ledger.apply([stored("c/c", 61, record=None)])
    assert gone(path, "c/c") == ("deleted", 13), "it was emitted again, and not asked for"
    ledger.apply([stored("c/c", 62)])
    assert gone(path, "c/c") == ("", 0)


def test_an_older_walk_that_comes_late(ledger: Ledger, path: Path) -> None:
    ledger.walked("all", 10, ["a/a", "b/b"], whole=True)
    ledger.walked("all", 40, ["a/a"], whole=True)
    before = contents(path)["resource"]
    assert ledger.walked("all", 20, ["a/a"], whole=True) == Walk(1, 0, 0)
    assert ledger.walked("all", 30, ["b/b"], whole=True) == Walk(1, 0, 0)
    assert gone(path, "a/a") == ("", 0)
    assert gone(path, "b/b") == ("not_listed", 40)
    ledger.apply([stored("a/a", 50)])
    assert ledger.walked("all", 45, ["b/b"], whole=True) == Walk(1, 1, 0)
    assert gone(path, "a/a") == ("", 0), "it was there after that walk had begun"
    assert len(before) == len(contents(path)["resource"])


def test_a_narrower_list_takes_nothing_from_a_wider_one(ledger: Ledger, path: Path) -> None:
    ledger.walked("{}", 10, ["a/a", "b/b", "c/c"], whole=True)
    ledger.walked("coffee", 20, ["a/a", "b/b"], whole=True)
    assert ledger.walked("coffee", 30, ["b/b"], whole=True) == Walk(1, 0, 0)
    assert gone(path, "a/a") == ("", 0), "it may be no coffee any more"
    assert ledger.walked("{}", 40, ["b/b", "c/c"], whole=True) == Walk(2, 0, 1)
    assert gone(path, "a/a") == ("not_listed", 40)
    ledger.walked("{}", 42, ["a/a", "b/b"], whole=True)
    ledger.walked("coffee", 44, ["a/a"], whole=True)
    assert ledger.walked("{}", 46, ["b/b"], whole=True).missing == 1, "whatever it once was besides"
    # what only the narrower one has ever had is missing with it
    ledger.walked("coffee", 50, ["b/b", "d/d"], whole=True)
    assert ledger.walked("coffee", 60, ["b/b"], whole=True).missing == 1
    assert gone(path, "d/d") == ("not_listed", 60)


def test_an_empty_walk_tells_nothing(ledger: Ledger, path: Path) -> None:
    ledger.walked("all", 10, ["a/a"], whole=True)
    assert ledger.walked("all", 20, [], whole=True) == Walk(0, 0, 0)
    assert gone(path, "a/a") == ("", 0)


def test_the_newest_version_is_the_one_that_was_listed_last(ledger: Ledger, path: Path) -> None:
    """However late an older job stores what it has seen before."""
    ledger.apply([stored("a/a", 30, version="2", seen=25), stored("a/a", 40, version="1", seen=5)])
    with Look(path) as look:
        assert [row.version for row in look.rows(Wanted())] == ["2"]


def test_what_was_seen_again_is_listed(ledger: Ledger, path: Path) -> None:
    ledger.walked("{}", 10, ["a/a", "b/b"], whole=True)
    ledger.walked("{}", 20, ["b/b"], whole=True)
    assert gone(path, "a/a") == ("not_listed", 20)
    ledger.apply([stored("a/a", 30, record=None, seen=25)])
    assert gone(path, "a/a") == ("", 0)


def test_a_clock_that_was_wrong(ledger: Ledger, path: Path) -> None:
    later = time.time() + 1e6
    ledger.apply([stored("a/a", later, manifest=manifest("f", 0))])
    ledger.walked("{}", later, ["a/a", "b/b"], whole=True)
    ledger.check()
    ledger.apply([stored("a/a", time.time() + 1, signature="new")])
    assert ledger.known("a/a", "1").record_signature == "new"  # type: ignore[union-attr]
    assert ledger.walked("{}", time.time() + 1, ["a/a"], whole=True).missing == 1


def test_what_was_late_to_its_place(ledger: Ledger) -> None:
    ledger.apply([stored("a/a", 10, written=False)])
    assert ledger.known("a/a", "1").written is False  # type: ignore[union-attr]
    ledger.written([("a/a", "1", "another"), ("a/a", "9", "s10"), ("z/z", "1", "s10")])
    assert ledger.known("a/a", "1").written is False  # type: ignore[union-attr]
    ledger.written([("a/a", "1", "s10")])
    assert ledger.known("a/a", "1").written is True  # type: ignore[union-attr]
    ledger.apply([stored("a/a", 15, written=False, signature="s10")])
    assert ledger.known("a/a", "1").written is False, "the same row"  # type: ignore[union-attr]
    ledger.apply([stored("a/a", 20, written=False)])
    assert ledger.known("a/a", "1").written is False, "another record"  # type: ignore[union-attr]


# -- beside a model --------------------------------------------------------------------------------


@dataclass
class Resource:
    """A resource as the model has it: what was seen of it, and when."""

    seen: list[float] = field(default_factory=list)
    listed: float = 0
    missed: float = 0
    members: dict[str, float] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def gone(self) -> str:
        there = max(
            [o.at for o in self.outcomes if o.verdict == "stored" and o.record], default=0.0
        )
        refused = [o.at for o in self.outcomes if o.reason == "not_found"]
        if max(refused, default=0.0) > there:
            return "deleted"
        return "not_listed" if self.missed > max(self.listed, there) else ""

    def known(self, version: str) -> Known | None:
        """By the newest of each kind; of two of one moment by the first."""
        ours = [o for o in self.outcomes if o.version == version]
        if not ours:
            return None
        newest = max(ours, key=lambda o: o.at)
        record, files = self._kept(version)
        return Known(
            version,
            newest.verdict,
            newest.reason,
            newest.signature,
            newest.at,
            record.signature if record else None,
            record is not None and record.at >= newest.at,
            any(_same(each, record) for each in ours),
            files.choice if files else "",
            files.manifest if files else None,
            files.signature if files else None,
            files is not None and self._overwritten(version, files),
            self._refused(ours, files),
            self.gone(),
        )

    def _overwritten(self, version: str, files: Outcome) -> bool:
        """Has another version had files later? All of a resource have one folder here."""
        others = [self._kept(each)[1] for each in VERSIONS if each != version]
        return any(other.at > files.at for other in others if other)

    def _refused(self, ours: list[Outcome], files: Outcome | None) -> str:
        last = max((o for o in ours if o.reason in OF_FILES), key=lambda o: o.at, default=None)
        return last.reason if last and last.at > (files.at if files else 0) else ""

    def kept(self, version: str) -> tuple[Any, list[Any]]:
        """The record, and the files."""
        record, files = self._kept(version)
        return json.loads(record.record or "") if record else None, sorted(
            files.files if files else ()
        )

    def _kept(self, version: str) -> tuple[Outcome | None, Outcome | None]:
        """The outcomes that they are of."""
        ours = [o for o in self.outcomes if o.version == version]
        done = [o for o in ours if o.verdict == "stored"]
        return (
            max((o for o in ours if o.record), key=lambda o: o.at, default=None),
            max((o for o in done if o.manifest), key=lambda o: o.at, default=None),
        )


def _same(stored: Outcome, record: Outcome | None) -> bool:
    """Was this record's row written with this outcome?"""
    if record is None or stored.verdict != "stored" or not stored.record:
        return False
    return (stored.at, stored.signature) == (record.at, record.signature)


KEYS, VERSIONS, LISTS = ("a/a", "b/b"), ("", "1"), ("{}", "coffee")
TIMES = st.integers(1, 6).map(float)


@st.composite
def outcome(draw: st.DrawFn) -> Outcome:
    key, version, at = draw(st.sampled_from(KEYS)), draw(st.sampled_from(VERSIONS)), draw(TIMES)
    verdict = draw(st.sampled_from(("stored", "skipped", "failed")))
    reason = (
        "" if verdict == "stored" else draw(st.sampled_from(("not_found", "forbidden", *OF_FILES)))
    )
    # as it would never be: what is skipped or failed has files that must not count
    record = draw(st.none() | st.integers(0, 99).map(lambda n: f'{{"n": {n}}}'))
    files = draw(st.none() | st.lists(st.sampled_from(("x", "y", "z")), unique=True))
    return Outcome(
        key,
        version,
        verdict,
        reason,
        draw(st.sampled_from("stuv")),
        at,
        record,
        draw(st.sampled_from(("all", "*.csv"))),
        None if files is None else manifest(f"out/{key}", len(files)),
        [(name, int(at), digest(name), f"{at:g}") for name in files or ()],
        # a row that was emitted again has its record from before, which chance does not know
        written=record is not None,
    )


WALK = st.tuples(
    st.sampled_from(LISTS), TIMES, st.lists(st.sampled_from(KEYS), unique=True), st.booleans()
)


def walk(
    model: dict[str, Resource],
    wholes: dict[str, float],
    listing: str,
    began: float,
    keys: list[str],
    whole: bool,
) -> tuple[int, int]:
    """What the model learns of a walk; how many are back, and newly missing."""
    before = {key: each.gone() for key, each in model.items()}
    for key in keys:
        found = model.setdefault(key, Resource())
        found.seen.append(began)
        found.listed = max(found.listed, began)
        found.members[listing] = max(found.members.get(listing, 0), began)
    whole = whole and bool(keys)
    for each in model.values():
        if listing != "{}" and each.members.get("{}", -1) >= wholes.get("{}", 0):
            continue
        if whole and 0 < each.members.get(listing, 0) < began and each.listed < began:
            each.missed = max(each.missed, began)
    if whole:
        wholes[listing] = max(wholes.get(listing, 0), began)
    changes = [(before.get(key, ""), each.gone()) for key, each in model.items()]
    return changes.count(("not_listed", "")), changes.count(("", "not_listed"))


@settings(max_examples=100)
@given(st.lists(st.lists(outcome(), min_size=1, max_size=4) | WALK, max_size=10), st.data())
def test_it_does_what_the_model_does(steps: list[Any], data: st.DataObject) -> None:
    folder = Path(tempfile.mkdtemp())
    path, model, wholes = folder / "ledger.sqlite", dict[str, Resource](), dict[str, float]()
    try:
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            for step in steps:
                if isinstance(step, list):
                    ledger.apply(step)
                    for each in step:
                        model.setdefault(each.key, Resource()).outcomes.append(each)
                        model[each.key].seen.append(each.at)
                else:
                    expected = Walk(len(step[2]), *walk(model, wholes, *step))
                    assert ledger.walked(*step[:3], whole=step[3]) == expected
                compare(ledger, model)
            outcomes = [each for step in steps if isinstance(step, list) for each in step]
            if outcomes:
                before = contents(path)
                ledger.apply(data.draw(st.permutations(outcomes)))
                assert contents(path) == before, "the same again changes nothing"
    finally:
        shutil.rmtree(folder)


def compare(ledger: Ledger, model: dict[str, Resource]) -> None:
    found = contents(ledger.path) if ledger.path.exists() else {"resource": [], "listed": []}
    keys = {row[0]: row[3] for row in found["resource"]}
    assert {row[3]: (*row[4:8], row[10]) for row in found["resource"]} == {
        key: (min(each.seen), max(each.seen), each.listed, each.missed, each.gone())
        for key, each in model.items()
    }
    assert {(keys[number], listing): at for listing, number, at in found["listed"]} == {
        (key, listing): at for key, each in model.items() for listing, at in each.members.items()
    }
    for key, version in product(KEYS, VERSIONS):
        known = model[key].known(version) if key in model else None
        assert ledger.known(key, version) == known
        kept = model[key].kept(version) if known else (None, [])
        assert (ledger.record(key, version), list(ledger.files(key, version))) == kept
