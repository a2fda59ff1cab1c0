"""Whatever comes in place of a replay, and however much of it: it takes a few MB, and gives them
back."""

from __future__ import annotations

import gc
import gzip
import itertools
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest

from kagglecrawl.kaggle import json_stream
from kagglecrawl.kaggle.errors import BadPage, KaggleError, Unusable
from kagglecrawl.kaggle.replays import BadReplay, ReplayReader
from kagglecrawl.transport.fetching import Fetch
from kagglecrawl.transport.packing import PAGE, Packing
from tests.replay_shapes import SHAPES

MB = 1 << 20
TEXT = json.dumps(SHAPES["episode"]).encode()
STEPS = b'{"configuration": {}, "steps": ['
REST = b'], "name": "x", "rewards": [1], "statuses": ["DONE"]}'
#: What comes before, what comes again and again until there are 50 MB, and what comes after; and
#: whether that is a replay.
KINDS: dict[str, tuple[bytes, bytes, bytes, bool]] = {
    "spaces_first": (b"", b" \n", TEXT, True),
    "spaces_after": (TEXT, b" \n", b"", True),
    "spaces_in_an_object": (b"{", b" ", TEXT[1:], False),
    "spaces_after_a_name": (b'{"a": ', b"\n", b"1," + TEXT[1:], False),
    "spaces_before_a_wrapped": (b'{"replay":', b" ", TEXT + b"}", False),
    "spaces_in_a_result": (b'{"result": {', b" ", b'"replay":' + TEXT + b"}}", False),
    "spaces_after_a_wrapped": (b'{"replay":' + TEXT, b" ", b"}", True),
    "spaces_in_a_string": (
        b'{"replay":"',
        b" ",
        json.dumps(TEXT.decode())[1:].encode() + b"}",
        True,
    ),
    "spaces_in_a_string_as_escapes": (b'{"replay":"', rb"\u0020", b'{}"}', False),
    "spaces_in_a_list": (b"[", b"\t", b"]", False),
    "spaces_in_a_replay": (STEPS + b"[{}]" + REST[:1] + b",", b" ", REST[2:], True),
    "spaces_between_steps": (STEPS + b"[{}]", b" ", b",[{}]" + REST, True),
    "spaces_in_a_step": (STEPS + b"[{", b" ", b"}]" + REST, True),
    "members_first": (b'{"": 0', b',"":0', b"," + TEXT[1:], False),
    "members_of_a_result": (b'{"result": {"": 0', b',"":0', b"}}", False),
    "members_after": (TEXT[:-1], b',"":0', b"}", False),
    "members_of_info": (b'{"info": {"": 0', b',"":0', b"}}", False),
    "numbers_in_info": (
        TEXT[:-1].replace(b'"info"', b'"of"') + b', "info": {"EpisodeId": 1',
        b',"EpisodeId":1',
        b"}}",
        False,
    ),
    "a_name": (b'{"', b"a", b'": 1}', False),
    "a_name_in_a_replay": (b'{"steps": [], "', b"a", b'": 1}', False),
    "a_text": (TEXT[:-1] + b',"a":"', b"a", b'"}', True),
    "a_text_of_one_rare_sign": (TEXT[:-1] + ',"a":"😀'.encode(), b"a", b'"}', True),
    "a_text_of_rare_signs": (TEXT[:-1] + b',"a":"', "😀".encode(), b'"}', True),
    "a_text_of_escapes": (TEXT[:-1] + b',"a":"', rb"\ud83d\ude00", b'"}', True),
    "a_text_before": (b'{"a":"', b"a", b'",' + TEXT[1:], False),
    "a_text_alone": (b'"', b"a", b'"', False),
    "a_text_without_end": (b'{"steps": "', b"a", b"", False),
    "the_name": (b'{"steps": [[{}]], "name": "', b"a", b'"}', False),
    "a_number": (TEXT[:-1] + b',"a":', b"1", b"}", False),
    "a_fraction": (TEXT[:-1] + b',"a":0.', b"1", b"}", False),
    "an_episode_id": (b'{"info": {"EpisodeId": "', b"a", b'"}}', False),
    "lists": (TEXT[:-1] + b',"a":[0', b",[]", b"]}", False),
    "lists_in_a_list": (TEXT[:-1] + b',"a":[[[0]', b",[[0]]", b"]]}", False),
    "lists_in_a_string": (b'{"replay": "{\\"steps\\": [[{\\"a\\": [0', b",[]", b"]}]]}", False),
    "lists_alone": (b"[0", b",[]", b"]", False),
    "objects_in_a_step": (STEPS + b'[{"a": {"b": [{}', b",{}", b"]}}]" + REST, False),
    "agents": (STEPS + b"[{}", b",{}", b"]" + REST, False),
    "steps": (STEPS + b"[{}]", b",[{}]", REST, False),
    "rewards": (STEPS + b'[{}]], "rewards": [1', b",1", b"]}", False),
    "nested": (TEXT[:-1] + b',"a":', b"[", b"}", False),
    "nested_with_spaces": (TEXT[:-1] + b',"a":', b"[" + b" " * 200_000, b"}", False),
    "nested_objects": (b"", b'{"a":', b"", False),
    "a_page": (b"<html>", b" ", b"</html>", False),
}


