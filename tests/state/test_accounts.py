"""Every resource has one account, and the sum is right whatever happens in whatever order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scrapy import Request

from kagglecrawl.kaggle.paging import PAGE_ROWS
from kagglecrawl.state.accounts import BEYOND_SAMPLE, Accounts
from kagglecrawl.state.leases import Lease
from kagglecrawl.state.store import Store, Verdict
from tests.state.helpers import Item, lease_for, output


def accounts_of(store: Store, sample: int | None = None) -> Accounts:
    return Accounts(store, "things", lambda item: f"row of {item.key}", sample)


def store_items(accounts: Accounts, items: list[Item]) -> None:
    accounts.store([accounts.exported(item.key, item, unchanged=False) for item in items])


def says(accounts: Accounts, say: Any, key: str | None = None) -> Lease:
    """A lease whose callback has said so; nothing counts yet."""
    lease = lease_for(lambda _: say(accounts))
    lease.key = key
    output(lease)
    return lease


def listed(keys: dict[str, int], verdicts: dict[str, str] | None = None) -> Any:
    """A callback's word on a page of a list."""

    def say(accounts: Accounts) -> None:
        for key, position in keys.items():
            accounts.discover(key, position)
        for key, reason in (verdicts or {}).items():
            accounts.skip(key, reason)

    return say


def four(accounts: Accounts) -> tuple[int, ...]:
    return tuple(accounts.count(name) for name in ("stored", "skipped", "failed", "pending"))


# -- what a callback says --------------------------------------------------------------------------


def test_nothing_counts_before_it_is_acknowledged(store: Store) -> None:
    accounts = accounts_of(store)

    def say(accounts: Accounts) -> None:
        assert accounts.discover("a", 0)
        assert not accounts.discover("a", 7), "seen by this callback already"
        accounts.discover("b", 1)
        accounts.skip("b", "usability")
        accounts.fail("c", "unreadable")
        accounts.note("ended/end")

    lease = says(accounts, say)
    assert accounts.counts() == {}
    assert accounts.balanced()
    accounts.apply(lease)
    assert accounts.counts() == {
        "discovered": 3,
        "ended/end": 1,
        "failed": 1,
        "failed/unreadable": 1,
        "pending": 1,
        "seen_again": 1,
        "skipped": 1,
        "skipped/usability": 1,
    }
    assert accounts.pending == 1
    assert accounts.reasons("skipped") == {"usability": 1}
    assert accounts.balanced()


def test_outside_of_a_callback_it_counts_at_once(store: Store) -> None:
    """As in ``start()``."""
    accounts = accounts_of(store)
    assert accounts.discover("a")
    assert not accounts.discover("a")
    accounts.fail("a", "x")
    accounts.note("seen_again", 2)
    assert four(accounts) == (0, 0, 1, 0)
    assert accounts.count("seen_again") == 3
    assert accounts.balanced()


def test_two_who_discover_the_same_count_it_once(store: Store) -> None:
    """Lists are re-sorted while they are walked; neither knows of the other."""
    accounts = accounts_of(store)
    first = says(accounts, listed({"a": 0}))
    second = says(accounts, listed({"a": 20}, {"a": "usability"}))
    accounts.apply(second)
    accounts.apply(first)
    assert (accounts.count("discovered"), accounts.count("seen_again")) == (1, 1)
    assert four(accounts) == (0, 1, 0, 0)
    assert accounts.balanced()


def test_a_verdict_is_for_good_but_a_failure_can_be_made_good(store: Store) -> None:
    accounts = accounts_of(store)
    for key in ("stored", "skipped"):
        accounts.discover(key)
    store_items(accounts, [Item("stored")])
    accounts.skip("skipped", "below")
    for key in ("stored", "skipped"):
        accounts.fail(key, "late")
        accounts.skip(key, "later")
        store_items(accounts, [Item(key)])
    assert four(accounts) == (1, 1, 0, 0)
    assert accounts.reasons("skipped") == {"below": 1}
    accounts.fail("x", "one")
    accounts.fail("x", "two")
    assert accounts.reasons("failed") == {"two": 1}
    store_items(accounts, [Item("x")])
    assert four(accounts) == (2, 1, 0, 0)
    assert accounts.reasons("failed") == {}
    assert accounts.balanced()


