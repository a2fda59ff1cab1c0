"""A 401 may be about one resource or about the credentials: what tells them apart is a request."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any
from uuid import uuid4

from scrapy import Request
from scrapy.http import Response
from twisted.python.failure import Failure

from kagglecrawl.kaggle.errors import UNAUTHORIZED, CredentialsRefused, KaggleError, StopCrawl
from kagglecrawl.kaggle.rpc import TABLE, Rpc
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.spiders.remembering import NEXT_STEP_PRIORITY
from kagglecrawl.state import leases


class DoubtingSpider(KaggleSpider):
    """A spider of resources of which some answer 401 to everybody (reported, kaggle-facts 1.2).

    Before the crawl ends for a 401, Kaggle is asked ``proof``, which it answers to all whom it
    knows. Nothing that was answered before tells: a token may be revoked at any moment.
    """

    proof: Rpc

    def fields_of(self, key: str) -> dict[str, Any]:
        """The fields by which a call names the resource of this key."""
        raise NotImplementedError

    def before_stopping(self, error: StopCrawl, request: Request) -> Request | None:
        """The look at the credentials, in place of the end."""
        call = TABLE.get(request.meta.get("rpc", ""))
        if not isinstance(error, CredentialsRefused) or call is None or call.kind != "item":
            return None
        again = {"rpc": call.name, "run": self._run, **request.cb_kwargs}
        return self._request(
            self.proof,
            {"page": 1},
            callback=self.answered,
            dont_filter=True,
            priority=NEXT_STEP_PRIORITY,
            meta={"key": request.meta["key"]},
            cb_kwargs={"again": again},
        )

    def failed(self, failure: Failure) -> Iterator[Any]:
        """The errback. What becomes of a look at the credentials says nothing of the resource:
        where that fails, it is asked for by the next run."""
        again = failure.request.cb_kwargs.get("again")  # type: ignore[attr-defined]
        error = failure.value
        if again is None or isinstance(error, StopCrawl):
            yield from super().failed(failure)
        else:
            self.logger.warning("Failed %s: %s", again["key"], error)
            leases.declare_failed(error.slug if isinstance(error, KaggleError) else "no_reply")

    def answered(self, _: Response, again: dict[str, Any]) -> Iterator[Any]:
        """The credentials are good, so the refusal was of this resource; unless they are others
        than at that time, since the crawl was ended and begun again."""
        key, otherwise = again["key"], again["otherwise"]
        if again["run"] != self._run:
            call, fields = TABLE[again["rpc"]], self.fields_of(key)
            yield self.fetch(
                call, again["then"], key, again["row"], again=True, otherwise=otherwise, **fields
            )
        elif otherwise:
            yield from getattr(self, otherwise)(key, again["row"], UNAUTHORIZED)
        else:
            self.accounts.skip(key, UNAUTHORIZED)

    @cached_property
    def _run(self) -> str:
        """Tells this process's run from others."""
        return uuid4().hex
