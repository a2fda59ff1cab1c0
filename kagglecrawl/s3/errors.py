"""What went wrong with the store, named by what the caller should do.

No text holds a key, a signature, or a URL with a query.
"""

from __future__ import annotations

from kagglecrawl.kaggle.errors import Away, RetryLater, StopCrawl, Unusable


class StoreFailed(RetryLater):
    """The store failed for now: 5xx, SlowDown, a cut, a time-out, a 200 that holds an error."""

    slug = "store_failed"

    def __init__(self, message: str, delay: float | None = None, *, cause: str = "failed") -> None:
        super().__init__(message, delay)
        #: The word that it is counted under when it is tried again.
        self.cause = cause


class RequestRefused(StoreFailed):
    """The store refuses a request, for a reason that says nothing of its key: it may be the store's
    fault, or ours, so the resource has failed for now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, cause="refused")


class StoreAway(Away):
    """Nobody answers at the store's address: true of every request to it alike."""

    slug = "store_away"


class Unproved(RetryLater):
    """What the store has, by its own word, is not what it was given.

    ``slug`` is ``store_lost`` (no object), ``store_truncated`` (another size) or
    ``store_damaged`` (another checksum, or other bytes).
    """

    most_attempts = 3

    def __init__(self, message: str, slug: str) -> None:
        super().__init__(message)
        self.slug = slug


class StoreRefused(StopCrawl):
    """The store will have nothing of us until somebody does something: the text says what."""

    reason = "s3_refused"


class StoreUnreachable(StopCrawl):
    """Nobody has answered at the store's address for too long."""

    reason = "s3_unreachable"


class KeyRefused(Unusable):
    """The store refuses this one object: a key that it cannot have, a folder where a file is."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "store_refused")