def test_a_broken_lease_fails_its_resource_and_says_nothing_else(store: Store) -> None:
    accounts = accounts_of(store)
    accounts.discover("a")
    says(accounts, listed({"b": 1}, {"a": "usability"}), "a")
    accounts.broken("a", "callback_KeyError")
    accounts.broken("never seen", "no_reply")
    assert four(accounts) == (0, 0, 2, 0)
    assert accounts.count("lists_failed") == 0
    accounts.broken(None, "no_reply")
    assert accounts.count("lists_failed") == 1
    assert accounts.balanced()


def test_a_declared_failure_counts_together_with_what_was_said(store: Store) -> None:
    """A page of a list that could not be had: the page after it is asked for instead."""
    accounts = accounts_of(store)
    lease = says(accounts, listed({"b": 1}))
    lease.error, lease.declared = "server_error", True
    accounts.apply(lease)
    assert accounts.count("lists_failed") == 1
    assert four(accounts) == (0, 0, 0, 1)


def test_the_next_run_opens_what_has_failed_and_nothing_else(store: Store) -> None:
    accounts = accounts_of(store)
    for key in ("failed", "skipped", "stored", "pending"):
        accounts.discover(key)
    accounts.fail("failed", "x")
    accounts.skip("skipped", "y")
    store_items(accounts, [Item("stored")])
    accounts.broken(None, "x")
    for each in ("failed", "failed", "skipped", "stored", "pending", "unknown", None):
        accounts.reopen(each)
    assert four(accounts) == (1, 1, 0, 2)
    assert accounts.reasons("failed") == {}
    assert accounts.count("lists_failed") == 0
    assert accounts.balanced()


def test_what_is_open_at_the_end_gets_a_verdict(store: Store) -> None:
    accounts = accounts_of(store)
    for number in range(50):
        accounts.discover(f"{number}")
    accounts.skip("7", "below")
    accounts.close_open(Verdict.FAILED, "nothing_came_of_it")
    assert four(accounts) == (0, 1, 49, 0)
    assert accounts.balanced()


@pytest.mark.parametrize(
    ("say", "missing"),
    [
        (lambda accounts: None, True),
        (lambda accounts: accounts.skip("a", "x"), False),
        (lambda accounts: accounts.fail("a", "x"), False),
        (lambda accounts: accounts.skip("b", "x"), True),
        (lambda accounts: accounts.discover("a"), True),
    ],
)
def test_a_lease_that_says_nothing_of_its_own_resource_is_noticed(
    store: Store, say: Any, missing: bool
) -> None:
    accounts = accounts_of(store)
    accounts.discover("a")
    lease = says(accounts, say, "a")
    assert accounts.missing_verdict(lease) is missing
    lease.children.append(Request("https://h/b", meta={"key": "b"}))
    lease.items.append(Item("b"))
    assert accounts.missing_verdict(lease) is missing
    lease.key = None
    assert not accounts.missing_verdict(lease), "a list is for nobody in particular"


def test_an_item_a_child_or_an_earlier_verdict_will_do(store: Store) -> None:
    accounts = accounts_of(store)
    accounts.discover("a")
    lease = says(accounts, lambda _: None, "a")
    lease.children.append(Request("https://h/b", meta={"key": "a"}))
    assert not accounts.missing_verdict(lease)
    lease.children, lease.items = [], [Item("a")]
    assert not accounts.missing_verdict(lease)
    lease.items = []
    assert accounts.missing_verdict(lease)
    store_items(accounts, [Item("a")])
    assert not accounts.missing_verdict(lease)


