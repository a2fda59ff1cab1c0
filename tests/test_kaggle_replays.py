"""Whole replays come out as they are, however they come in; nothing else comes out at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle import json_stream
from kagglecrawl.kaggle.replays import BadReplay, ReplayFacts, ReplayReader
from tests.replay_shapes import SHAPES, Game, agent, game, texts, wrapped

SMALL = json.dumps(game([1, None], ["DONE", "ERROR"], steps=2, info={"EpisodeId": 7})).encode()
ANSWERS = {
    f"{name}-{how}-{wrapping}": answer
    for name, shape in SHAPES.items()
    for how, text in texts(shape).items()
    for wrapping, answer in wrapped(text).items()
}


def read(pieces: Iterable[bytes], **limits: int) -> tuple[bytes, ReplayFacts]:
    reader = ReplayReader(**limits)
    out = b"".join([reader.feed(piece) for piece in pieces])
    rest, facts = reader.close()
    return out + rest, facts


def cut(data: bytes, at: Iterable[int]) -> Iterator[bytes]:
    for start, end in itertools.pairwise([0, *sorted(at), len(data)]):
        yield data[start:end]


def refused(data: bytes, **limits: int) -> BadReplay:
    """The error, which is the same in one piece and byte by byte."""
    with pytest.raises(BadReplay) as whole:
        read([data], **limits)
    with pytest.raises(BadReplay) as pieces:
        read((data[at : at + 1] for at in range(len(data))), **limits)
    assert pieces.value.slug == whole.value.slug
    return whole.value


def passes(data: bytes) -> bool:
    try:
        read([data])
    except BadReplay:
        return False
    return True


# -- what is right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_replay_comes_out_of_every_wrapping(answer: tuple[bytes, bytes]) -> None:
    came, wanted = answer
    out, facts = read([came])
    assert out == wanted
    truth = json.loads(wanted)
    assert facts == ReplayFacts(
        name="halite",
        episode_id=(truth.get("info") or {}).get("EpisodeId"),
        steps=len(truth["steps"]),
        agents=len(truth["rewards"]),
        rewards=truth["rewards"],
        statuses=truth["statuses"],
        size=len(wanted),
        sha256=hashlib.sha256(wanted).hexdigest(),
    )
    assert [type(each) for each in facts.rewards] == [type(each) for each in truth["rewards"]]


@given(st.data())
def test_it_does_not_matter_how_an_answer_is_cut(data: st.DataObject) -> None:
    came, wanted = ANSWERS[data.draw(st.sampled_from(sorted(ANSWERS)))]
    places = st.integers(min_value=0, max_value=len(came))
    pieces = cut(came, data.draw(st.lists(places, max_size=30)))
    window = data.draw(st.sampled_from([1, 7, 100, json_stream._WINDOW]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_WINDOW", window)
        assert read(pieces) == (wanted, read([came])[1])


@pytest.mark.parametrize("answer", list(ANSWERS.values())[:: len(ANSWERS) // 30])
def test_a_byte_at_a_time_will_do(answer: tuple[bytes, bytes]) -> None:
    came, wanted = answer
    assert read(came[at : at + 1] for at in range(len(came))) == (wanted, read([came])[1])


def test_a_number_is_not_whole_at_the_end_of_a_piece() -> None:
    """What was read as 1 can go on, and the digits of one that is no whole number, too."""
    text = SMALL.replace(b'"rewards": [1, null]', b'"rewards": [-12.5e+03, 1E5]')
    assert text != SMALL
    start = text.index(b"-12.5")
    for at in range(start, start + 16):
        assert read(cut(text, [at]))[1].rewards == [-12500.0, 100000.0]
    long = b"1" * 5000
    text = SMALL.replace(b'"schema_version": 1', b'"schema_version": ' + long + b".5")
    for at in (-3, -1, 0, 1, 2):
        assert read(cut(text, [text.index(long) + 5000 + at]))[0] == text
    assert refused(text.replace(b".5", b"")).slug == "bad_replay", "Python reads no such number"


def test_rewards_that_no_json_can_say_are_null() -> None:
    nan = json.dumps(game([float("nan"), float("inf"), 0.0], ["DONE"] * 3)).encode()
    assert read([nan])[1].rewards == [None, None, 0.0]


def test_what_is_sure_is_handed_on_at_once() -> None:
    """Nothing of a wrapping, and everything of a replay but what is not parsed yet."""
    steps = json.dumps(game([1], ["DONE"], steps=5000)["steps"]).encode()
    text = SMALL.replace(b'"steps": [', b'"configuration": {}, "steps": ' + steps + b', "old": [')
    for came in (
        text,
        b'{"replay": ' + text + b"}",
        json.dumps({"replay": text.decode()}).encode(),
    ):
        reader, fed, had = ReplayReader(), 0, 0
        for at in range(0, len(came), 1000):
            had += len(reader.feed(came[at : at + 1000]))
            fed += 1000
            assert had > fed * 0.7 - 3 * json_stream._WINDOW
        assert had > len(text) / 2, "not all at the end"


def test_memory_is_that_of_a_step() -> None:
    step = json.dumps([agent(observation={"halite": [0.5] * 400}) for _ in range(4)]).encode()
    head, tail = SMALL.split(b'"steps": [', 1)[0], b'], "rewards": [0,0,0,0], "statuses": '
    tail += b'["A","B","C","D"]}'
    count = 400
    middle = (piece for _ in range(count - 1) for piece in (step, b", "))
    tracemalloc.start()
    try:
        facts = ReplayReader()
        size = len(facts.feed(head + b'"steps": ['))
        for piece in itertools.chain(middle, [step, tail]):
            size += len(facts.feed(piece))
        rest, found = facts.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.steps == count
    assert found.size == size + len(rest) > 3_000_000
    assert peak < 600_000


def test_one_long_value_is_parsed_only_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work grows with the text, not with its square: what is waited for doubles."""
    scanned = 0

    def scan(text: str, at: int = 0) -> tuple[Any, int]:
        nonlocal scanned
        scanned += len(text) - at
        return json.JSONDecoder().raw_decode(text, at)

    monkeypatch.setattr(json_stream, "_scan", scan)
    text = json.dumps(game([1], ["DONE"], title="x" * 2_000_000)).encode()
    read(text[at : at + 1000] for at in range(0, len(text), 1000))
    assert scanned < 4 * len(text)


