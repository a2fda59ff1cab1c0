"""The queue beside a model that is a list: whatever happens, it does what the list would do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from kagglecrawl.state.queue import Queue
from kagglecrawl.state.store import State, Store, Verdict


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store.in_memory()) as made:
        yield made


@dataclass
class Entry:
    name: str
    number: int
    family: str
    priority: int
    key: str | None
    state: State = State.PENDING
    due: float = 0.0
    run: int = 1


@dataclass
class Model:
    """What the queue promises, in the simplest way."""

    entries: list[Entry] = field(default_factory=list)
    run: int = 1

    def push(self, name: str, family: str, priority: int, key: str | None, due: float) -> bool:
        for entry in self.entries:
            if entry.name == name:
                if entry.state not in {State.DONE, State.FAILED}:
                    entry.priority = max(priority, entry.priority)
                return False
        number = len(self.entries) + 1
        state = State.WAITING if due else State.PENDING
        self.entries.append(Entry(name, number, family, priority, key, state, due, self.run))
        return True

    def pop(
        self, now: float, held: dict[str, float], begun: set[str] | None = None
    ) -> Entry | None:
        for entry in self.entries:
            if entry.state is State.WAITING and entry.due <= now:
                entry.state = State.PENDING
        first = [
            entry
            for entry in self.entries
            if entry.state is State.PENDING and held.get(entry.family, 0.0) <= now
            if begun is None or entry.key in begun
        ]
        if not first:
            return None
        found = min(first, key=lambda entry: (-entry.priority, entry.number))
        found.state = State.LEASED
        return found

    def reopen(self) -> None:
        self.run += 1
        for entry in self.entries:
            if entry.state in {State.LEASED, State.FAILED}:
                entry.state = State.PENDING


class Trial:
    """The queue and its model, driven by the same dice."""

    FAMILIES = ("", "api", "web")

    def __init__(self, store: Store, seed: int) -> None:
        self.dice = random.Random(seed)
        self.store, self.model, self.queue = store, Model(), Queue(store, 1)
        self.now = 1000.0
        self.held: dict[str, float] = {}
        self.out: list[Entry] = []
        self.begun: set[str] = set()
        #: So that windows fill, and run dry.
        self.flood = self.dice.choice([4, 20, 60])

    def push(self) -> None:
        for _ in range(self.dice.randint(1, self.flood)):
            known = self.model.entries and self.dice.random() < 0.15
            name = (
                self.dice.choice(self.model.entries).name
                if known
                else f"{len(self.model.entries) + 1}"
            )
            family = self.dice.choice(self.FAMILIES)
            priority = self.dice.choice([0, 0, 10, 10, 20, -3])
            key = f"key/{self.dice.randrange(200)}" if self.dice.random() < 0.5 else None
            due = self.now + self.dice.randint(1, 20) if self.dice.random() < 0.1 else 0.0
            expected = self.model.push(name, family, priority, key, due)
            assert self.queue.push(name.encode(), family, priority, key, name, due) is expected

    def pop(self) -> None:
        only_begun = self.dice.random() < 0.2
        for _ in range(self.dice.randint(1, self.flood)):
            begun = self.begun if only_begun else None
            expected = self.model.pop(self.now, self.held, begun)
            row = self.queue.pop(self.now, self.held, only_begun=only_begun)
            if expected is None:
                assert row is None, row
                return
            assert row is not None, expected
            assert (row.id, row.data, row.priority, row.run, row.key) == (
                expected.number,
                expected.name,
                expected.priority,
                expected.run,
                expected.key,
            )
            self.out.append(expected)

    def put_back(self) -> None:
        for _ in range(min(len(self.out), self.dice.randint(1, 8))):
            entry = self.out.pop(self.dice.randrange(len(self.out)))
            entry.family = self.dice.choice(self.FAMILIES)
            entry.priority = self.dice.choice([entry.priority, entry.priority + 1, 0])
            due = self.now + self.dice.randint(1, 20) if self.dice.random() < 0.6 else 0.0
            entry.state, entry.due = (State.WAITING if due else State.PENDING), due
            entry.run = self.model.run
            self.queue.put_back(entry.number, entry.family, entry.priority, entry.name, due)

    def settle(self) -> None:
        for _ in range(min(len(self.out), self.dice.randint(1, 20))):
            entry = self.out.pop(self.dice.randrange(len(self.out)))
            if self.dice.random() < 0.8:
                entry.state = State.DONE
                self.store.finish(entry.number)
            else:
                entry.state = State.FAILED
                self.store.fail(entry.number, "x")

    def begin(self) -> None:
        key = f"key/{self.dice.randrange(200)}"
        self.store.discover(key, None, None)
        if key not in self.begun:
            assert self.store.admit(key)
            self.begun.add(key)
        else:
            self.store.settle(key, Verdict.PENDING, "")  # and its work has ended
            self.begun.remove(key)

    def hold(self) -> None:
        self.held[self.dice.choice(self.FAMILIES)] = self.now + self.dice.randint(1, 15)

    def wait(self) -> None:
        self.now += self.dice.randint(1, 12)

    def reopen(self) -> None:
        self.store.commit()
        self.model.reopen()
        self.store.begin_run()
        self.queue, self.out = Queue(self.store, self.model.run), []

    def check(self) -> None:
        entries = self.model.entries
        waiting = [entry.due for entry in entries if entry.state is State.WAITING]
        pending = {entry.family for entry in entries if entry.state is State.PENDING}
        assert self.queue.any() == bool(waiting or pending)
        assert self.queue.next_due() == min(waiting, default=None)
        assert self.queue.families() >= pending

    def empty(self) -> None:
        """In the end everything comes."""
        self.now += 100.0
        while self.model.pop(self.now, self.held) is not None:
            assert self.queue.pop(self.now, self.held, only_begun=False) is not None
        assert self.queue.pop(self.now, self.held, only_begun=False) is None
        assert not self.queue.any()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_it_does_what_a_list_would_do(store: Store, seed: int) -> None:
    trial = Trial(store, seed)
    steps = [
        *[trial.push] * 5,
        *[trial.pop] * 5,
        *[trial.put_back] * 3,
        *[trial.settle] * 3,
        trial.hold,
        *[trial.begin] * 2,
        *[trial.wait] * 2,
    ]
    for number in range(250):
        trial.dice.choice(steps)()
        if number % 61 == 60:
            trial.reopen()
        trial.check()
    trial.empty()
