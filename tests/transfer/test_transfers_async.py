"""Transfers in the reactor's loop: what is answered, and what nobody must see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import Response, TextResponse

from kagglecrawl.kaggle.errors import Damaged, KaggleError, NoReply, NoSpace, Unusable
from kagglecrawl.state.holds import Held
from kagglecrawl.transfer.staging import Staging
from tests.transfer.archives import GOOD, Entry, zipped
from tests.transfer.bench import FOLDER, KEY, files_in
from tests.transfer.kit import API, BIG, TREE, ZIP, Kit, expiring, run
from tests.transfer.stand import SECRET, Object, each_in_turn, head, status

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- what is answered ------------------------------------------------------------------------------


def test_the_manifest(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        found = await kit.have(kit.request(only=["*.csv"]))
        assert found == {
            "folder": FOLDER,
            "files": 2,
            "bytes": 2 * len(GOOD),
            "leftOut": {"only": 1},
            "listing": [["a.csv", 8], ["data/big.bin", len(BIG)], ["z.csv", 8]],
        }
        assert kit.idle()

    kit = run(test, tmp_path)
    assert files_in(kit.target) == {"a.csv": GOOD, "z.csv": GOOD}
    assert kit.beside == ["me_set"]
    assert (kit.posts, kit.stat("files"), kit.stat("written")) == (1, 2, 2 * len(GOOD))
    assert kit.stat("received") > 0


def test_what_is_there_is_not_asked_for_again_unless_it_is_gone(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        first = await kit.have()
        asked = len(kit.storage.asked)
        assert await kit.have() == first
        assert (kit.posts, len(kit.storage.asked)) == (1, asked)
        for path in sorted(kit.target.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        kit.target.rmdir()
        assert await kit.have() == first
        assert kit.posts == 2

    kit = run(test, tmp_path)
    assert files_in(kit.target) == TREE


@pytest.mark.parametrize("code", [200, 204, 401, 403, 404, 429, 500])
def test_another_answer_is_for_others_to_judge(tmp_path: Path, code: int) -> None:
    async def test(kit: Kit) -> None:
        answer = Response(kit.storage.address + API, status=code, body=b"{}")

        async def post() -> Response:
            return answer

        assert await kit.transfers.run(kit.request(), post) is answer
        assert kit.idle()

    kit = run(test, tmp_path)
    assert not kit.storage.asked
    assert kit.beside == []


@pytest.mark.parametrize(
    "location",
    [f"https://evil.example/x?{SECRET}".encode(), b"file:///etc/passwd", b"//evil.ex", None],
)
def test_a_redirect_that_is_not_followed(tmp_path: Path, location: bytes | None) -> None:
    async def test(kit: Kit) -> None:
        async def post() -> Response:
            headers = {} if location is None else {"Location": location}
            return Response(kit.storage.address + API, status=302, headers=headers)

        with pytest.raises(Unusable) as caught:
            await kit.have(post=post)
        assert caught.value.slug in {"redirect_refused", "storage_refused", "bad_archive"}
        assert SECRET not in str(caught.value)
        assert kit.idle()

    kit = run(test, tmp_path, content=b"")
    assert kit.beside == []


def test_two_resources_do_not_share_a_folder(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        await kit.have()
        for folder in (FOLDER, FOLDER.upper(), FOLDER.replace("me_set", "Me_Set")):
            with pytest.raises(Unusable) as caught:
                await kit.have(kit.request("me/other", folder))
            assert caught.value.slug == "name_collision"
        assert kit.posts == 1

    assert run(test, tmp_path).beside == ["me_set"]


def test_several_at_once(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        requests = [
            kit.request(f"me/set{n}", f"{FOLDER}{n}", only=[] if n % 2 else ["a.csv"])
            for n in range(6)
        ]
        found = await asyncio.gather(*(kit.have(each) for each in requests))
        assert [each["files"] for each in found] == [1, 3, 1, 3, 1, 3]
        assert kit.idle()

    kit = run(test, tmp_path)
    assert kit.beside == [f"me_set{n}" for n in range(6)]
    for number in range(6):
        there = files_in(kit.workspace / f"{FOLDER}{number}")
        assert there == (TREE if number % 2 else {"a.csv": GOOD})


def test_whoever_watches_sees_those_under_way(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        seen: list[str] = []

        async def post() -> Response:
            seen.extend(kit.job.under_way)
            return await kit.post()

        await kit.have(post=post)
        assert seen == [KEY]
        assert kit.job.under_way == {}

    run(test, tmp_path)


# -- what goes wrong -------------------------------------------------------------------------------


def test_no_room_and_nobody_is_asked(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        with pytest.raises(NoSpace, match="WORKSPACE_MIN_FREE"):
            await kit.have()
        assert kit.idle()

    kit = run(test, tmp_path, WORKSPACE_MIN_FREE="100000000GB")
    assert (kit.posts, kit.storage.asked, kit.beside) == (0, [], [])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no archive", Unusable),
        (zipped(Entry("a.csv"))[:-1], Unusable),
        (Object(ZIP), NoReply),
    ],
)
def test_a_failure_is_raised_and_leaves_nothing_running(
    tmp_path: Path, content: bytes | Object, error: type[KaggleError]
) -> None:
    async def test(kit: Kit) -> None:
        if error is NoReply:
            kit.storage.script = lambda asked: [] if asked.number > 1 else None
        with pytest.raises(error):
            await kit.have()
        assert kit.idle()
        with pytest.raises(error):
            await kit.have()

    kit = run(test, tmp_path, content)
    if error is Unusable:
        assert kit.beside == []
    assert not kit.target.exists()


def test_what_a_second_attempt_makes_good(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        kit.storage.script = lambda asked: (
            kit.storage.object.damaged(asked, 1_500_000) if asked.number <= 4 else None
        )
        with pytest.raises((Damaged, NoReply)):
            await kit.have()
        kit.storage.script = None
        await kit.have()

    assert files_in(run(test, tmp_path).target) == TREE


def test_something_else_in_the_place_of_the_folder(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        kit.target.parent.mkdir(parents=True)
        kit.target.write_bytes(b"precious")
        with pytest.raises(Unusable) as caught:
            await kit.have()
        assert caught.value.slug == "place_taken"
        assert kit.idle()

    assert run(test, tmp_path).target.read_bytes() == b"precious"


def test_a_job_that_cannot_be_written(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    async def test(kit: Kit) -> None:
        def fails(*args: Any, **more: Any) -> None:
            raise Broken

        kit.job.done = fails  # type: ignore[method-assign]
        with pytest.raises(Broken):
            await kit.have()
        assert kit.idle()

    assert not run(test, tmp_path).target.exists()


def test_leftovers_of_another_crawl_are_named_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Staging(tmp_path / FOLDER, "0a1b2c3d")
    other.prepare()
    (other.folder / "a.csv").touch()

    async def test(kit: Kit) -> None:
        await kit.have()

    kit = run(test, tmp_path)
    assert str(other.folder) in caplog.text
    assert kit.beside == [other.folder.name, "me_set"]


# -- the address -----------------------------------------------------------------------------------


def test_an_expired_address_is_renewed_by_asking_again(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        expiring(kit)
        await kit.have()
        assert kit.posts == 2

    kit = run(test, tmp_path)
    assert files_in(kit.target) == TREE
    assert kit.stat("again/url_renewed") == 1


@pytest.mark.parametrize("code", [403, 404, 429, 500, 200])
def test_what_the_api_answers_instead_of_a_new_address(tmp_path: Path, code: int) -> None:
    async def test(kit: Kit) -> None:
        expiring(kit)
        answer = Response(kit.storage.address + API, status=code, body=b"{}")

        async def post() -> Response:
            return await kit.post() if not kit.posts else answer

        assert await kit.transfers.run(kit.request(), post) is answer
        assert kit.idle()
        if code in {403, 404}:  # nobody will ask for the rest of it
            assert kit.beside == []
        await kit.have()

    assert files_in(run(test, tmp_path).target) == TREE


def test_no_answer_of_the_apis_is_taken_for_files(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        body = json.dumps({"transfer": {"folder": "/etc", "files": 1, "bytes": 1, "leftOut": {}}})

        async def post() -> Response:
            return TextResponse(kit.storage.address + API, status=200, body=body.encode())

        response = await kit.transfers.run(kit.request(), post)
        assert b"transfer" not in response.body

    assert run(test, tmp_path).beside == []


@pytest.mark.parametrize("error", [Held(1_000.0), NoReply("cut"), KaggleError("other")])
def test_what_is_raised_instead_of_a_new_address(tmp_path: Path, error: Exception) -> None:
    async def test(kit: Kit) -> None:
        expiring(kit)

        async def post() -> Response:
            if kit.posts:
                raise error
            return await kit.post()

        with pytest.raises(type(error)) as caught:
            await kit.have(post=post)
        assert caught.value is error
        assert kit.idle()

    run(test, tmp_path)


def test_a_new_address_is_looked_at_as_the_first(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        expiring(kit)

        async def post() -> Response:
            response = await kit.post()
            if kit.posts == 2:
                response.headers["Location"] = f"http://evil.example/?{SECRET}"
            return response

        with pytest.raises(Unusable) as caught:
            await kit.have(post=post)
        assert caught.value.slug == "redirect_refused"

    run(test, tmp_path)


def test_no_address_is_logged_or_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(kit: Kit) -> None:
        kit.storage.script = each_in_turn(
            lambda _: status(503),
            lambda _: [],
            lambda asked: kit.storage.object.cut(asked, 100),
            lambda _: status(400),
            lambda _: [head(206, {}), b"no colon\r\n"],
        )
        for _ in range(6):
            with contextlib.suppress(KaggleError):
                await kit.have()
        held = "\n".join(kit.store._db.iterdump())
        assert SECRET not in held
        assert "archive.zip" not in held

    kit = run(test, tmp_path)
    assert files_in(kit.target) == TREE
    assert SECRET not in caplog.text
    assert "archive.zip" not in caplog.text