# -- what is not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapping", wrapped(SMALL))
def test_no_beginning_of_a_replay_is_taken_for_one(wrapping: str) -> None:
    came, _ = wrapped(SMALL)[wrapping]
    came = came.rstrip()
    for length in range(len(came)):
        with pytest.raises(BadReplay) as caught:
            read([came[:length]])
        assert caught.value.slug == "cut", length


@pytest.mark.parametrize(
    ("answer", "slug"),
    [
        (b"", "cut"),
        (b" \n", "cut"),
        (b"<!DOCTYPE html><html><body>Page not found</body></html>", "not_json"),
        (b"Not found", "not_json"),
        (b"\x1f\x8b\x08\x00", "not_json"),
        (b'{"a": tru}', "not_json"),
        (b'{"code": 404, "message": "Episode not found"}', "no_replay"),
        (b'{"error":{"code":429,"message":"Too many","status":"RESOURCE_EXHAUSTED"}}', "no_replay"),
        (b'{"info": "x", "info": 1}', "bad_replay"),
        (b'{"name": 5, "info": "of an error"}', "no_replay"),
        (b'{"result": {"episodes": [], "teams": []}, "wasSuccessful": true}', "no_replay"),
        (b'{"result": null, "wasSuccessful": false}', "no_replay"),
        (b'{"result": {"replay": null}}', "no_replay"),
        (b'{"replay": ""}', "no_replay"),
        (b'{"replay": "null"}', "no_replay"),
        (b'{"replay": "<html>"}', "not_json"),
        (b'{"replay": {}}', "no_replay"),
        (b'{"replay": []}', "no_replay"),
        (b"{}", "no_replay"),
        (b"[]", "no_replay"),
        (b"null", "no_replay"),
        (b'"steps"', "no_replay"),
        (b"404", "no_replay"),
        (b'{"result": {"steps": [[{}]], "rewards": [0], "statuses": ["DONE"]}}', "no_replay"),
        (b'{"replay": ' + SMALL + b', "result": {"replay": ' + SMALL + b"}}", "bad_replay"),
        (json.dumps({"replay": json.dumps({"replay": SMALL.decode()})}).encode(), "no_replay"),
        (SMALL + b"x", "not_json"),
        (SMALL + SMALL, "not_json"),
        (SMALL + b"\0", "not_json"),
        (SMALL + "é".encode()[:1], "cut"),
        (json.dumps({"replay": SMALL.decode() + "]"}).encode(), "not_json"),
        (SMALL.replace(b"Halite", b"Hal\xff"), "not_json"),
        (SMALL.replace(b"Halite", b"Hal\xed\xa0\xbd"), "not_json"),
        (SMALL.replace(b"Halite", b"Hal\nite"), "not_json"),
        (b'{"replay": "' + b'{\\"a\\": \\"\\ud83d x\\"}"}', "not_json"),
        (b'{"replay": "{\\"a\\": \\"\\ude00\\ud83d\\"}"}', "not_json"),
        (b'{"replay": "{\\q}"}', "not_json"),
        (b'{"replay": "{\\u12"}', "not_json"),
        (b'{"replay": "{\n}"}', "not_json"),
        (SMALL.decode().encode("utf-16"), "not_json"),
    ],
)
def test_what_is_no_replay_is_told(answer: bytes, slug: str) -> None:
    error = refused(answer)
    assert error.slug == slug, error
    assert str(error)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": None}, "steps are no list"),
        ({"steps": []}, "steps are no list"),
        ({"steps": {}}, "steps are no list"),
        ({"steps": [[]]}, "step 0 is no list of objects"),
        ({"steps": [[agent()] * 2, None]}, "step 1 is no list of objects"),
        ({"steps": [[agent(), 1]]}, "step 0 is no list of objects"),
        ({"steps": [[agent()] * 2, [agent()]]}, "step 1 has 1 agents, those before have 2"),
        ({"steps": [[agent()] * 3]}, "2 rewards, and 3 agents"),
        ({"rewards": None}, "rewards are no list"),
        ({"rewards": [1]}, "1 rewards, and 2 agents"),
        ({"rewards": [1, "2"]}, "numbers and nulls"),
        ({"rewards": [1, True]}, "numbers and nulls"),
        ({"statuses": "DONE"}, "statuses are no list"),
        ({"statuses": ["DONE"] * 3}, "3 statuses, and 2 agents"),
        ({"statuses": ["DONE", None]}, "statuses are no list of texts"),
        ({"statuses": ["DONE", "\ud83d"]}, "statuses are no list of texts"),
        ({"name": None}, "name is no text"),
        ({"name": "\udc00"}, "name is no text"),
        ({"info": [1]}, "info is no object"),
        ({"info": {"EpisodeId": "7"}}, "info.EpisodeId"),
        ({"info": {"EpisodeId": 7.0}}, "info.EpisodeId"),
        ({"info": {"EpisodeId": True}}, "info.EpisodeId"),
    ],
)
def test_a_replay_that_cannot_be_right_is_refused(change: Game, reason: str) -> None:
    text = json.dumps(game([1, -1], ["DONE", "DONE"]) | change).encode()
    for came, _ in wrapped(text).values():
        error = refused(came)
        assert error.slug == "bad_replay"
        assert reason in str(error)


