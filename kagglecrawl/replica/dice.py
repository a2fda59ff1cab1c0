"""Draws that are the same on every machine and every version of Python.

`random` only promises that for `random()` itself, and `hash()` not at all; SHAKE-256 is a standard.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_BLOCK = 64
_NUMBERS = struct.Struct(f">{_BLOCK}Q")


class Dice:
    """An endless row of numbers that depends on `key` alone."""

    def __init__(self, *key: object) -> None:
        self._key = "\0".join(map(str, key)).encode()
        self._numbers = self._stream()

    def _stream(self) -> Iterator[int]:
        block = 0
        while True:
            digest = hashlib.shake_256(b"%d\0%s" % (block, self._key)).digest(_NUMBERS.size)
            yield from _NUMBERS.unpack(digest)
            block += 1

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (next(self._numbers) >> 11) * 2.0**-53

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        return next(self._numbers) % bound

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[self.below(len(choices))]

    def sample(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different ones of the choices, in drawn order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]