# -- the sum ---------------------------------------------------------------------------------------


def test_a_sum_that_is_wrong_is_noticed(store: Store) -> None:
    accounts = accounts_of(store)
    for key in "abc":
        accounts.discover(key)
    accounts.skip("a", "x")
    assert accounts.balanced()
    for name, other in [("stored", "pending"), ("skipped", "failed"), ("discovered", "x")]:
        store.add_count(name)
        store.add_count(other, -1)
        assert not accounts.balanced(), name
        store.add_count(name, -1)
        store.add_count(other)
    assert accounts.balanced()
    store.settle("b", Verdict.STORED, "")
    assert not accounts.balanced(), "the counts agree with each other, not with the resources"


@pytest.mark.parametrize("seed", range(30))
def test_the_sum_is_right_after_whatever_happens(store: Store, seed: int) -> None:
    """Leases that overlap, are acknowledged or broken, over several runs of the job."""
    dice = random.Random(seed)
    accounts = accounts_of(store, dice.choice([None, None, 15]))
    keys = [f"{number}" for number in range(40)]
    under_way: list[Lease] = []

    def say(accounts: Accounts) -> None:
        for _ in range(dice.randint(0, 6)):
            key = dice.choice(keys)
            word = dice.randrange(5)
            if word <= 1:
                accounts.discover(key, dice.choice([None, dice.randrange(60)]))
            elif word == 2:
                accounts.skip(key, dice.choice(["x", "y"]))
            elif word == 3:
                accounts.fail(key, dice.choice(["x", "z"]))
            else:
                accounts.note("noted")

    def hand_out() -> None:
        key = dice.choice([None, *keys])
        if key:
            accounts.discover(key)
            accounts.begin(key)
        under_way.append(says(accounts, say, key))

    def acknowledge() -> None:
        if under_way:
            lease = under_way.pop(dice.randrange(len(under_way)))
            lease.declared = dice.random() < 0.2
            lease.error = "declared" if lease.declared else ""
            accounts.apply(lease)
            store_items(accounts, [Item(lease.key)] if lease.key and dice.random() < 0.7 else [])

    def break_() -> None:
        if under_way:
            accounts.broken(under_way.pop().key, dice.choice(["x", "z"]))

    def reopen() -> None:
        nonlocal accounts
        under_way.clear()
        store.commit()
        accounts = accounts_of(store, accounts._sample)
        for key in keys:
            accounts.reopen(key)

    def lose() -> None:
        """The process is killed."""
        nonlocal accounts
        under_way.clear()
        store.rollback()
        accounts = accounts_of(store, accounts._sample)

    for number in range(300):
        dice.choice([*[hand_out] * 6, *[acknowledge] * 5, break_])()
        if number % 50 == 49:
            dice.choice([reopen, lose])()
        assert accounts.balanced(), number
        for verdict in ("skipped", "failed"):
            assert sum(accounts.reasons(verdict).values()) == accounts.count(verdict)
        assert accounts._admitted == (store.admitted() if accounts._sample else 0)
    accounts.close_open(Verdict.SKIPPED, "over")
    assert accounts.pending == 0
    assert accounts.balanced()


# -- a sample --------------------------------------------------------------------------------------


def test_without_a_sample_there_is_always_room(store: Store) -> None:
    accounts = accounts_of(store)
    accounts.discover("a")
    accounts.begin("a")
    assert accounts.room()
    assert not accounts.sated()