@pytest.mark.parametrize("name", ["steps", "rewards", "statuses", "name"])
def test_what_is_there_once_is_there_once(name: str) -> None:
    shape = game([1, -1], ["DONE", "DONE"])
    text = json.dumps(shape).encode()
    twice = text[:-1] + f", {json.dumps({name: shape[name]})[1:]}".encode()
    assert str(refused(twice)) == f"it has two members {name}"
    del shape[name]
    assert refused(json.dumps(shape).encode()).slug == (
        "no_replay" if name == "steps" else "bad_replay"
    )


def honest(data: bytes) -> bool:
    """Is it a replay, read as a whole by json.loads?"""
    names: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in found]  # in the end of the outermost
        return dict(found)

    try:
        shape = json.loads(data.decode(), object_pairs_hook=pairs)
    except ValueError:
        return False
    once = ("name", "info", "steps", "rewards", "statuses")
    if not isinstance(shape, dict) or any(names.count(each) > 1 for each in once):
        return False
    steps, rewards, statuses = (shape.get(each) for each in once[2:])
    info = {} if shape.get("info") is None else shape["info"]
    return (
        isinstance(steps, list)
        and len({len(each) if isinstance(each, list) else 0 for each in steps} - {0}) == 1
        and all(isinstance(each, list) and each for each in steps)
        and all(isinstance(each, dict) for step in steps for each in step)
        and isinstance(rewards, list)
        and isinstance(statuses, list)
        and len(steps[0]) == len(rewards) == len(statuses)
        and all(each is None or type(each) in {int, float} for each in rewards)
        and all(isinstance(each, str) for each in statuses)
        and isinstance(shape.get("name"), str)
        and isinstance(info, dict)
        and (info.get("EpisodeId") is None or type(info["EpisodeId"]) is int)
    )