def pieces(head: bytes, unit: bytes, tail: bytes, size: int) -> Iterator[bytes]:
    """50 MB, a MB at a time, as they come from what unpacks them."""
    yield head
    block = unit * (size // len(unit))
    yield from itertools.repeat(block, 50 * MB // len(block))
    yield tail


def peak_of(run: Callable[[], None]) -> tuple[int, int]:
    """Bytes that it took at once, and that it left, nothing having been collected."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        run()
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    return peak, left


@pytest.mark.parametrize("kind", KINDS)
def test_memory_has_a_bound(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_MOST_PARTS", 1000)  # each takes long while memory is traced
    head, unit, tail, right = KINDS[kind]
    came = list(pieces(head, unit, tail, MB))
    errors: list[BadReplay] = []
    reader = ReplayReader()

    def run() -> None:
        try:
            for piece in came:
                reader.feed(piece)
            reader.close()
        except BadReplay as error:
            errors.append(error)  # and hold what it holds

    peak, left = peak_of(run)
    assert bool(errors) != right, errors
    assert peak < (20 if kind.startswith(("spaces", "members")) else 128) * MB
    assert left < MB


def test_many_parts_are_refused_and_not_read_one_by_one() -> None:
    """Read at once they are no trouble; nobody has an hour for a GB of them."""
    some = STEPS + b",".join([b"[{}]"] * 100_000)
    reader = ReplayReader()
    reader.feed(some + REST)
    assert reader.close()[1].steps == 100_000
    with pytest.raises(BadReplay, match="more than 100,000 parts") as caught:
        ReplayReader().feed(some + b",[{}]" + REST)
    assert caught.value.slug == "bad_replay"
    large = TEXT[:-1] + b',"a": [' + b",".join([b"0.125"] * 200_000) + b"]}"
    reader = ReplayReader()
    assert reader.feed(large) + reader.close()[0] == large


def test_a_value_in_parts_comes_out_as_it_is() -> None:
    """The same bytes, in whatever pieces they come, and its faults are found."""
    parts = ['x\\"é😀' * 500_000, {"b": [{"c": ["y" * 2_500_000, None, 1.5]}], "d": {}}, [], "e"]
    game = {**SHAPES["episode"], "a": {"logs": parts}}
    text = json.dumps(game, ensure_ascii=False).encode()
    for size in (1 << 16, MB, len(text)):
        reader = ReplayReader()
        out = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert b"".join(out) + reader.close()[0] == text
    for old, new in ((b"null, 1.5", b"null 1.5"), (b'"d": {}', b'"d"; {}'), (b"yy", b"y\ny")):
        with pytest.raises(BadReplay) as caught:
            ReplayReader().feed(text.replace(old, new, 1))
        assert caught.value.slug == "not_json"


NOISE = TEXT[:-1] + b',"b":"' + random.Random(8).randbytes(2 * MB).hex().encode() + b'"'


@pytest.mark.parametrize(
    ("came", "kind"),
    [
        ([b'{"a":', *[b" " * MB] * 3], None),
        ([TEXT[:-1] + b',"a":"', *[b"a" * MB] * 3], None),
        ([NOISE], None),
        ([b'{"a":', *[b" " * MB] * 5], BadPage),
        ([NOISE, b"<"], BadPage),
        ([NOISE, b',"b":' + b"[" * 5000], Unusable),
    ],
    ids=["place", "value", "content", "no_place", "content_then_bad", "content_then_unusable"],
)
def test_what_is_refused_or_broken_off_is_given_back(
    came: list[bytes], kind: type[KaggleError] | None
) -> None:
    """Also while somebody holds the error; and no cycle waits for the collector."""
    held: list[object] = []

    def run() -> None:
        for _ in range(5):
            packing = Packing("gzip")
            held.append(packing)
            try:
                for piece in came:
                    packing.feed(piece)
                if kind is not None:
                    packing.close()
            except KaggleError as error:
                held.append(error)
            else:
                packing.drop()  # the connection broke

    assert peak_of(run)[1] < 3 * MB, "what compresses is there still"
    assert {type(each) for each in held} == {Packing, *([kind] if kind else [])}


def test_a_page_that_is_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer that is no replay, nothing is wanted after its first bytes."""
    page, unpacked = Packing("gzip"), 0
    feed = page._gunzip.feed

    def counted(data: bytes) -> Iterator[bytes]:
        nonlocal unpacked
        for piece in feed(data):
            unpacked += len(piece)
            yield piece

    monkeypatch.setattr(page._gunzip, "feed", counted)
    assert not page.feed(gzip.compress(b"<html>" + b" " * (20 * MB)))
    assert unpacked <= MB
    assert len(page.head) == PAGE + 1


def test_nor_is_that_of_an_error() -> None:
    """What comes over the wire at once can have a thousand times its bytes."""
    bomb = gzip.compress(b"<html>" + b" " * (50 * MB))
    fetch = Mock(_pieces=lambda _: iter([bomb]))
    pages: list[bytes] = []
    assert peak_of(lambda: pages.append(Fetch._page(fetch, Mock())))[0] < 8 * MB
    assert len(pages[0]) == PAGE