def test_a_sample_begins_no_more_than_it_may_need(store: Store) -> None:
    accounts = accounts_of(store, 3)
    for key in "abcde":
        accounts.discover(key)
    for key in "aab":
        accounts.begin(key)
        assert accounts.room()
    accounts.begin("c")
    assert not accounts.room(), "all three may come to something"
    accounts.skip("b", "x")
    assert accounts.room(), "one has not"
    accounts.begin("d")
    assert not accounts.room()
    accounts.broken("d", "no_reply")
    assert accounts.room()
    store_items(accounts, [Item("a"), Item("c")])
    assert (accounts.room(), accounts.sated()) == (True, False)
    accounts.begin("e")
    store_items(accounts, [Item("e")])
    assert (accounts.room(), accounts.sated()) == (False, True)


def test_the_next_run_knows_what_was_begun(store: Store) -> None:
    accounts = accounts_of(store, 2)
    for key in "abc":
        accounts.discover(key)
    accounts.begin("a")
    store_items(accounts, [Item("a")])
    accounts.begin("b")
    store.commit()
    again = accounts_of(store, 2)
    assert again.stored_before == 1
    assert not again.room()
    again.fail("b", "x")
    assert again.room()
    again.reopen("b")
    assert again.room(), "it failed; whoever comes next may be the one"
    again.begin("b")
    assert not again.room()


# -- pages -----------------------------------------------------------------------------------------


def covered(accounts: Accounts, start: int, stop: int) -> None:
    lease = says(accounts, lambda _: None)
    lease.covered = (start, stop)
    accounts.apply(lease)


def whole(store: Store, page: int) -> bool:
    return store.page_is_whole(page, PAGE_ROWS, (BEYOND_SAMPLE,))


def test_a_page_is_twenty_rows_of_the_list_whatever_the_wire_gives(store: Store) -> None:
    """Answers of 30 rows: each page is whole when all of its answers are there."""
    accounts = accounts_of(store)
    rows = {f"{position}": position for position in range(60)}
    accounts.apply(says(accounts, listed(rows)))
    store_items(accounts, [Item(key) for key in rows])
    covered(accounts, 0, 30)
    assert [whole(store, page) for page in (1, 2, 3)] == [True, False, False]
    assert accounts.touched == {1, 2, 3}
    covered(accounts, 30, 60)
    assert [whole(store, page) for page in (1, 2, 3)] == [True, True, True]
    assert list(store.page_rows(2)) == [f"row of {position}" for position in range(20, 40)]


def test_a_page_waits_for_the_last_of_its_rows(store: Store) -> None:
    accounts = accounts_of(store)
    accounts.apply(says(accounts, listed({"a": 0, "b": 1, "c": 2})))
    covered(accounts, 0, 20)
    store_items(accounts, [Item("b")])
    accounts.skip("a", "below")
    assert not whole(store, 1)
    accounts.touched.clear()
    accounts.fail("c", "no_reply")
    assert accounts.touched == {1}
    assert whole(store, 1)
    assert list(store.page_rows(1)) == ["row of b"]
    store.page_written(1)
    accounts.touched.clear()
    accounts.reopen("c")
    assert accounts.touched == {1}
    assert (whole(store, 1), store.pages()) == (False, [(1, False)])
    store_items(accounts, [Item("c")])
    assert whole(store, 1)
    assert list(store.page_rows(1)) == ["row of b", "row of c"]


def test_a_page_that_a_sample_does_not_need_is_none(store: Store) -> None:
    accounts = accounts_of(store, 1)
    accounts.apply(says(accounts, listed({"a": 0, "b": 1})))
    covered(accounts, 0, 20)
    store_items(accounts, [Item("a")])
    accounts.close_open(Verdict.SKIPPED, BEYOND_SAMPLE)
    assert not whole(store, 1)


def test_a_resource_belongs_to_the_page_where_it_was_first_seen(store: Store) -> None:
    accounts = accounts_of(store)
    accounts.apply(says(accounts, listed({"a": 19})))
    accounts.apply(says(accounts, listed({"a": 20, "b": 21})))
    store_items(accounts, [Item("a"), Item("b")])
    assert list(store.page_rows(1)) == ["row of a"]
    assert list(store.page_rows(2)) == ["row of b"]
