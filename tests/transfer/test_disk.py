"""What has to stay free on the workspace's disk."""

from __future__ import annotations

import errno
import random
import shutil
import threading
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import NoSpace
from kagglecrawl.transfer.disk import DiskGuard, unwritable


class Disk(DiskGuard):
    """One with so many bytes free."""

    def __init__(self, free: int, min_free: int) -> None:
        super().__init__(Path("/workspace"), min_free)
        self.free = free

    def _free(self) -> int:
        return self.free

    def write(self, key: str, size: int) -> None:
        """As a transfer does."""
        self.free -= size
        self.spend(key, size)


def test_to_the_last_byte() -> None:
    disk = Disk(100, 40)
    disk.check()
    disk.check(60)
    with pytest.raises(NoSpace):
        disk.check(61)
    disk.free = 40
    disk.check()
    disk.free = 39
    with pytest.raises(NoSpace):
        disk.check()


def test_a_reservation_to_the_last_byte() -> None:
    Disk(100, 40).reserve("a", 60)
    with pytest.raises(NoSpace):
        Disk(100, 40).reserve("a", 61)


def test_reservations_add_up() -> None:
    disk = Disk(100, 10)
    disk.reserve("a", 50)
    disk.reserve("b", 40)
    with pytest.raises(NoSpace, match="transfers under way"):
        disk.reserve("c", 1)
    disk.release("a")
    disk.reserve("c", 50)


def test_one_that_was_refused_takes_no_room() -> None:
    disk = Disk(100, 0)
    with pytest.raises(NoSpace):
        disk.reserve("a", 101)
    disk.reserve("b", 100)


def test_a_second_reservation_is_in_place_of_the_first() -> None:
    disk = Disk(100, 0)
    disk.reserve("a", 80)
    disk.reserve("a", 90)
    disk.reserve("b", 10)
    disk.reserve("a", 20)
    disk.reserve("b", 80)


def test_what_is_written_is_not_counted_twice() -> None:
    """Bytes on disk are neither free nor to come."""
    disk = Disk(1_000, 100)
    disk.reserve("a", 500)
    disk.write("a", 400)
    disk.reserve("b", 400)
    disk.write("b", 400)
    disk.reserve("a", 100)
    with pytest.raises(NoSpace):
        disk.reserve("a", 101)


def test_more_written_than_was_reserved_lends_nothing_to_others() -> None:
    """Members that are read again are written again."""
    disk = Disk(1_000, 0)
    disk.reserve("a", 100)
    disk.write("a", 300)
    disk.reserve("b", 700)
    with pytest.raises(NoSpace):
        disk.reserve("b", 701)


def test_nobody_is_stopped_who_writes_no_more() -> None:
    """Such as a resource of which everything is there."""
    disk = Disk(10, 100)
    disk.reserve("a", 0)
    disk.spend("unknown", 5)
    disk.release("unknown")


def test_any_order_of_two_transfers_that_have_room() -> None:
    for seed in range(50):
        dice = random.Random(seed)
        sizes = {"a": dice.randint(1, 1_000), "b": dice.randint(1, 1_000)}
        disk = Disk(sum(sizes.values()) + 50, 50)
        left: dict[str, int] = {}
        while sizes or left:
            key = dice.choice([*sizes, *left])
            if key in sizes:
                left[key] = sizes.pop(key)
                disk.reserve(key, left[key])
            elif left[key]:
                disk.write(key, part := dice.randint(1, left[key]))
                left[key] -= part
                disk.reserve(key, left[key])
                disk.check()
            else:
                disk.release(key)
                del left[key]
        assert disk.free == 50


def test_threads_do_not_overbook() -> None:
    disk = Disk(1_000, 0)
    got: list[str] = []

    def reserve(key: str) -> None:
        try:
            disk.reserve(key, 10)
        except NoSpace:
            return
        got.append(key)

    threads = [threading.Thread(target=reserve, args=(f"{n}",)) for n in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 100


def test_a_workspace_that_is_not_there_yet(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "a" / "b" / "c", 0)
    guard.check()
    guard.reserve("a", 1)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoSpace):
        DiskGuard(tmp_path / "a" / "b", 2 * free).check()
    assert not (tmp_path / "a").exists()


def test_the_sentences_say_what_to_do() -> None:
    with pytest.raises(NoSpace) as caught:
        Disk(2_000_000, 1_000_000).reserve("me/set", 5_000_000)
    text = str(caught.value)
    for word in ("me/set", "5.0 MB", "2.0 MB", "1.0 MB", "WORKSPACE_MIN_FREE", "make room"):
        assert word in text
    assert NoSpace.reason == "kaggle_no_space"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EFBIG, "is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_what_a_disk_says(number: int, words: str) -> None:
    text = str(unwritable(OSError(number, "Reason", "/workspace/a")))
    assert text == f"the disk of WORKSPACE {words} (Reason at /workspace/a): mend that"
    assert "None" not in str(unwritable(OSError(number, "Reason")))
