"""What the store knows of requests, resources, pages, feeds and counts; and that nothing is
looked for by reading all of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from kagglecrawl.state.store import FeedFile, State, Store, Verdict
from tests.state.helpers import add, state_of

# -- requests --------------------------------------------------------------------------------------


def test_a_fingerprint_is_there_once_and_for_ever(store: Store) -> None:
    number = add(store, "a")
    again = store.add_request(b"a", State.PENDING, "api", 9, 1, None, "other")
    assert again is None
    assert store.find(b"a") == (number, State.PENDING, 0)
    store.finish(number)
    assert store.find(b"a") == (number, State.DONE, 0)
    assert store.add_request(b"a", State.PENDING, "api", 0, 2, None, "x") is None
    assert not store.any_pending()


def test_a_request_without_a_fingerprint_may_come_again(store: Store) -> None:
    numbers = [store.add_request(None, State.PENDING, "", 0, 1, None, "x") for _ in range(3)]
    assert len(set(numbers)) == 3
    assert None not in numbers


def test_requests_are_taken_by_priority_and_then_by_age(store: Store) -> None:
    for name, priority in [("a", 0), ("b", 10), ("c", 0), ("d", 10), ("e", -5)]:
        add(store, name, priority=priority)
    add(store, "other", family="web", priority=99)
    first = store.take("api", 3)
    assert {row.data for row in first} == {"data of a", "data of b", "data of d"}
    assert {row.key for row in first} == {"key/a", "key/b", "key/d"}
    assert [state_of(store, name) for name in "abcde"] == [1, 1, 0, 1, 0]
    rest = store.take("api", 3)
    assert {row.data for row in rest} == {"data of c", "data of e"}
    assert store.take("api", 3) == []
    store.untake([row.id for row in rest])
    assert {row.data for row in store.take("api", 3)} == {"data of c", "data of e"}
    assert store.families() == ["web"]


def test_a_new_run_takes_up_what_was_under_way_and_what_failed(store: Store) -> None:
    names = ("pending", "leased", "waiting", "done", "failed")
    numbers = {name: add(store, name) for name in names}
    store.untake([row.id for row in store.take("api", 9)])
    leased = next(row for row in store.take("api", 2) if row.id == numbers["leased"])
    store.untake([numbers["pending"]])
    store.put_back(numbers["waiting"], "api", 0, 1, "data of waiting", 5e9)
    store.finish(numbers["done"])
    store.fail(numbers["failed"], "server_error")
    assert list(store.failed_requests()) == [("key/failed", "server_error")]
    store.begin_run()
    assert [state_of(store, name) for name in names] == [0, 0, 2, 3, 0]
    assert not list(store.failed_requests())
    rows = {row.id: row for row in store.take("api", 9)}
    assert rows[numbers["failed"]].run == 1, "so that its attempts are counted anew"
    assert rows[numbers["leased"]] == leased, "its attempts were of the run that wrote it"
    assert store.next_due() == 5e9


def test_what_was_begun_is_found_and_taken(store: Store) -> None:
    """What waits is not, nor what has its verdict, nor what nobody has begun."""
    store.prepare_sample()
    numbers = {}
    for name in ("other", "late", "leased", "begun", "waiting", "settled"):
        numbers[name] = add(store, name, priority=11 if name == "begun" else 10)
        store.discover(f"key/{name}", None, None)
        if name != "other":
            assert store.admit(f"key/{name}")
    store.take_one(numbers["leased"])
    store.put_back(numbers["waiting"], "api", 10, 1, "waiting", 5.0)
    store.settle("key/settled", Verdict.SKIPPED, "x")
    assert not store.admit("key/settled"), "there is nothing to begin"
    assert store.begun() == [
        (11, numbers["begun"], "api"),
        (10, numbers["late"], "api"),
        (10, numbers["leased"], "api"),
    ]
    taken = store.take_one(numbers["late"])
    assert taken is not None
    assert (taken.id, taken.data) == (numbers["late"], "data of late")
    assert store.take_one(numbers["late"]) is None, "once"


def test_what_was_begun_is_found(store: Store) -> None:
    """Wherever it stands among the others, and whatever its family."""
    store.prepare_sample()
    store.prepare_sample()
    numbers = {
        name: add(store, name, priority=priority, family=family)
        for name, priority, family in [
            ("begun", 10, "api"),
            ("other", 90, "api"),
            ("waiting", 10, "api"),
            ("leased", 20, "web"),
            ("settled", 10, "api"),
            ("done", 10, "api"),
        ]
    }
    for name in numbers:
        store.discover(f"key/{name}", None, None)
        if name != "other":
            assert store.admit(f"key/{name}")
    store.put_back(numbers["waiting"], "api", 10, 1, "x", 5.0)
    store.settle("key/settled", Verdict.SKIPPED, "x")
    store.finish(numbers["done"])
    assert not store.admit("key/settled"), "there is nothing to begin"
    (leased,) = store.take("web", 1)
    assert store.begun() == [(20, leased.id, "web"), (10, numbers["begun"], "api")]
    row = store.take_one(numbers["begun"])
    assert row is not None
    assert (row.id, row.priority, row.key) == (numbers["begun"], 10, "key/begun")
    assert store.take_one(numbers["begun"]) is None, "it is leased"
    assert store.take_one(numbers["waiting"]) is None
    assert state_of(store, "begun") is State.LEASED


def test_a_failed_request_that_cannot_be_made_again_stays_failed(store: Store) -> None:
    store.add_request(b"a", State.FAILED, "", 0, 1, "k", None, reason="gone")
    store.begin_run()
    assert state_of(store, "a") is State.FAILED
    assert not list(store.failed_requests())


def test_a_priority_is_raised_and_never_lowered(store: Store) -> None:
    number = add(store, "a", priority=5)
    store.raise_priority(number, 3)
    assert store.find(b"a") == (number, State.PENDING, 5)
    store.raise_priority(number, 7)
    assert store.find(b"a") == (number, State.PENDING, 7)


def test_what_waits_is_woken_when_it_is_due(store: Store) -> None:
    dues = {"a": 10.0, "b": 20.0, "c": 20.5}
    for family, (name, due) in zip(("api", "web", "api"), dues.items(), strict=True):
        number = add(store, name)
        store.put_back(number, family, 0, 1, name, due)
    assert (store.next_due(), store.families(), store.any_pending()) == (10.0, [], True)
    assert store.wake(9.9) == []
    assert sorted(store.wake(20.0)) == ["api", "web"]
    assert (store.next_due(), store.families()) == (20.5, ["api", "web"])
    assert store.wake(30.0) == ["api"]
    assert store.next_due() is None


def test_families_are_those_with_something_pending(store: Store) -> None:
    for name, family in [("a", ""), ("b", "web"), ("c", "api"), ("d", "api"), ("e", "zoo")]:
        add(store, name, family=family)
    assert store.families() == ["", "api", "web", "zoo"]
    store.take("", 9)
    store.take("web", 9)
    assert store.families() == ["api", "zoo"]


def test_how_many_are_open(store: Store) -> None:
    numbers = [add(store, f"{n}") for n in range(6)]
    store.take("api", 6)
    store.untake(numbers[:2])
    store.put_back(numbers[2], "api", 0, 1, "x", 5e9)
    store.finish(numbers[3])
    store.fail(numbers[4], "x")
    assert store.open_requests() == 4
    store.drop_pending()
    assert store.open_requests() == 0
    assert not store.any_pending()
    assert state_of(store, "4") is State.FAILED, "what failed is not made good by that"
    assert store.find(b"5") is not None


# -- resources, pages, feeds, counts ---------------------------------------------------------------


def test_a_resource_has_one_place_and_one_verdict(store: Store) -> None:
    assert store.known("a/b") is None
    assert store.discover("a/b", 2, 21)
    assert not store.discover("a/b", 9, 199)
    known = store.known("a/b")
    assert known is not None
    assert (known.verdict, known.reason, known.page, known.admitted) == ("pending", "", 2, False)
    assert store.admit("a/b")
    assert not store.admit("a/b")
    assert not store.admit("never/seen")
    assert (store.admitted(), store.open_keys()) == (1, ["a/b"])
    store.settle("a/b", Verdict.FAILED, "no_reply")
    known = store.known("a/b")
    assert known is not None
    assert (known.verdict, known.reason, known.page, known.admitted) == (
        "failed",
        "no_reply",
        2,
        False,
    )
    assert (store.admitted(), store.open_keys(), store.tally()) == (0, [], {"failed": 1})


def test_a_page_is_whole_when_all_of_it_is_known_and_settled(store: Store) -> None:
    def whole() -> bool:
        return store.page_is_whole(1, 4, ("beyond",))

    keys = ["z", "y", "x", "w"]  # another order than the list's
    for position, key in enumerate(keys):
        store.discover(key, 1, position)
    store.settle("w", Verdict.STORED, "", "row 3")
    store.settle("y", Verdict.SKIPPED, "usability")
    store.settle("z", Verdict.STORED, "", "row 0")
    store.settle("x", Verdict.FAILED, "no_reply")
    assert not whole(), "nobody has listed it"
    store.list_page(1, 2)
    assert not whole(), "half of it was listed"
    store.list_page(1, 2)
    assert whole()
    store.settle("x", Verdict.PENDING, "")
    assert not whole(), "one is pending"
    store.settle("x", Verdict.SKIPPED, "beyond")
    assert not whole(), "one is left out that belongs to it"
    store.settle("x", Verdict.SKIPPED, "usability")
    assert whole()
    assert list(store.page_rows(1)) == ["row 0", "row 3"], "in the list's order"
    assert store.pages() == [(1, False)]
    store.page_written(1)
    assert store.pages() == [(1, True)]
    store.touch_page(1)
    assert store.pages() == [(1, False)]
    store.page_written(1)
    store.list_page(1, 0)
    assert store.pages() == [(1, False)]
    assert not store.page_is_whole(2, 4, ())


def test_a_page_without_a_resource_is_none(store: Store) -> None:
    store.list_page(1, 20)
    assert not store.page_is_whole(1, 20, ())


def test_a_feeds_file_is_kept_as_it_is(store: Store) -> None:
    first = FeedFile("/out/%(batch_id)d.csv", 1, "/out/1.csv", 5, 100, 3, "ab", True, 95)
    second = FeedFile("/out/%(batch_id)d.csv", 2, "/out/2.csv")
    store.put_feed(second)
    store.put_feed(first)
    assert store.feeds() == [first, second]
    second.offset, second.items, second.tail = 2**40, 7, "cd"
    store.put_feed(second)
    found = store.feeds()
    assert found == [first, second]
    assert found[0].closed is True
    assert found[1].closed is False


def test_counts_are_told_by_size_without_zeros(store: Store) -> None:
    for name, by in [("failed/a", 2), ("failed/b", 5), ("failed/c", 5), ("failed", 12), ("x", 1)]:
        store.add_count(name, by)
    store.add_count("x", -1)
    assert list(store.counts("failed/").items()) == [("b", 5), ("c", 5), ("a", 2)]
    assert store.counts() == {"failed": 12, "failed/b": 5, "failed/c": 5, "failed/a": 2}
    assert store.count("never") == 0


# -- nothing reads everything ----------------------------------------------------------------------

#: Those that count all resources, or list all pages and feeds, once in a run.
MAY_READ_ALL = {"tally", "pages", "feeds", "counts"}


def calls(store: Store) -> dict[str, Callable[[], object]]:
    """Every method that looks into the file."""
    return {
        "get": lambda: store.get("run"),
        "find": lambda: store.find(b"1"),
        "raise_priority": lambda: store.raise_priority(1, 9),
        "take": lambda: store.take("api", 32),
        "untake": lambda: store.untake([1]),
        "put_back": lambda: store.put_back(2, "api", 0, 1, "x", 5.0),
        "finish": lambda: store.finish(3),
        "fail": lambda: store.fail(4, "x"),
        "failed_requests": lambda: list(store.failed_requests()),
        "next_due": store.next_due,
        "wake": lambda: store.wake(6.0),
        "families": store.families,
        "any_pending": store.any_pending,
        "begin_run": lambda: store.begin_run(),
        "drop_pending": store.drop_pending,
        "known": lambda: store.known("1"),
        "begun": store.begun,
        "take_one": lambda: store.take_one(1),
        "admit": lambda: store.admit("1"),
        "admitted": store.admitted,
        "settle": lambda: store.settle("1", Verdict.STORED, ""),
        "open_keys": store.open_keys,
        "list_page": lambda: store.list_page(1, 20),
        "touch_page": lambda: store.touch_page(1),
        "page_is_whole": lambda: store.page_is_whole(1, 20, ()),
        "page_rows": lambda: store.page_rows(1),
        "page_written": lambda: store.page_written(1),
    }


def test_nothing_is_found_by_reading_everything(store: Store) -> None:
    """Each statement goes by an index: how long it takes does not depend on what is done."""
    for number in range(500):
        add(store, f"{number}")
        store.discover(f"{number}", 1, number)
    store.prepare_sample()
    statements: list[tuple[str, str]] = []
    database = store._db
    for name, call in calls(store).items():
        database.set_trace_callback(lambda text, name=name: statements.append((name, text)))  # type: ignore[misc]
        call()
    database.set_trace_callback(None)
    looked = [(name, text) for name, text in statements if re.match("SELECT|UPDATE|DELETE", text)]
    assert {name for name, _ in looked} >= calls(store).keys() - {"list_page"}
    for name, text in looked:
        for row in database.execute(f"EXPLAIN QUERY PLAN {text}"):
            step = row[3]
            by_index = " USING " in step or step.startswith(("SEARCH", "SCAN CONSTANT ROW"))
            assert by_index or not step.startswith("SCAN"), (name, text, step)
            assert "AUTOMATIC" not in step, (name, text, "an index that is made for each look")
