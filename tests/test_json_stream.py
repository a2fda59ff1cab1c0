"""Values, members and strings of a text that comes in pieces are those of the whole text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle import json_stream
from kagglecrawl.kaggle.json_stream import JsonError, JsonText, Push, Reading

#: Everything that json.loads can read, with many numbers: they do not say where they end.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(alphabet=st.sampled_from('\\"/u\n\x00é\u2028😀\ud83d\ude00')),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
cuts = st.lists(st.integers(0, 2000), max_size=20)
indents = st.sampled_from([None, 0, 2])


def pieces(text: str, at: Iterable[int]) -> list[str]:
    return [text[start:end] for start, end in itertools.pairwise([0, *sorted(at), len(text)])]


def run(text: JsonText, reading: Reading[None], came: Iterable[str]) -> None:
    push = Push(text, reading)
    for piece in came:
        push.add(piece)
    push.end()


def walked(came: Iterable[str], window: int, largest: int = 1 << 20) -> tuple[Any, str]:
    """The value that the pieces hold, its outermost list or object walked through; and what was
    kept of the text."""
    text = JsonText(largest)
    found: list[Any] = []

    def reading() -> Reading[None]:
        first = yield from text.peek()
        text.start()
        if first == "{":
            yield from text.members(member)
            found[:] = [dict(found)]
        elif first == "[":
            yield from text.elements(element)
            found[:] = [list(found)]
        else:
            yield from element()
        text.stop()
        if (yield from text.peek()):
            raise JsonError("not_json", "more follows")

    def member(name: str) -> Reading[None]:
        found.append((name, (yield from text.value())))

    def element() -> Reading[None]:
        found.append((yield from text.value()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_WINDOW", window)
        text = JsonText(largest)
        run(text, reading(), came)
    length, kept = text.kept, text.take()
    assert length == len(kept)
    return found[0], kept


@given(values, indents, cuts, st.integers(1, 100), st.booleans())
def test_a_text_is_read_as_json_loads_reads_it(
    value: Any, indent: int | None, at: list[int], window: int, ascii_only: bool
) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found, kept = walked(pieces(f" \n{written}\t", at), window)
    assert found == json.loads(written)
    assert kept == written


@given(values, cuts, st.data())
def test_a_text_that_is_cut_is_told(value: Any, at: list[int], data: st.DataObject) -> None:
    """But for a number, which can be whole at any digit."""
    written = json.dumps([value])
    end = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(JsonError) as caught:
        walked(pieces(written[:end], at), 1)
    assert caught.value.slug == "cut", caught.value


@given(st.text(st.characters(min_codepoint=1)), cuts, st.booleans())
def test_a_string_is_unescaped_in_pieces(said: str, at: list[int], ascii_only: bool) -> None:
    written = json.dumps(said, ensure_ascii=ascii_only)
    text = JsonText(1 << 20)
    found: list[str] = []

    def reading() -> Reading[None]:
        yield from text.peek()
        yield from text.string(found.append)
        assert (yield from text.peek()) == "}"

    run(text, reading(), pieces(f" {written} }}", at))
    assert "".join(found) == json.loads(written)


def test_pairs_of_surrogates_are_put_together_and_halves_are_not_lost() -> None:
    said = r"\ud83d\ud83d\ude00\ude00\\ud83d \ud83d"
    for at in itertools.combinations(range(len(said) + 2), 2):
        text = JsonText(1 << 20)
        found: list[str] = []

        def reading(text: JsonText = text, found: list[str] = found) -> Reading[None]:
            yield from text.peek()
            yield from text.string(found.append)

        if said[: at[0]]:
            run(text, reading(), pieces(f'"{said}"', at))
            assert "".join(found) == "\ud83d\U0001f600\ude00\\ud83d \ud83d"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1,]", "Expecting value at character 3"),
        ("[1 2]", "Expecting , or ] at character 3"),
        ('{"a" 1}', "Expecting : at character 5"),
        ("{a: 1}", "Expecting a name in double quotes at character 1"),
        ('{"a": 1,}', "Expecting a name in double quotes at character 8"),
        ('["\n"]', "Invalid control character at character 2"),
        (r'["\x"]', r"Invalid \\escape at character 2"),
        ("[[1}, 2]", "Expecting ',' delimiter at character 3"),
        ("[tru]", "Expecting value at character 1"),
        ("[01]", "Expecting , or ] at character 2"),
        ("['a']", "Expecting value at character 1"),
        ("]", "Expecting value at character 0"),
    ],
)
def test_an_error_names_the_place_however_the_text_was_cut(text: str, reason: str) -> None:
    for at in range(len(text) + 1):
        with pytest.raises(JsonError, match=f"^{reason}$") as caught:
            walked(pieces(text, [at]), 1)
        assert caught.value.slug == "not_json"


def test_what_is_wrong_is_told_before_all_has_come() -> None:
    """A page is not waited for to its end, nor is the rest of what is no JSON."""
    text = JsonText(1 << 20)

    def reading() -> Reading[None]:
        yield from text.peek()
        yield from text.value()

    push = Push(text, reading())
    with pytest.raises(JsonError, match="Expecting value at character 0"):
        push.add("<html>")


def test_a_value_can_be_too_long() -> None:
    for at in ([], [5], range(12)):
        assert walked(pieces('["1234567"]', at), 1, largest=9) == (["1234567"], '["1234567"]')
        with pytest.raises(JsonError, match="longer than 8 characters at character 1") as caught:
            walked(pieces('["1234567"]', at), 1, largest=8)
        assert caught.value.slug == "too_much"
