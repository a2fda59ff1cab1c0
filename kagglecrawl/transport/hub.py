"""Meta Kaggle by kagglehub: tables of the dataset ``kaggle/meta-kaggle``, in kagglehub's own cache.

kagglehub runs in a child process (cached.py), as with KAGGLE_TRANSPORT=official, and takes what is
whole in its cache from there: then one request asks for the newest version, and none where the
version is known. All tables of a process are of one version, unless a request names another.

A server on this machine has a cache of its own in WORKSPACE: what a replica gives as version 7 is
not Kaggle's.

Stats: ``kaggle/requests/…`` as they are sent, ``kaggle/retries/<reason>``,
``kaggle/meta_kaggle/received`` (bytes on the disk that were not there before).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import DownloadFailedError, DownloadTimeoutError

from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.auth import CredentialsError, find_credentials, is_loopback
from kagglecrawl.kaggle.errors import (
    Away,
    CredentialsRefused,
    Damaged,
    Misconfigured,
    NoReply,
    NoSpace,
    NotFound,
    RetryLater,
    SkipResource,
    StopCrawl,
    Throttled,
    Unreachable,
    judge,
    parse_retry_after,
)
from kagglecrawl.metakaggle.table import TableRefused
from kagglecrawl.middlewares import pause
from kagglecrawl.state.holds import Held
from kagglecrawl.state.leases import Interrupted
from kagglecrawl.transport.child import Child, Message
from kagglecrawl.transport.official import address_of, environment_of
from kagglecrawl.transport.sending import about_to_send, count_sent, scheduler_of
from kagglecrawl.units import amount

logger = logging.getLogger(__name__)

REF = "kaggle/meta-kaggle"
_INSTEAD = "give -a meta_kaggle=FOLDER, where its tables are"
_CALLS = {call.method: call for call in (rpc.GET_DATASET, rpc.DOWNLOAD_DATASET)}
#: Seconds between two looks at the disk, and between two lines in the log.
_LOOK_EVERY = 1.0
_TELL_EVERY = 30.0
#: Bytes that must have come for the next attempt to be a first one.
_PROGRESS = 1 << 20
#: Seconds after which a request that was held back is looked at again.
_SOON = 1.0


class Found(NamedTuple):
    """Where a table is, and of which version."""

    folder: Path
    version: str


class NotInCache(Exception):
    """The table must be fetched, and its request has no quota family in which that would count: it
    is to be made again, with one."""


def check_hub(api_url: str) -> None:
    """Raise ``SettingError`` if kagglehub cannot be had to fetch Meta Kaggle from this address."""
    _address(api_url)


def _address(api_url: str) -> dict[str, str]:
    if sys.platform == "win32":
        raise SettingError(f"Meta Kaggle cannot be fetched by kagglehub on Windows: {_INSTEAD}")
    address = address_of(api_url)
    if address is None:
        raise SettingError(
            f"Meta Kaggle cannot be fetched from KAGGLE_API_URL={api_url}, since kagglehub reaches "
            f"https://api.kaggle.com and http://127.0.0.1:PORT/api alone: {_INSTEAD}"
        )
    return address


class Hub:
    """Has tables in kagglehub's cache, one after the other. ``KAGGLEHUB_CACHE`` says where that is
    for Kaggle's own, else it is ~/.cache/kagglehub."""

    def __init__(self, crawler: Crawler, config: KaggleConfig) -> None:
        self._crawler = crawler
        self._config = config
        self._one_by_one = asyncio.Lock()
        self._child: Child | None = None
        self._found: dict[tuple[str, str], Found] = {}
        #: The version of the tables of which none is named.
        self._version = ""
        self._closed = False
        self._jitter = random.Random()  # noqa: S311  (spreads retries; not a secret)

    @property
    def cache(self) -> Path:
        """The folder of kagglehub's cache."""
        if is_loopback(self._config.api_url):
            return self._config.workspace.absolute() / "kagglehub-loopback"
        chosen = os.environ.get("KAGGLEHUB_CACHE")
        return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "kagglehub"

    async def have(self, request: Request, name: str, version: str) -> Found:
        """Have a table; ``version`` is the one to have, "" for any.

        Raises ``StopCrawl`` where it cannot be had, ``RetryLater`` where Kaggle does not give it
        however often it is asked, and ``Interrupted`` where the request is to go back into the
        queue, since nothing may be sent for longer than KAGGLE_MAX_WAIT.
        """
        if (found := self._found.get((name, version or self._version))) is not None:
            return found  # and need not wait for another table
        async with self._one_by_one:
            version = version or self._version
            found = self._found.get((name, version)) or self._in_cache(name, version)
            if found is None:
                try:
                    found = await self._fetch(request, name, version)
                except NotFound as error:
                    if not version:
                        _not_to_be_had(name, error)
                    logger.warning("%s: version %s is gone, so the newest is read", error, version)
                    found = await self._newest(request, name)
            self._version = self._version or found.version
            self._found[name, version] = self._found[name, found.version] = found
            return found

    def forget(self, name: str, version: str) -> None:
        """A table in the cache is damaged: it is to be fetched again. In a thread."""
        self._found = {at: found for at, found in self._found.items() if at[0] != name}
        home = self.cache / "datasets" / REF
        for file in (f"{name}.csv", f"{name}.csv.zip"):
            with suppress(OSError):
                (home / ".complete" / version / f"{file}.complete").unlink(missing_ok=True)
                (home / "versions" / version / file).unlink(missing_ok=True)

    async def close(self) -> None:
        """End the child process, if there is one."""
        self._closed = True
        if self._child is not None:
            await self._child.kill()

    async def _newest(self, request: Request, name: str) -> Found:
        try:
            return await self._fetch(request, name, "")
        except NotFound as error:
            _not_to_be_had(name, error)

    def _in_cache(self, name: str, version: str) -> Found | None:
        """What kagglehub would find by itself (verified: 1.0.2), without a process for that."""
        home = self.cache / "datasets" / REF
        folder, file = home / "versions" / version, f"{name}.csv"
        marker = home / ".complete" / version / f"{file}.complete"
        if version and marker.is_file() and (folder / file).is_file():
            return Found(folder, version)
        return None

    # -- attempts ---------------------------------------------------------------------------------

    async def _fetch(self, request: Request, name: str, version: str) -> Found:
        """Ask until it is there. Raises ``NotFound``, and as ``have`` does."""
        attempt, alike, waited = 1, 0, 0.0
        while True:
            fetching = _Fetching(self._crawler, self.cache, name, self._config.min_free)
            try:
                return await self._attempt(request, version, fetching)
            except NotFound:
                raise
            except SkipResource as error:
                _not_to_be_had(name, error)
            except RetryLater as error:
                damaged = isinstance(error, Damaged)
                alike += damaged
                if fetching.received >= _PROGRESS and not damaged:
                    attempt = 1  # kagglehub goes on where it was
                most = self._config.max_attempts
                wait = self._wait_after(error, attempt)
                waited = waited + wait if fetching.received < _PROGRESS else wait
                if isinstance(error, Throttled):
                    self._push_back(request, fetching.method, wait, waited)
                    if waited > self._config.max_wait:
                        self._not_now(request, f"{name}.csv of Meta Kaggle: {error}", error.delay)
                else:
                    spent = attempt >= most or alike >= error.most_attempts
                    if spent or waited > self._config.max_wait:
                        _given_up(name, error)
                    attempt += 1
                self._count(f"kaggle/retries/{error.slug}")
                logger.info("%s.csv of Meta Kaggle: %s. Asked again in %.1f s", name, error, wait)
            await asyncio.sleep(wait)

    def _wait_after(self, error: RetryLater, attempt: int) -> float:
        if not error.delay:
            return pause(attempt, self._config.retry_base, self._jitter.random())
        return error.delay + 0.05 + 0.2 * self._jitter.random()

    def _push_back(self, request: Request, method: str, wait: float, waited: float) -> None:
        """A 429 is for all requests of the kind. Short waits that add up to more than
        KAGGLE_MAX_WAIT become a long one, at which the scheduler ends the crawl."""
        self._count("kaggle/throttled")
        longest = self._config.max_wait
        until = time.time() + (max(wait, longest + 1) if waited > longest else wait)
        families = {request.meta.get("family"), _CALLS[method].family if method in _CALLS else ""}
        if (scheduler := scheduler_of(self._crawler)) is not None:
            for family in filter(None, families):
                scheduler.hold(family, until)

    def _not_now(self, request: Request, why: str, delay: float | None = None) -> NoReturn:
        """It has to wait for longer than KAGGLE_MAX_WAIT: that is for the scheduler to do."""
        ours = getattr(self._crawler.spider, "keeps_accounts", False)
        if scheduler_of(self._crawler) is not None and ours and request.meta.get("family"):
            raise Interrupted
        raise Throttled(why, delay)

    async def _may_send(self, request: Request) -> None:
        if not request.meta.get("family"):
            raise NotInCache
        waited = 0.0
        while True:
            try:
                about_to_send(self._crawler, request)
            except Held as error:
                wait = min(max(error.until - time.time(), 0.01), _SOON)
                waited += wait
                if error.until - time.time() + waited > self._config.max_wait:
                    self._not_now(request, "Nothing may be sent to Kaggle now")
                await asyncio.sleep(wait)
            else:
                return

    # -- one attempt ------------------------------------------------------------------------------

    async def _attempt(self, request: Request, version: str, fetching: _Fetching) -> Found:
        try:
            known = not find_credentials().anonymous
            environment = environment_of("kagglehub", _address(self._config.api_url))
        except CredentialsError as error:
            raise CredentialsRefused(str(error)) from None
        except SettingError as error:
            raise Misconfigured(str(error)) from None
        await self._may_send(request)
        if self._closed:
            raise Interrupted
        child = self._child = await Child.start("kagglehub", environment, _INSTEAD)
        answer: Message | None = None
        stall = self._config.stall_timeout
        message = {
            "op": "file",
            "handle": REF + (f"/versions/{version}" if version else ""),
            "path": f"{fetching.name}.csv",
            "cache": str(self.cache),
            "look_every": min(_LOOK_EVERY, stall / 20),
        }
        try:
            await child.wait_until_ready()
            answer = await child.ask(message, stall, fetching.told, fetching.sending)
        except TimeoutError:
            raise NoReply(f"nothing has come in {stall:g} s") from None
        except (DownloadTimeoutError, DownloadFailedError) as error:
            raise NoReply(str(error)) from None
        finally:
            self._count("kaggle/meta_kaggle/received", fetching.received)
            await (child.kill() if answer is None else child.close())
            self._child = None
        if "path" not in answer:
            self._raise(answer, fetching.method, known=known)
        path = Path(answer["path"])
        if answer["fetched"]:
            logger.info("%s of %s is here: %s", path.name, _what(path), amount(answer["size"]))
        return Found(path.parent, _version_of(path))

    def _raise(self, answer: Message, method: str, *, known: bool) -> NoReturn:
        if "status" in answer:
            try:
                reply = json.loads(answer["body"])
            except ValueError:
                reply = None
            after, body = answer["headers"].get("Retry-After", ""), answer["body"].encode()
            call = _CALLS.get(method, rpc.DOWNLOAD_DATASET)
            wait = parse_retry_after(after)
            try:
                judge(call, answer["status"], reply, body, wait=wait, known=known)
            except StopCrawl as why:
                raise type(why)(f"{why}; or {_INSTEAD}") from None
            raise NoReply(f"kagglehub cannot use the answer of {method}")
        error, text = answer["error"], answer["text"]
        if error == "disk":
            raise NoSpace(
                f"kagglehub's cache {self.cache} cannot be written ({text}): mend that, or set "
                "KAGGLEHUB_CACHE to another folder"
            )
        if error in {"refused", "unknown_host"}:
            raise Away(f"nobody is at KAGGLE_API_URL={self._config.api_url} ({text})")
        if error == "damaged":
            raise Damaged(f"what came is damaged ({text})")
        if error == "unreadable":
            raise Misconfigured(f"kagglehub cannot read an answer ({text}): {_INSTEAD}")
        raise NoReply(f"the download broke off ({text})")

    def _count(self, name: str, count: int = 1) -> None:
        assert self._crawler.stats is not None
        self._crawler.stats.inc_value(name, count)


