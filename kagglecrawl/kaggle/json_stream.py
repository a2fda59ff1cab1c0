"""JSON that comes in pieces: members and elements one at a time, all of the grammar checked.

Every value is parsed by Python's own scanner in C, on a window of the text that grows only while
one value is not whole. So it takes the time of ``json.loads``, and the memory of the largest value
that somebody asked for at once; what nobody asks for is passed over (``skip``) in parts, if it is
large. What reads is written as if all the text were there: a generator that waits where it has to,
run by the text that comes (``Push``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Literal, TypeVar

_T = TypeVar("_T")
#: What reads, and waits for more text at each ``yield``.
Reading = Generator[None, None, _T]

#: Characters to gather before a value that was not whole is tried again.
_WINDOW = 1 << 16
#: The window is so many times the largest value so far: about half a value is parsed in vain for
#: each window, which is an eighth of the work.
_VALUES = 4
#: Up to this size, as memory counts for more then.
_MOST_WINDOW = 4 << 20
#: A larger value is passed over in parts. What is parsed can take thirty times its text.
_WHOLE = 2 << 20
#: So deeply: each time, the first part is parsed in vain.
_DEEPEST = 16
#: Members or elements that are read one at a time, which takes far longer for each.
_MOST_PARTS = 100_000
#: Characters of an object's names.
_LONGEST_NAME = 1 << 16
#: So many pieces are put together: one costs up to 84 bytes, even of a single character.
_LOOSE = 1024
#: What was read as a number can go on by so many characters ("1" in "1e+5"): not whole before.
_LOOKAHEAD = 4
_SPACES = re.compile(r"[ \t\n\r]*")
#: A value that is cut can leave the head of one of these, of which the scanner makes nothing.
_WORDS = (
    *("true", "false", "null", "NaN", "Infinity", "-Infinity"),
    *(".", "e+", "e-", "E+", "E-"),
)
_NUMBER_ENDS = tuple("0123456789+-.eE")
_ESCAPE = len(r"\u0000")
#: More of what follows an error need not be looked at.
_REST = 16
_scan = json.JSONDecoder().raw_decode


class JsonError(ValueError):
    """The text is no JSON that can be read; ``slug`` says how, the message why and where.

    "unkept": it may be, but more is to be kept of it than ``most_kept``.
    """

    def __init__(self, slug: Literal["not_json", "cut", "too_much", "unkept"], reason: str) -> None:
        super().__init__(reason)
        self.slug = slug


class _TooLong(JsonError):
    """A value is longer than what was asked for."""


class JsonText:
    """A text that comes in pieces, with a cursor. Its methods raise ``JsonError``.

    ``largest`` is the most characters of one value, and ``most_kept`` of what is kept and not
    taken; None if somebody takes it all the time.
    """

    def __init__(self, largest: int) -> None:
        self.most_kept: int | None = None
        self._largest = largest
        self._text = ""
        self._at = 0
        self._before = 0  # characters that were read and let go
        self._pieces: list[str] = []
        self._loose = 0
        self._waiting = 0
        self._wanted = 1
        self._window = _WINDOW
        self._ended = False
        self._mark: int | None = None
        self._kept: list[str] = []
        self._length = 0

    # -- text comes --------------------------------------------------------------------------------

    def add(self, piece: str) -> bool:
        """Add the text that comes next; is it as much now as the reader waits for?"""
        if piece:
            self._pieces.append(piece)
            self._waiting += len(piece)
            self._loose += 1
            if self._loose == _LOOSE:
                self._pieces[-_LOOSE:] = ["".join(self._pieces[-_LOOSE:])]
                self._loose = 0
        return self._waiting >= self._wanted

    def end(self) -> None:
        """Nothing else comes."""
        self._ended = True

    def drop(self) -> None:
        """Let go of all that is held of the text, which is not read on."""
        self._text = ""
        self._at = self._waiting = self._loose = self._length = 0
        self._mark = None
        self._pieces.clear()
        self._kept.clear()

    def _more(self, unread: int) -> Reading[bool]:
        """Wait until so many characters are ahead of the cursor, or it is known that fewer come.

        False if that was known before.
        """
        if self._whole:
            return False
        self._wanted = max(1, unread - (len(self._text) - self._at))
        if self._waiting < self._wanted and not self._ended:
            yield
        self._keep()
        self._before += self._at
        self._text = "".join((self._text[self._at :], *self._pieces))
        self._at = 0
        if self._mark is not None:
            self._mark = 0
        self._pieces.clear()
        self._waiting = self._loose = 0
        return True

    @property
    def _whole(self) -> bool:
        """Does the window reach to the end of the text?"""
        return self._ended and not self._pieces

    # -- what was read is kept ---------------------------------------------------------------------

    def start(self) -> None:
        """Keep what is read from here on, and nothing from before."""
        self._kept.clear()
        self._length = 0
        self._mark = self._at

    def stop(self) -> None:
        """Keep nothing of what follows."""
        self._keep()
        self._mark = None

    def _keep(self) -> None:
        if self._mark is not None and self._mark < self._at:
            self._kept.append(self._text[self._mark : self._at])
            self._length += self._at - self._mark
            self._mark = self._at

    def _check_kept(self) -> None:
        if self.most_kept is not None and self.kept > self.most_kept:
            raise JsonError("unkept", f"more than {self.most_kept:,} characters are kept of it")

    @property
    def kept(self) -> int:
        """How many characters ``take`` would give."""
        return self._length + (0 if self._mark is None else self._at - self._mark)

    def take(self) -> str:
        """What was kept since the last time."""
        self._keep()
        kept = "".join(self._kept)
        self._kept.clear()
        self._length = 0
        return kept

    # -- reading -----------------------------------------------------------------------------------

    def peek(self) -> Reading[str]:
        """The next character that is no white space, which is not read yet; ``""`` at the end."""
        while True:
            spaces = _SPACES.match(self._text, self._at)
            assert spaces  # it matches nothing, too
            self._at = spaces.end()
            self._check_kept()
            if self._at < len(self._text):
                return self._text[self._at]
            if not (yield from self._more(1)):
                return ""

    def value(self, most: int | None = None) -> Reading[object]:
        """The value that comes next, as ``json.loads`` gives it; of at most so many characters, if
        that is less than ``largest``."""
        most = self._largest if most is None else min(most, self._largest)
        yield from self.peek()
        while True:
            try:
                found, end = _scan(self._text, self._at)
            except RecursionError:
                raise JsonError("too_much", f"it is nested too deeply {self._place()}") from None
            except json.JSONDecodeError as error:
                if not _goes_on(error):
                    raise self._bad(error) from None
            except ValueError:  # Python reads no whole number of more than 4,300 digits
                if self._whole or not self._text.endswith(_NUMBER_ENDS):
                    raise JsonError("too_much", f"a number is too long {self._place()}") from None
            else:
                if self._whole or end + _LOOKAHEAD <= len(self._text):
                    size = end - self._at
                    if size > most:
                        raise self._too_long(most)
                    self._window = max(self._window, min(_VALUES * size, _MOST_WINDOW))
                    self._at = end
                    return found
            unread = len(self._text) - self._at
            enough = most + _LOOKAHEAD
            if unread > enough:
                raise self._too_long(most)
            if not (yield from self._more(min(max(2 * unread, self._window), enough + 1))):
                raise self._cut()

    def skip(self, depth: int = _DEEPEST) -> Reading[None]:
        """Pass over the value that comes next. It is checked as ``value`` checks it."""
        first = yield from self.peek()
        begin = self._before + self._at
        try:
            yield from self.value(_WHOLE)
            return
        except _TooLong as error:
            if self._largest <= _WHOLE or not depth:
                raise JsonError("too_much", str(error)) from None
        # not in the handler: the error would be held meanwhile

        def check() -> None:
            if self._before + self._at - begin > self._largest:
                raise self._too_long(self._largest)

        def element() -> Reading[None]:
            yield from self.skip(depth - 1)
            check()

        if first == "{":
            yield from self.members(lambda _: element())
        elif first == "[":
            yield from self.elements(element)
        elif first == '"':
            yield from self.string(lambda _: check())
        else:
            raise self._too_long(_WHOLE)

    def members(self, each: Callable[[str], Reading[None]]) -> Reading[None]:
        """Read an object, the cursor being at its ``{``. ``each`` gets a name and reads a value."""
        self._at += 1
        if (yield from self.peek()) == "}":
            self._at += 1
            return
        for _ in range(_MOST_PARTS):
            if (yield from self.peek()) not in {'"', ""}:
                raise JsonError("not_json", f"Expecting a name in double quotes {self._place()}")
            name = yield from self.value(_LONGEST_NAME)
            assert isinstance(name, str)
            yield from self._one_of(":")
            yield from each(name)
            if (yield from self._one_of(",}")) == "}":
                return
        raise self._too_many()

    def elements(self, each: Callable[[], Reading[None]]) -> Reading[None]:
        """Read a list, the cursor being at its ``[``. ``each`` reads a value."""
        self._at += 1
        if (yield from self.peek()) == "]":
            self._at += 1
            return
        for _ in range(_MOST_PARTS):
            yield from each()
            if (yield from self._one_of(",]")) == "]":
                return
        raise self._too_many()

    def string(self, each: Callable[[str], None]) -> Reading[None]:
        """Read a string, the cursor being at its first ``"``. ``each`` gets piece after piece of
        what it says; half of a surrogate pair is handed on only where it has no other half."""
        self._at += 1
        half = ""
        while True:
            cut = _before_escape(self._text, self._at)
            # the piece ends the string that it is made: if the scanner stops before, it has ended
            piece = f'"{self._text[self._at : cut]}"'
            try:
                found, end = _scan(piece)
            except json.JSONDecodeError as error:
                place = self._at + error.pos - 1
                raise self._bad(json.JSONDecodeError(error.msg, self._text, place)) from None
            if half:
                both = (half + found).encode("utf-16-le", "surrogatepass")
                found = both.decode("utf-16-le", "surrogatepass")
                half = ""
            if end < len(piece):
                each(found)
                self._at += end - 1
                return
            self._at = cut
            if "\ud800" <= found[-1:] <= "\udbff":
                found, half = found[:-1], found[-1]
            each(found)
            self._check_kept()
            if not (yield from self._more(1)):
                raise self._cut()

    def _one_of(self, wanted: str) -> Reading[str]:
        found = yield from self.peek()
        if found and found in wanted:
            self._at += 1
            return found
        what = f"Expecting {' or '.join(wanted)}"
        raise self._bad(json.JSONDecodeError(what, self._text, self._at))

    # -- errors ------------------------------------------------------------------------------------

    def _place(self) -> str:
        return f"at character {self._before + self._at:,}"

    def _too_long(self, most: int) -> JsonError:
        return _TooLong("too_much", f"a value is longer than {most:,} characters {self._place()}")

    def _too_many(self) -> JsonError:
        reason = f"a value has more than {_MOST_PARTS:,} parts {self._place()}"
        return JsonError("too_much", reason)

    def _cut(self) -> JsonError:
        length = self._before + len(self._text)
        return JsonError("cut", f"it ends in the middle, after {length:,} characters")

    def _bad(self, error: json.JSONDecodeError) -> JsonError:
        if self._whole and _goes_on(error):
            return self._cut()
        # the scanner's words hold nothing of the text
        what = error.msg.removesuffix(" at").removesuffix(": ")
        return JsonError("not_json", f"{what} at character {self._before + error.pos:,}")


class Push:
    """Runs what reads a text with the text that comes."""

    def __init__(self, text: JsonText, reading: Reading[None]) -> None:
        self._text = text
        self._reading = reading
        next(reading)

    def add(self, piece: str) -> None:
        """Hand on a piece. Raises what reading it raises."""
        if self._text.add(piece):
            next(self._reading, None)

    def end(self) -> None:
        """Nothing else comes. Raises what reading raises, if that is too early or not."""
        self._text.end()
        next(self._reading, None)

    def drop(self) -> None:
        """Read no more, and let go of what is held of the text."""
        self._reading.close()
        self._text.drop()


def _goes_on(error: json.JSONDecodeError) -> bool:
    """Can the text be right so far, and only not be whole?"""
    rest = error.doc[error.pos : error.pos + _REST]
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\"):
        return len(rest) < _ESCAPE and '"' not in rest
    return not rest or any(word.startswith(rest) for word in _WORDS)


def _before_escape(text: str, start: int) -> int:
    """Where a string can be cut: its end, or before an escape that is not whole there."""
    last = text.rfind("\\", max(start, len(text) - _ESCAPE + 1))
    if last < 0:
        return len(text)
    head = text[start : last + 1]
    begins = (len(head) - len(head.rstrip("\\"))) % 2  # not: a backslash that is escaped itself
    whole = last + 2 <= len(text) and text[last + 1] != "u"
    return last if begins and not whole else len(text)
