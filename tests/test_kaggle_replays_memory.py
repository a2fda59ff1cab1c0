"""Whatever comes in place of a replay, and however much of it: it takes a few MB, and gives them
back."""

from __future__ import annotations

import gc
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from kagglecrawl.kaggle.replays import BadReplay, ReplayReader
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
def test_memory_has_a_bound(kind: str) -> None:
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
    print(kind, peak / MB, left / MB, *errors)
    assert peak < 64 * MB
    assert left < MB
