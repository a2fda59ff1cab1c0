"""A job directory: one job, gone on with by one process at a time, and by no other job.

What is in it, all of it readable by its owner alone::

    kagglecrawl.sqlite   the job (state/store.py), with -wal and -shm beside it while it is open
    lock                 held by the process that runs the job; its process id
    feeds/               rows of feeds that are not at their place yet (state/feeds.py)
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from scrapy.settings import BaseSettings

from kagglecrawl.config import store_of, store_settings
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.store import FILE, NotOurs, Store

_LOCK = "lock"
#: Another value would put rows of another kind into the same feed.
_DECISIVE = (
    "KAGGLE_MIN_USABILITY",
    "FEED_EXPORT_BATCH_ITEM_COUNT",
    "FEED_EXPORT_ENCODING",
    "FEED_EXPORT_FIELDS",
)
#: Options of a feed that its format and the way it is opened do not need.
_PLAIN = {"format", "overwrite"}
_ANEW = "name another JOBDIR to begin anew"
#: Someone who looks whether a job runs holds its lock for a moment.
_LOCK_ATTEMPTS = 20
_LOCK_PAUSE = 0.02


class JobRefused(ValueError):
    """A run must not go on with this job; the text says why and what to do."""


@dataclass(frozen=True)
class Identity:
    """What makes a job this job. Runs that differ in any of it are not of the same job.

    ``feeds`` are the feeds' URIs and formats; ``workspace`` an absolute path.
    """

    spider: str
    arguments: dict[str, str]
    api_url: str
    workspace: str
    feeds: dict[str, str]
    #: Checksums of the files that arguments name.
    files: dict[str, str] = field(default_factory=dict)
    #: Settings that decide what is stored.
    settings: dict[str, str] = field(default_factory=dict)
    #: The store that files go to, and who keeps it; empty: to the workspace.
    store: str = ""

    @classmethod
    def of(cls, spider: str, arguments: Mapping[str, Any], settings: BaseSettings) -> Self:
        """From what a run was started with. A scheduler's own arguments, such as scrapyd's
        ``_job``, differ from run to run and do not count."""
        feeds = settings.getdict("FEEDS")
        decisive = {name: str(settings.get(name)) for name in _DECISIVE if _is_set(settings, name)}
        decisive.update(store_settings(settings, spider))
        if any(set(each) - _PLAIN for each in feeds.values() if isinstance(each, dict)):
            # one that is compressed, say: plain rows behind those could not be read
            whole = {_place(uri): options for uri, options in feeds.items()}
            decisive["FEEDS"] = json.dumps(whole, default=str, sort_keys=True)
        return cls(
            spider=spider,
            arguments={k: str(v) for k, v in sorted(arguments.items()) if not k.startswith("_")},
            api_url=str(settings.get("KAGGLE_API_URL") or "").rstrip("/"),
            workspace=str(Path(settings.get("WORKSPACE") or "").absolute()),
            feeds={_place(uri): _format(options) for uri, options in feeds.items()},
            files={name: sum_ for name, text in arguments.items() if (sum_ := _checksum(text))},
            settings=decisive,
            store=store_of(settings),
        )


class Job:
    """A job directory that this process has taken."""

    def __init__(self, folder: Path, store: Store, lock: int) -> None:
        self.folder = folder
        self.store = store
        self._lock = lock

    @staticmethod
    def check(folder: Path, identity: Identity) -> None:
        """Raise ``JobRefused`` if ``take`` would; changes nothing."""
        if sys.platform == "win32":
            raise JobRefused("JOBDIR does not work on Windows yet: leave it out")
        _refuse_others_files(folder)
        if not (folder / FILE).exists():
            return
        if holder := lock_holder(folder):
            raise JobRefused(_in_use(folder, holder))
        with _readably(folder), contextlib.closing(Store.look(folder / FILE)) as store:
            if store.get("created"):  # else a kill has come before
                _compare(folder, store, identity)

    @classmethod
    def take(cls, folder: Path, identity: Identity) -> Self:
        """Take the job, or begin it. Raises ``JobRefused`` in one sentence."""
        cls.check(folder, identity)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _take_lock(folder)
        except OSError as error:
            raise JobRefused(
                f"JOBDIR={folder} cannot be written ({error.strerror}): check who owns it"
            ) from None
        with contextlib.ExitStack() as undo, _readably(folder):
            undo.callback(os.close, lock)
            begun = (folder / FILE).exists()
            store = Store.open(folder / FILE) if begun else Store.create(folder / FILE)
            undo.callback(store.close)
            if begun and store.get("created"):
                _compare(folder, store, identity)
            else:
                _begin(store, identity)
            undo.pop_all()
        return cls(folder, store, lock)

    def leave(self) -> None:
        """Close the file and let others have the job."""
        self.store.close()
        os.close(self._lock)


def lock_holder(folder: Path) -> int | None:
    """The id of the process that runs the job, or None if none does."""
    if sys.platform == "win32":
        return None  # no job can run there
    import fcntl

    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return int(os.read(lock, 20).strip() or 0) or -1
    finally:
        os.close(lock)
    return None


def _take_lock(folder: Path) -> int:
    """An open file that holds the lock; the system releases it when the process ends, however."""
    import fcntl

    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt == _LOCK_ATTEMPTS - 1:
                holder = int(os.read(lock, 20).strip() or 0)
                os.close(lock)
                raise JobRefused(_in_use(folder, holder)) from None
            time.sleep(_LOCK_PAUSE)
        else:
            break
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _in_use(folder: Path, holder: int) -> str:
    return f"JOBDIR={folder} is in use by process {holder}: wait for it, or name another JOBDIR"


def _refuse_others_files(folder: Path) -> None:
    if (folder / FILE).exists():
        return
    for name in ("requests.queue", "requests.seen"):
        if (folder / name).exists():
            raise JobRefused(f"JOBDIR={folder} is a job of another Scrapy project: {_ANEW}")


def _begin(store: Store, identity: Identity) -> None:
    for name, value in asdict(identity).items():
        store.put(name, value if isinstance(value, str) else json.dumps(value))
    store.put("created", datetime.now(UTC).isoformat(timespec="seconds"))
    store.put("clean", "1")
    store.commit()


def _compare(folder: Path, store: Store, identity: Identity) -> None:
    for name, ours in asdict(identity).items():
        text = store.get(name) or ""
        theirs = text if isinstance(ours, str) else json.loads(text or "{}")
        if theirs != ours:
            if isinstance(ours, dict) and isinstance(theirs, dict):  # what differs, and no more
                names = [n for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
                ours = {n: ours[n] for n in names if n in ours}
                theirs = {n: theirs[n] for n in names if n in theirs}
            raise JobRefused(
                f"JOBDIR={folder} is of a job with other {name} "
                f"({_shown(theirs)}, now {_shown(ours)}): {_ANEW}"
            )


class _readably:
    """Says in one sentence what is wrong with a job's file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, NotOurs):
            raise JobRefused(f"JOBDIR={self._folder}: {error}: {_ANEW}") from None
        if isinstance(error, sqlite3.Error | OSError | ValueError) and not isinstance(
            error, JobRefused
        ):
            raise JobRefused(
                f"{self._folder / FILE} cannot be used ({error}): restore it from a copy, or "
                f"{_ANEW}; feeds and pages stay as they are"
            ) from None


def _is_set(settings: BaseSettings, name: str) -> bool:
    return settings.get(name) is not None and settings.get(name) != ""


def _format(options: Any) -> str:
    name = str(options.get("format") if isinstance(options, dict) else options)
    return "jsonlines" if name in {"jsonl", "jl"} else name


def _checksum(text: Any) -> str:
    """Of the file that an argument's text names; empty if it names none."""
    try:
        return sha256(Path(text).read_bytes()).hexdigest()[:12] if Path(text).is_file() else ""
    except (OSError, TypeError, ValueError):
        return ""


def _place(uri: Any) -> str:
    """A feed's URI, the same from wherever it is looked at, and without secrets."""
    text = str(uri)
    if isinstance(uri, Path) or not ("://" in text or text.startswith(("file:", "stdout:"))):
        return str(Path(uri).absolute())
    return clean(text)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items()) or "none"
    return str(value)
