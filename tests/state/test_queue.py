"""The queue: the order, over the edges of what is taken out at a time, and that memory stays
flat."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.state import queue as module
from kagglecrawl.state.queue import Queue
from kagglecrawl.state.store import FILE, Row, Store

WINDOW, MOST = module._WINDOW, module._MOST


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store.in_memory()) as made:
        yield made


def push(queue: Queue, name: str, priority: int = 0, *, family: str = "", key: str = "") -> bool:
    return queue.push(name.encode(), family, priority, key or None, name)


def popped(
    queue: Queue, most: int = 10**6, *, now: float = 0.0, held: dict[str, float] | None = None
) -> list[str]:
    """What is handed out, up to ``most``."""
    found: list[str] = []
    while len(found) < most and (row := queue.pop(now, held or {}, only_begun=False)):
        found.append(row.data)
    return found


def names(*ranges: range) -> list[str]:
    return [f"{number}" for each in ranges for number in each]


# -- the order -------------------------------------------------------------------------------------


def test_the_oldest_first_over_many_windows(store: Store) -> None:
    queue = Queue(store, 1)
    for name in names(range(2000)):
        assert push(queue, name)
    assert popped(queue) == names(range(2000))
    assert not queue.any()
    assert popped(queue) == []


def test_the_highest_priority_first_whenever_it_comes(store: Store) -> None:
    queue, generator = Queue(store, 1), random.Random(1)
    priorities = {f"{number}": generator.choice([-10, 0, 0, 0, 10, 20]) for number in range(2000)}
    waiting: list[str] = []
    for name, priority in priorities.items():
        push(queue, name, priority)
        waiting.append(name)
        if generator.random() < 0.4:
            first = max(waiting, key=lambda each: (priorities[each], -int(each)))
            assert popped(queue, 1) == [first]
            waiting.remove(first)
    assert popped(queue) == sorted(waiting, key=lambda each: (-priorities[each], int(each)))


def test_children_go_before_the_next_page(store: Store) -> None:
    queue, order, next_page = Queue(store, 1), [], 1
    push(queue, "page 1")
    while row := queue.pop(0.0, {}, only_begun=False):
        order.append(row.data)
        if row.data.startswith("page") and next_page < 12:
            for number in range(200):
                push(queue, f"row {number} of page {next_page}", 10)
            next_page += 1
            push(queue, f"page {next_page}")
    assert order == [
        each
        for page in range(1, 13)
        for each in (
            f"page {page}",
            *(f"row {number} of page {page}" for number in range(200) if page < 12),
        )
    ]


@pytest.mark.parametrize("place", [0, WINDOW - 1, WINDOW, WINDOW + 1, MOST, MOST + 1, 1999])
def test_a_pending_one_that_is_pushed_again_is_raised(store: Store, place: int) -> None:
    """Whether it is taken out or not, and once only."""
    queue = Queue(store, 1)
    for name in names(range(2000)):
        push(queue, name)
    assert popped(queue, 1) == ["0"]  # some are taken out now
    again = max(place, 1)
    assert not push(queue, f"{again}", 7)
    assert not push(queue, f"{again}", 3), "never lowered"
    push(queue, "between", 5)
    expected = [f"{again}", "between", *names(range(1, again), range(again + 1, 2000))]
    assert popped(queue) == expected
    assert not push(queue, f"{again}", 99), "known, though it is on its way"
    assert popped(queue) == []


def test_what_is_done_or_failed_is_not_raised_from_the_dead(store: Store) -> None:
    queue = Queue(store, 1)
    push(queue, "a")
    push(queue, "b")
    rows = [row for _ in range(2) if (row := queue.pop(0.0, {}, only_begun=False))]
    store.finish(rows[0].id)
    store.fail(rows[1].id, "x")
    for name in "ab":
        assert not push(queue, name, 9)
    assert popped(queue) == []
    assert not queue.any()


def test_a_request_without_a_fingerprint_is_never_known(store: Store) -> None:
    queue = Queue(store, 1)
    for _ in range(3):
        assert queue.push(None, "", 0, None, "same")
    assert popped(queue) == ["same"] * 3


def test_what_is_put_back_keeps_its_age(store: Store) -> None:
    queue = Queue(store, 1)
    for name in names(range(200)):
        push(queue, name)
    rows = [row for _ in range(40) if (row := queue.pop(0.0, {}, only_begun=False))]
    for row in rows[10:20]:
        queue.put_back(row.id, "", 0, row.data, 0.0)
    assert popped(queue) == names(range(10, 20), range(40, 200))


def test_what_waited_keeps_its_priority_and_its_age(store: Store) -> None:
    queue = Queue(store, 1)
    for name in names(range(100)):
        push(queue, name, 10 if int(name) % 2 else 0)
    rows = {row.data: row for _ in range(3) if (row := queue.pop(0.0, {}, only_begun=False))}
    assert list(rows) == ["1", "3", "5"]
    for name, due in [("1", 30.0), ("3", 20.0), ("5", 30.0)]:
        queue.put_back(rows[name].id, "", 10, name, due)
    assert queue.next_due() == 20.0
    assert popped(queue, 2, now=19.9) == ["7", "9"]
    assert popped(queue, 2, now=20.0) == ["3", "11"]
    assert queue.next_due() == 30.0
    rest = popped(queue, now=31.0)
    assert rest[:3] == ["1", "5", "13"]
    assert len(rest) == 96
    assert queue.next_due() is None


def test_a_held_family_holds_nobody_else(store: Store) -> None:
    queue = Queue(store, 1)
    for number in range(120):
        push(queue, f"api {number}", 9, family="api")
        push(queue, f"web {number}", family="web")
    assert popped(queue, 1) == ["api 0"]
    held = {"api": 60.0}
    assert popped(queue, held=held) == [f"web {number}" for number in range(120)]
    assert queue.any()
    assert queue.families() == {"api"}
    assert popped(queue, now=59.9, held=held) == []
    assert popped(queue, now=60.0, held=held) == [f"api {number}" for number in range(1, 120)]
    assert queue.families() == set()


def test_only_what_was_begun_when_there_is_room_for_nothing_else(store: Store) -> None:
    queue = Queue(store, 1)
    for key in ("begun", "new"):
        store.discover(key, None, None)
    store.admit("begun")
    push(queue, "list", 0)
    push(queue, "step of begun", 20, key="begun")
    push(queue, "of new", 10, key="new")

    def pop() -> str | None:
        row = queue.pop(0.0, {}, only_begun=True)
        return None if row is None else row.data

    assert pop() == "step of begun"
    assert pop() is None
    assert queue.any()
    store.admit("new")
    assert pop() == "of new"
    assert pop() is None, "a list is no work on a resource"
    assert popped(queue) == ["list"]


def test_only_what_was_begun_whatever_stands_before_it(store: Store) -> None:
    """Else a sample would wait for ever for something that nobody hands out."""
    queue = Queue(store, 1)
    for number in range(3 * MOST):
        store.discover(f"{number}", None, None)
        push(queue, f"{number}", 10, family=("a", "b")[number % 2], key=f"{number}")
    row = queue.pop(0.0, {}, only_begun=False)
    assert row is not None
    store.admit("0")
    queue.put_back(row.id, "a", 10, row.data, 0.0)
    again = queue.pop(0.0, {}, only_begun=True)
    assert again is not None
    assert again.data == "0"
    store.admit("1")
    other = queue.pop(0.0, {}, only_begun=True)
    assert other is not None
    assert other.data == "1"


def test_dropping_forgets_all_of_them(store: Store) -> None:
    queue = Queue(store, 1)
    for number in range(300):
        push(queue, f"{number}", number % 3, family=("a", "b")[number % 2])
    (row,) = [queue.pop(0.0, {}, only_begun=False)]
    assert row is not None
    queue.put_back(row.id, "a", 0, row.data, 50.0)
    queue.drop()
    assert not queue.any()
    assert queue.next_due() is None
    assert popped(queue, now=100.0) == []
    assert not push(queue, "5", 9), "they are known all the same"
    assert push(queue, "one more")
    assert popped(queue, now=100.0) == ["one more"]


# -- memory ----------------------------------------------------------------------------------------


def kept(queue: Queue) -> int:
    """How many objects the queue itself holds on to."""
    gc.collect()
    seen: set[int] = set()
    stack = [value for value in vars(queue).values() if not isinstance(value, Store)]
    while stack:
        each = stack.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen.add(id(each))
            stack += gc.get_referents(each)
    return len(seen)


def test_memory_stays_flat_whatever_is_pending(tmp_path: Path) -> None:
    """50,000 in a file, of two families, with pushes and raises in the midst of them."""
    with closing(Store.create(tmp_path / FILE)) as store:
        queue, generator, most = Queue(store, 1), random.Random(2), 0
        for number in range(50_000):
            push(queue, f"{number}", generator.randrange(5), family=("a", "b")[number % 2])
            if number % 10 == 0:
                popped(queue, 1)
            if number % 50 == 0:
                push(queue, f"{generator.randrange(number + 1)}", generator.randrange(9))
            if number % 2500 == 0:
                most = max(most, kept(queue))
        pending = store.open_requests()
        rows = sum(isinstance(each, Row) for each in gc.get_objects())
    assert pending > 40_000
    assert rows <= 2 * (MOST + 1)
    assert most < 8 * 2 * (MOST + 1), "a few objects for each row that is out"


def test_memory_stays_flat_though_everything_that_comes_goes_first(store: Store) -> None:
    """Each belongs before the last of those that are out."""
    queue = Queue(store, 1)
    for name in names(range(WINDOW)):
        push(queue, name)
    assert popped(queue, 1) == ["0"]
    for number in range(5000):
        push(queue, f"child {number}", 10)
    assert kept(queue) < 8 * (MOST + 1)
    children = [f"child {number}" for number in range(5000)]
    assert popped(queue) == [*children, *names(range(1, WINDOW))]


def test_the_last_word_on_a_family(store: Store) -> None:
    """One that is not let through is passed over, and asked about once."""
    queue = Queue(store, 1)
    for number, family in enumerate(["a", "b", "a", "c"]):
        queue.push(None, family, 0, f"k{number}", f"{family}{number}")
    asked: list[str] = []

    def admit(family: str) -> float:
        asked.append(family)
        return 0.0 if family == "c" else 99.0

    row = queue.pop(0.0, {}, only_begun=False, admit=admit)
    assert row is not None
    assert row.data == "c3"
    assert asked == ["a", "b", "c"]
    assert queue.pop(0.0, {"a": 5.0}, only_begun=False, admit=admit) is None
    assert asked[3:] == ["b"]
    rest = [row.data for _ in range(3) if (row := queue.pop(0.0, {}, only_begun=False))]
    assert rest == ["a0", "b1", "a2"]


def test_what_has_begun_waits_for_its_family_too(store: Store) -> None:
    queue = Queue(store, 1)
    for key, family in (("one", "a"), ("two", "b")):
        store.discover(key, None, None)
        store.admit(key)
        queue.push(None, family, 0, key, f"of {key}")

    def admit(family: str) -> float:
        return 9.0 if family == "a" else 0.0

    row = queue.pop(0.0, {}, only_begun=True, admit=admit)
    assert row is not None
    assert row.data == "of two"
    assert queue.pop(0.0, {}, only_begun=True, admit=admit) is None
    assert queue.any()
    assert popped(queue) == ["of one"]