class _Fetching:
    """What is told of an attempt while it is under way."""

    def __init__(self, crawler: Crawler, cache: Path, name: str, min_free: int) -> None:
        self._crawler = crawler
        self._cache = cache
        self._min_free = min_free
        self._next_line = time.monotonic() + _TELL_EVERY
        self.name = name
        #: The call that went out last.
        self.method = ""
        #: Bytes that have come.
        self.received = 0

    def sending(self, method: str) -> None:
        """A call of the API goes out."""
        self.method = method
        count_sent(self._crawler, method)
        if method == rpc.DOWNLOAD_DATASET.method:
            logger.info("Fetching %s.csv of %s into %s", self.name, REF, self._cache)

    def told(self, size: int) -> None:
        """So many bytes have come. Raises ``NoSpace``."""
        self.received = max(self.received, size)
        if (now := time.monotonic()) >= self._next_line:
            self._next_line = now + _TELL_EVERY
            logger.info("%s.csv of %s: %s so far", self.name, REF, amount(self.received))
        free = shutil.disk_usage(self._cache).free
        if free < self._min_free:
            raise NoSpace(
                f"{amount(free)} are free at kagglehub's cache {self._cache}, and "
                f"{amount(self._min_free)} are to stay free (WORKSPACE_MIN_FREE): make room, or "
                "set KAGGLEHUB_CACHE to another folder"
            )


def _not_to_be_had(name: str, error: SkipResource) -> NoReturn:
    raise TableRefused(f"{name}.csv of Meta Kaggle cannot be had ({error}): {_INSTEAD}")


def _given_up(name: str, error: RetryLater) -> NoReturn:
    text = f"{name}.csv of Meta Kaggle: {error}"
    if isinstance(error, Away):
        raise Unreachable(f"{text}. Check the network and KAGGLE_API_URL, then run it again")
    raise type(error)(text, error.delay)


def _version_of(path: Path) -> str:
    found = re.search(r"/versions/(\d+)/[^/]*$", path.as_posix())
    return found[1] if found else ""


def _what(path: Path) -> str:
    return f"{REF}, version {_version_of(path)}"
