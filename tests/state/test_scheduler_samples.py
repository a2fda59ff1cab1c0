"""A sample is exactly as many rows as were asked for, and it never stands still, whatever comes of
its requests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import Response

from kagglecrawl.state.accounts import BEYOND_SAMPLE
from tests.state.helpers import Item
from tests.state.stand import Clock, Stand, ask, name_of

ROWS = 60


class World:
    """A list of three pages, and what comes of each row, by the dice."""

    def __init__(self, dice: random.Random, good: float) -> None:
        self.dice = dice
        self.outcome = {
            position: dice.choices(
                ["row", "two steps", "skip", "fail", "nothing"],
                [good, good / 2, 1 - good, (1 - good) / 3, (1 - good) / 3],
            )[0]
            for position in range(ROWS)
        }
        self.good = sum(each in {"row", "two steps"} for each in self.outcome.values())

    def teach(self, stand: Stand) -> None:
        for page in range(3):
            stand.spider.outputs[f"list{page}"] = self._listed(stand, page)
        for position, outcome in self.outcome.items():
            stand.spider.outputs[f"row{position}"] = self._row(stand, position, outcome)
            stand.spider.outputs[f"step{position}"] = self._row(stand, position, "row")

    def _listed(self, stand: Stand, page: int) -> Any:
        def callback(_: Response) -> Iterator[Any]:
            for position in range(page * 20, page * 20 + 20):
                stand.accounts.discover(f"k{position}", position)
                yield ask(f"row{position}", key=f"k{position}", priority=10)
            if page < 2:
                yield ask(f"list{page + 1}")

        return callback

    def _row(self, stand: Stand, position: int, outcome: str) -> Any:
        def callback(_: Response) -> Iterator[Any]:
            key = f"k{position}"
            if outcome == "row":
                yield Item(key, position)
            elif outcome == "two steps":
                yield ask(f"step{position}", key=key, priority=20)
            elif outcome == "skip":
                stand.accounts.skip(key, "below")
            elif outcome == "fail":
                raise OSError

        return callback


def go(stand: Stand, dice: random.Random, *, stop_after: int = 10**9) -> bool:
    """Eight requests at a time, as the engine does; False if it was stopped."""
    under_way: list[Request] = []
    retries: dict[str, int] = {}
    sample = stand.spider.sample
    assert sample
    while stop_after > 0:
        under_way += stand.pull(8 - len(under_way))
        stored, begun = stand.accounts.count("stored"), stand.scheduler._store.admitted()
        assert stored + begun <= sample, "more was begun than may be needed"
        if not under_way:
            if not stand.scheduler.has_pending_requests():
                return True
            stand.commit()
            assert clock_of(stand).pending(), "it stands still, and nobody will wake it"
            clock_of(stand).advance(1)
            continue
        request = under_way.pop(dice.randrange(len(under_way)))
        stop_after -= 1
        name = name_of(request)
        if dice.random() < 0.3 and retries.get(name, 0) < 3:
            retries[name] = retries.get(name, 0) + 1
            due = clock_of(stand).now + dice.choice([0, 0, 0.5, 3])
            changed = {**request.meta, "not_before": due, "attempt": 2}
            stand.instead(request, request.replace(meta=changed, dont_filter=True))
        elif dice.random() < 0.05:
            held = clock_of(stand).now + 2
            stand.scheduler.hold("api", held)
            stand.answer(request)
        else:
            stand.answer(request)
    return False


def clock_of(stand: Stand) -> Clock:
    return Clock.present


def check(stand: Stand, world: World, sample: int) -> None:
    had = min(sample, world.good)
    assert len(set(stand.rows())) == len(stand.rows()) == had
    assert stand.accounts.count("stored") == had
    assert stand.accounts.pending == 0
    assert stand.scheduler.balanced
    assert stand.accounts.reasons("skipped").get(BEYOND_SAMPLE, 0) == (
        stand.accounts.count("skipped") - stand.accounts.reasons("skipped").get("below", 0)
    )


@pytest.mark.parametrize("seed", range(30))
def test_a_sample_is_exactly_so_many(clock: Clock, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    world, sample = World(dice, dice.choice([0.2, 0.5, 0.9])), dice.choice([1, 2, 5, 12, 25, 70])
    stand = Stand(tmp_path, job=bool(seed % 2), arguments={"sample": sample})
    world.teach(stand)
    stand.push(ask("list0"))
    assert go(stand, dice)
    stand.close("finished")
    check(stand, world, sample)


@pytest.mark.parametrize("seed", range(20))
def test_a_sample_of_a_job_that_is_stopped_and_killed(
    clock: Clock, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed + 1000)
    world, sample = World(dice, dice.choice([0.3, 0.7])), dice.choice([2, 7, 20])
    for number in range(7):
        stand = Stand(tmp_path, arguments={"sample": sample})
        world.teach(stand)
        stand.push(ask("list0"))
        ended = go(stand, dice, stop_after=dice.randint(2, 25) if number < 6 else 10**9)
        if ended or dice.random() < 0.5:
            stand.begin_closing()
            for request in list(stand.slot.inprogress):
                stand.answer(request)
            stand.close("finished" if ended else "shutdown")
        else:
            stand.kill()
        if ended:
            break
    failed = [position for position, each in world.outcome.items() if each in {"fail", "nothing"}]
    assert stand.accounts.count("failed") <= len(failed)
    check(stand, world, sample)


def test_what_is_beyond_the_sample_is_skipped_and_stays_so(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path, arguments={"sample": 3})
    world = World(random.Random(1), 1.0)
    world.teach(stand)
    stand.push(ask("list0"))
    assert go(stand, random.Random(1))
    stand.close("finished")
    asked = stand.stat("scheduler/dequeued")
    assert stand.accounts.reasons("skipped") == {BEYOND_SAMPLE: stand.accounts.count("skipped")}
    assert stand.accounts.count("discovered") <= 20, "the next page is not asked for"
    assert asked <= 1 + 2 * 3 + 9
    again = Stand(tmp_path, arguments={"sample": 3})
    world.teach(again)
    again.push(ask("list0"))
    assert go(again, random.Random(2))
    again.close("finished")
    assert again.stat("scheduler/dequeued") == 0
    assert len(again.rows()) == 3
