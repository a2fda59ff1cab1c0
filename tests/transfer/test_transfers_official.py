"""Transfers by kagglehub: the same rules, and nothing left."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from scrapy.http import Response

from kagglecrawl.kaggle.errors import NoReply, NoSpace, Unusable
from kagglecrawl.state.holds import Held
from kagglecrawl.transport.official import OfficialTransport
from tests.transfer.archives import GOOD
from tests.transfer.bench import KEY, files_in
from tests.transfer.kit import TREE, Kit, cancelled, grow, run

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- by kagglehub ----------------------------------------------------------------------------------


class Official:
    """Stands in for the child process."""

    def __init__(self, make: Callable[[Path, Callable[[int], None]], Awaitable[Any]]) -> None:
        self._make = make
        self.asked: list[tuple[str, Any]] = []

    async def download(
        self, ref: str, version: Any, into: Path, scratch: Path, told: Callable[[int], None]
    ) -> Any:
        self.asked.append((ref, version))
        assert not files_in(into.parent)
        grow(scratch, {"archive.zip": b"x"})
        answer = await self._make(into, told)
        shutil.rmtree(scratch)
        return answer


async def unpacked(into: Path, told: Callable[[int], None]) -> None:
    told(10)
    grow(into, TREE)
    (into / "link").symlink_to("/etc/passwd")
    told(5)


def by_it(kit: Kit, official: Official, sent: Callable[[], None] = lambda: None) -> Any:
    request = kit.request(only=["*.csv"])
    return kit.transfers.run_official(request, cast(OfficialTransport, official), sent)


def test_by_kagglehub_and_held_to_the_same_rules(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        official = Official(unpacked)
        response = await by_it(kit, official)
        manifest = json.loads(response.body)["transfer"]
        assert manifest["leftOut"] == {"link": 1, "only": 1}
        assert manifest["files"] == 2
        assert official.asked == [(KEY, None)]
        await by_it(kit, official)
        assert len(official.asked) == 1
        assert kit.idle()

    kit = run(test, tmp_path)
    assert files_in(kit.target) == {"a.csv": GOOD, "z.csv": GOOD}
    assert kit.beside == ["me_set"]


def test_another_answer_by_kagglehub(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        answer = Response("http://127.0.0.1/", status=403)

        async def refused(into: Path, told: Callable[[int], None]) -> Response:
            return answer

        assert await by_it(kit, Official(refused)) is answer
        assert kit.idle()

    assert run(test, tmp_path).beside == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "No space left on device"), NoSpace),
        (Unusable("no archive", "bad_archive"), Unusable),
        (NoReply("cut"), NoReply),
        (Held(1_000.0), Held),
    ],
)
def test_what_goes_wrong_with_kagglehub_leaves_nothing(
    tmp_path: Path, error: Exception, raised: type[Exception]
) -> None:
    async def test(kit: Kit) -> None:
        async def fails(into: Path, told: Callable[[int], None]) -> None:
            grow(into, {"half.csv": b"x"})
            raise error

        with pytest.raises(raised):
            await by_it(kit, Official(fails))
        assert kit.idle()

    assert run(test, tmp_path).beside == []


def test_held_before_kagglehub_is_asked(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        def held() -> None:
            raise Held(1_000.0)

        official = Official(unpacked)
        with pytest.raises(Held):
            await by_it(kit, official, held)
        assert official.asked == []
        assert kit.idle()

    assert run(test, tmp_path).beside == []


def test_no_room_while_kagglehub_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(kit: Kit) -> None:
        async def writes(into: Path, told: Callable[[int], None]) -> None:
            grow(into, {"half.csv": b"x"})
            monkeypatch.setattr(kit.transfers._guard, "_free", lambda: -1)
            told(1_000)
            raise AssertionError

        with pytest.raises(NoSpace):
            await by_it(kit, Official(writes))
        assert kit.idle()

    assert run(test, tmp_path).beside == []


def test_cancelled_while_kagglehub_writes(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        begun = asyncio.Event()

        async def writes(into: Path, told: Callable[[int], None]) -> None:
            grow(into, {"half.csv": b"x"})
            begun.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(by_it(kit, Official(writes)))
        await begun.wait()
        await cancelled(task)
        assert kit.idle()

    assert run(test, tmp_path).beside == []
