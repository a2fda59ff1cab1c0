"""Replays as they come: unwrapped and checked piece by piece, and compressed.

The JSON of a game comes in several wrappings: as it is, in a ``replay`` beside other fields, as an
object or as a string of JSON, and that again in a ``result``. Out comes the game's own JSON, which
is then the same wherever it was had from. Replays of 2026 have 30 MB and more, so none is ever in
memory as a whole: what is held is a window on the text, of some times the largest agent's part of
a step, and some MB at most, whatever comes.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import math
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from kagglecrawl.kaggle.json_stream import JsonError, JsonText, Push, Reading

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: "cut": the text ends too early. "not_json": a page, or damaged. "no_replay": other JSON, such as
#: an error's. "bad_replay": a replay, but what it says of the game cannot be so.
Slug = Literal["not_json", "cut", "no_replay", "bad_replay"]

#: Names that only a replay's object has: the object in which one of them is comes unwrapped.
_REPLAYS = frozenset({"configuration", "specification", "steps", "rewards", "statuses"})
_FACTS = frozenset({"name", "info", "rewards", "statuses"})
#: Characters of one of these.
_LARGEST_FACT = 1 << 20
#: Characters that are held until it is known where the replay is.
_UNPLACED = 4 << 20


@dataclass(frozen=True)
class ReplayFacts:
    """What a replay says of its game, and what its JSON is."""

    name: str
    """Of the environment, such as ``halite``."""
    episode_id: int | None
    """The replay's ``info.EpisodeId``; old replays have none."""
    steps: int
    agents: int
    rewards: list[float | None]
    """One for each agent, as the replay has it; null, NaN and infinite ones are None."""
    statuses: list[str]
    """One for each agent, such as ``DONE``."""
    size: int
    """Bytes of the JSON itself, uncompressed."""
    sha256: str
    """Of the JSON itself, in hex."""


class BadReplay(ValueError):
    """What came is no whole replay; the message says why, and holds nothing of the text."""

    def __init__(self, slug: Slug, reason: str) -> None:
        super().__init__(reason)
        self.slug: Slug = slug


