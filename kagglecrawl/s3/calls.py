"""Calls to the store that are made again when they fail for now, and counted."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from kagglecrawl.s3.client import code_of, status_of, translated
from kagglecrawl.s3.errors import RequestRefused, StoreAway, StoreFailed, Unproved
from kagglecrawl.s3.tally import Tally

#: How often one call is made, and with what seconds between: they double.
_TRIES = 5
_AWAY_TRIES = 3
_WRONG_TRIES = 3
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 4.0

T = TypeVar("T")


class UploadGone(Exception):
    """The store does not know the multipart upload: it was completed, aborted, or has expired."""


class Missing(Exception):
    """The store's answer to a question that it may say no to; ``code`` is S3's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Calls:
    """Calls of boto3's ``client`` about one bucket.

    ``pause`` waits so many seconds before something is tried again; it may raise to end that.
    """

    def __init__(self, client: Any, bucket: str, pause: Callable[[float], None]) -> None:
        self.tally = Tally()
        self._client = client
        self._name = bucket
        self._pause = pause
        self._tries = _TRIES

    def pausing(self, pause: Callable[[float], None]) -> Self:
        """The same, whose waits are ``pause``; what it counts is counted together."""
        twin = copy.copy(self)
        twin.__dict__["_pause"] = pause
        return twin

    def until_right(
        self, work: Callable[[], T], *, tries: int = _WRONG_TRIES, reason: str = ""
    ) -> T:
        """What ``work`` brings, once it is not ``Unproved``."""
        for attempt in range(1, tries + 1):
            try:
                return work()
            except Unproved as wrong:
                if attempt == tries:
                    raise
                self.tally.count(f"retries/{reason or wrong.slug.removeprefix('store_')}")
            self._wait(attempt)
        raise AssertionError("unreachable")

    def of_upload(self, name: str, what: str, *, wrong: Iterable[str] = (), **asked: Any) -> Any:
        """A call about a multipart upload: ``UploadGone`` if the store does not know it,
        and ``Unproved`` if its error has one of the codes ``wrong``."""
        try:
            return self.call(name, what, none={"NoSuchUpload", *wrong}, **asked)
        except Missing as missing:
            if missing.code == "NoSuchUpload":
                raise UploadGone(what) from None
            raise Unproved(
                f"{what}: its parts do not add up ({missing.code})", "store_lost"
            ) from None

    def once(self) -> Self:
        """The same, that tries nothing again."""
        twin = copy.copy(self)
        twin.__dict__["_tries"] = 1
        return twin

    def call(self, name: str, what: str, *, none: Iterable[str] = (), **asked: Any) -> Any:
        """One call, with a few tries; ``Missing`` if its error has one of the codes ``none``."""
        method = getattr(self._client, name)

        def once() -> Any:
            try:
                return method(Bucket=self._name, **asked)
            except Exception as error:
                if (code := code_of(error)) in none and status_of(error):
                    raise Missing(code) from None
                raise

        return self.retried(once, what)

    def retried(self, call: Callable[[], T], what: str) -> T:
        """What ``call`` brings, with a few tries when it fails for now; errors are translated."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return call()
            except (Missing, Unproved):
                raise
            except Exception as error:
                failure = translated(error, what)
            if isinstance(failure, StoreAway):
                most, reason = min(_AWAY_TRIES, self._tries), "away"
            elif isinstance(failure, StoreFailed) and not isinstance(failure, RequestRefused):
                most, reason = self._tries, failure.cause
            else:
                raise failure from None
            if attempt >= most:
                raise failure from None
            self.tally.count(f"retries/{reason}")
            self._wait(attempt)

    def _wait(self, attempt: int) -> None:
        """Before the next attempt: not everybody's at the same moment."""
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
        self._pause(seconds * random.uniform(0.75, 1.25))  # noqa: S311