def test_a_damaged_replay_passes_only_where_it_is_a_replay_still() -> None:
    """Every structure character made another: to the byte what json.loads would find."""
    marks = b'{}[]:,"\\ 0'
    passed = 0
    for at, mark in itertools.product(range(len(SMALL)), marks):
        if SMALL[at] in marks:
            damaged = SMALL[:at] + bytes([mark]) + SMALL[at + 1 :]
            assert passes(damaged) == honest(damaged), damaged
            passed += passes(damaged)
    assert passed > 100, "some of it is only other text"


@given(st.integers(0, len(SMALL) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_damage_is_judged_as_json_loads_judges_it(at: int, put: bytes, lost: int) -> None:
    damaged = SMALL[:at] + put + SMALL[at + lost :]
    assert passes(damaged) == honest(damaged)


@pytest.mark.parametrize("depth", [50_000, 1_000_000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    for text in (b"[" * depth, b'{"a":' * depth):
        for answer in (text, b'{"steps": [[' + text, b'{"replay": {"a":' + text):
            with pytest.raises(BadReplay, match="nested too deeply") as caught:
                read([answer])
            assert caught.value.slug == "bad_replay"


def test_sizes_have_limits() -> None:
    assert read([SMALL], most=len(SMALL))[0] == SMALL
    assert str(refused(SMALL, most=len(SMALL) - 1)) == f"it is larger than {len(SMALL) - 1:,} bytes"
    long = json.dumps("x" * 5000).encode()
    text = SMALL.replace(b'"Halite"', long)
    assert read([text], largest=len(long))[0] == text
    assert read((text[at : at + 1] for at in range(len(text))), largest=len(long))[0] == text
    assert "a value is longer than 5,001 characters" in str(refused(text, largest=len(long) - 1))
    endless = b'{"a": "no more"' + b', "b": 1' * 100_000
    error = refused(endless, largest=1000)
    assert error.slug == "no_replay"
    assert str(error) == "no replay begins in its first 2,000 characters"


def test_an_error_stays_and_says_nothing_of_the_text() -> None:
    reader = ReplayReader()
    with pytest.raises(BadReplay) as first:
        reader.feed(b'{"token": "KGAT_secret" "x": KGAT_secret}')
    assert str(first.value) == "Expecting , or } at character 24"
    assert first.value.__context__ is None
    for again in (lambda: reader.feed(SMALL), reader.close):
        with pytest.raises(BadReplay, match="at character 24"):
            again()


# -- real ones -------------------------------------------------------------------------------------


def test_every_real_replay_passes(samples: Path) -> None:
    paths = sorted(samples.glob("episodes/replays_*/*.json"))
    assert len(paths) > 10
    for path in paths:
        text = path.read_bytes()
        truth = json.loads(text)
        for came, wanted in wrapped(text).values():
            out, facts = read(came[at : at + 65_536] for at in range(0, len(came), 65_536))
            assert out == wanted
            assert (facts.name, facts.steps) == (truth["name"], len(truth["steps"]))
            assert (facts.rewards, facts.statuses) == (truth["rewards"], truth["statuses"])
            assert facts.episode_id == truth.get("info", {}).get("EpisodeId")
    answer = (samples / "episodes/episode_service/get_episode_replay_100000.json").read_bytes()
    assert read([answer])[0].decode() == json.loads(answer)["result"]["replay"]


@pytest.mark.parametrize("name", ["connectx", "halite", "hungry_geese", "rps"])
def test_what_the_environments_write_passes(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("kaggle_environments")

    def raises(observation: Any, configuration: Any) -> None:
        raise ValueError("é 😀")

    for first in (raises, lambda observation, configuration: {"no": "action"}, "random"):
        environment = package.make(name, configuration={"episodeSteps": 8})
        others = ["random" if "random" in environment.agents else "rock"]
        environment.run([first if first != "random" else others[0], *others])
        text = json.dumps(environment.toJSON()).encode()
        for came, wanted in wrapped(text).values():
            assert read([came])[0] == wanted