class ReplayReader:
    """Takes an answer's bytes and gives the replay's own JSON, as far as it is known.

    For an object these are its very bytes, without what is around it; for a string, what it says.
    The bytes are worth something only when ``close`` has found all of it to be right.

    ``most`` is how many bytes an answer may have (uncompressed), ``largest`` how many characters
    one value in it, such as an agent's part of a step. Memory does not grow with either.
    """

    def __init__(self, *, most: int = 2 << 30, largest: int = 64 << 20) -> None:
        self._most = most
        self._largest = largest
        self._came = 0
        self._size = 0
        self._hash = hashlib.sha256()
        # passes over a byte order mark
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._outer = JsonText(largest)
        self._unplaced = self._outer.most_kept = min(_UNPLACED, 2 * largest)
        self._inner: JsonText | None = None
        self._game = _Game(self._outer)
        self._place: Literal["unknown", "object", "wrapped"] = "unknown"
        self._push = Push(self._outer, self._answer())
        self._failed: tuple[Slug, str] | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the answer; the bytes of the replay that are sure now, if any.

        Raises ``BadReplay``, and from then on always.
        """
        self._came += len(data)
        return self._read(data, last=False)

    def close(self) -> tuple[bytes, ReplayFacts]:
        """Nothing else comes: the last bytes, and the facts. Raises ``BadReplay`` like ``feed``."""
        rest = self._read(b"", last=True)
        self.drop()
        return rest, self._game.facts(self._size, self._hash.hexdigest())

    def drop(self) -> None:
        """Let go of what is held of the text: nothing of it is read on."""
        self._push.drop()
        if self._inner:
            self._inner.drop()

    def _read(self, data: bytes, *, last: bool) -> bytes:
        if self._failed:
            raise BadReplay(*self._failed)
        try:
            if self._came > self._most:
                raise BadReplay("bad_replay", f"it is larger than {self._most:,} bytes")
            self._push.add(self._decoder.decode(data, last))
            if last:
                self._push.end()
            return self._sure()
        except BadReplay as error:
            self._failed = error.slug, str(error)
        except UnicodeDecodeError as error:
            cut = error.reason == "unexpected end of data"
            reason = "it ends in the middle of a character" if cut else "it is not UTF-8"
            self._failed = "cut" if cut else "not_json", reason
        except UnicodeEncodeError:
            self._failed = "not_json", "its text has half of a surrogate pair"
        except JsonError as error:
            if error.slug == "unkept":
                reason = f"no replay begins in its first {self._unplaced:,} characters"
                self._failed = "no_replay", reason
            else:
                slug: Slug = "bad_replay" if error.slug == "too_much" else error.slug
                self._failed = slug, str(error)
        # Not in the handlers, and not what was caught there: those errors hold the text, by way of
        # their tracebacks, and this object would hold itself.
        self.drop()
        assert self._failed
        raise BadReplay(*self._failed)

    def _sure(self) -> bytes:
        """What was read of the replay since the last time, once it is known where it is."""
        if self._place == "unknown":
            return b""
        sure = (self._inner or self._outer).take().encode()
        self._hash.update(sure)
        self._size += len(sure)
        return sure

    # -- the wrapping ------------------------------------------------------------------------------

    def _answer(self) -> Reading[None]:
        """Read the whole answer."""
        text = self._outer
        yield from _object(text)
        text.start()
        yield from text.members(self._member)
        text.stop()
        if self._place == "unknown":
            raise BadReplay("no_replay", "it is JSON, but has neither steps nor a replay")
        if (yield from text.peek()):
            raise BadReplay("not_json", "something follows after its end")

    def _member(self, name: str) -> Reading[None]:
        """A member of the answer, which may be the game, or have it."""
        if self._place == "unknown" and name in _REPLAYS:
            self._place = "object"
            self._outer.most_kept = None
        first = yield from self._outer.peek()
        if self._place != "object" and name == "result" and first == "{":
            yield from self._outer.members(self._of_result)
        elif self._place != "object" and name == "replay" and first in {"{", '"'}:
            yield from self._wrapped(first)
        elif self._place == "wrapped":
            yield from self._outer.skip()
        else:
            yield from self._game.member(name)

    def _of_result(self, name: str) -> Reading[None]:
        first = yield from self._outer.peek()
        if name == "replay" and first in {"{", '"'}:
            yield from self._wrapped(first)
        else:
            yield from self._outer.skip()

    def _wrapped(self, first: str) -> Reading[None]:
        """Read the game, which begins here."""
        if self._place == "wrapped":
            raise BadReplay("bad_replay", "there are two replays in it")
        self._place = "wrapped"
        self._outer.most_kept = None
        self._outer.start()  # and forget what was kept of the wrapping
        if first == "{":
            self._game = _Game(self._outer)
            yield from self._outer.members(self._game.member)
            self._outer.stop()
            return
        self._outer.stop()
        self._inner = JsonText(self._largest)
        self._game = _Game(self._inner)
        push = Push(self._inner, self._said(self._inner))
        yield from self._outer.string(push.add)
        push.end()

    def _said(self, text: JsonText) -> Reading[None]:
        """Read the game in a string."""
        text.start()
        if not (yield from text.peek()):
            raise BadReplay("no_replay", "the replay in it is empty")
        yield from _object(text)
        yield from text.members(self._game.member)
        if (yield from text.peek()):
            raise BadReplay("not_json", "something follows after the replay's end")


def _object(text: JsonText) -> Reading[None]:
    """Go to the ``{`` of an object."""
    first = yield from text.peek()
    if not first:
        raise BadReplay("cut", "it is empty")
    if first != "{":
        yield from text.skip()
        raise BadReplay("no_replay", "it is JSON, but no object")


class _Game:
    """Reads a replay's members, and judges them."""

    def __init__(self, text: JsonText) -> None:
        self._text = text
        self._found: dict[str, object] = {}
        self._steps = 0
        self._agents = 0

    def member(self, name: str) -> Reading[None]:
        """Read a member's value. Raises ``BadReplay``, and ``JsonError`` as the text does."""
        if name in self._found:
            raise BadReplay("bad_replay", f"it has two members {name}")
        if name == "steps":
            self._found[name] = None
            if (yield from self._text.peek()) == "[":
                yield from self._text.elements(self._step)
            else:
                yield from self._text.skip()
            if not self._steps:
                raise BadReplay("bad_replay", "its steps are no list, or an empty one")
            return
        if name not in _FACTS:
            yield from self._text.skip()
        elif name == "info" and (yield from self._text.peek()) == "{":
            self._found[name] = {}
            yield from self._text.members(self._of_info)
        else:
            self._found[name] = yield from self._text.value(_LARGEST_FACT)

    def _of_info(self, name: str) -> Reading[None]:
        """A member of ``info``: all but the number may be large."""
        if name == "EpisodeId":
            self._found["info"] = {name: (yield from self._text.value(_LARGEST_FACT))}
        else:
            yield from self._text.skip()

    def _step(self) -> Reading[None]:
        agents = 0

        def agent() -> Reading[None]:
            nonlocal agents
            first = yield from self._text.peek()
            yield from self._text.skip()
            if first != "{":
                raise BadReplay("bad_replay", f"its step {self._steps} is no list of objects")
            agents += 1

        if (yield from self._text.peek()) == "[":
            yield from self._text.elements(agent)
        else:
            yield from self._text.skip()
        if not agents:
            raise BadReplay("bad_replay", f"its step {self._steps} is no list of objects")
        if self._steps and agents != self._agents:
            raise BadReplay(
                "bad_replay",
                f"its step {self._steps} has {agents} agents, those before have {self._agents}",
            )
        self._agents = agents
        self._steps += 1

    def facts(self, size: int, sha256: str) -> ReplayFacts:
        """What was read. Raises ``BadReplay`` if it is no replay, or cannot be right."""
        if "steps" not in self._found:
            raise BadReplay("no_replay", "it has no steps")
        name = self._found.get("name")
        if not isinstance(name, str) or not _encodable(name):
            raise BadReplay("bad_replay", "its name is no text")
        rewards = self._list("rewards")
        if not all(each is None or type(each) in {int, float} for each in rewards):
            raise BadReplay("bad_replay", "its rewards are no list of numbers and nulls")
        statuses = self._list("statuses")
        if not all(isinstance(each, str) and _encodable(each) for each in statuses):
            raise BadReplay("bad_replay", "its statuses are no list of texts")
        return ReplayFacts(
            name=name,
            episode_id=self._episode_id(),
            steps=self._steps,
            agents=self._agents,
            rewards=[_finite(each) for each in cast(list[float | None], rewards)],
            statuses=cast(list[str], statuses),
            size=size,
            sha256=sha256,
        )

    def _list(self, name: str) -> list[object]:
        value = self._found.get(name)
        if not isinstance(value, list):
            raise BadReplay("bad_replay", f"its {name} are no list")
        if len(value) != self._agents:
            raise BadReplay(
                "bad_replay", f"it has {len(value)} {name}, and {self._agents} agents in its steps"
            )
        return value

    def _episode_id(self) -> int | None:
        info = self._found.get("info") or {}
        if not isinstance(info, dict):
            raise BadReplay("bad_replay", "its info is no object")
        number = info.get("EpisodeId")
        if number is not None and type(number) is not int:
            raise BadReplay("bad_replay", "its info.EpisodeId is no whole number")
        return number


def _finite(number: float | None) -> float | None:
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _encodable(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)


# -- compressed ------------------------------------------------------------------------------------

#: On Kaggle's own Halite replays, on one core: gzip 6 makes 5.6 times less of them at 45 MB/s, 9
#: makes 5.9 times less at 10 MB/s. zstd 3 makes 5.2 times less at 290 MB/s, 8 makes 6.3 times less
#: at 75 MB/s, and 12 only 6.5 times less at 23 MB/s.
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 8
#: For zlib: the largest window, within gzip's header and trailer.
_GZIP_WBITS = 16 + zlib.MAX_WBITS


class Compressor:
    """Makes a gzip or zstd file of bytes that come in pieces; it ends in a checksum of them.

    The same bytes give the same file, however they were cut: it has no time and no name in it.
    """

    def __init__(self, kind: Literal["gzip", "zstd"]) -> None:
        self.suffix = ".gz" if kind == "gzip" else ".zst"
        self.content_type = f"application/{kind}"
        self._engine = (
            zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
            if kind == "gzip"
            else zstd.ZstdCompressor(
                options={
                    zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
                    zstd.CompressionParameter.checksum_flag: 1,
                }
            )
        )

    def write(self, data: bytes) -> bytes:
        """Take the next bytes; the file's next bytes, if any."""
        return self._engine.compress(data)

    def close(self) -> bytes:
        """The file's last bytes."""
        return self._engine.flush()


#: What reading a file raises that is no replay, or a damaged one.
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, zstd.ZstdError)


def open_replay(path: Path) -> BinaryIO:
    """A replay's JSON, to be read as bytes: of a file that ends in ``.gz`` or ``.zst``, or in
    neither, which is read as it is. Reading raises what ``UNREADABLE`` has."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix == ".zst":
        return cast(BinaryIO, zstd.open(path))
    return path.open("rb")
