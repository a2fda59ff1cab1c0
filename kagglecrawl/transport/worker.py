"""The child process that calls Kaggle through the unmodified ``kaggle`` or ``kagglehub``.

``python -m kagglecrawl.transport.worker kaggle`` reads one JSON object a line on stdin::

    {"id": 1, "op": "call", "service": "datasets.DatasetApiService", "method": "GetDataset",
     "body": {"ownerSlug": "zillow", "datasetSlug": "zecon"}}

and writes one a line on stdout, first ``{"ready": true}``, then in any order::

    {"id": 1, "status": 200, "headers": {"Content-Type": "application/json"}, "body": "{…}"}
    {"id": 1, "error": "refused", "text": "ConnectionError"}

Of a call whose answer is a file, ``base64`` is there in place of ``body``. ``error`` is one of
``timeout``, ``refused``, ``unknown_host``, ``cut``, ``broken`` (no whole answer came),
``credentials`` (the package accepts none) and ``unreadable`` (it failed on the answer).

``… kagglehub`` downloads one dataset at a time; ``into`` becomes its tree, and ``scratch`` is where
it works, and is removed::

    {"id": 1, "op": "download", "handle": "zillow/zecon/versions/3", "scratch": "…", "into": "…",
     "look_every": 1.0}

It looks at the disk every ``look_every`` seconds, and says how many bytes are there if that has
changed; at the end how many the tree has and that it is done, or what the API answered in place of
files, or an error, among them ``damaged`` (not by its checksum), ``archive`` (it cannot be
unpacked) and ``disk`` (with ``errno``)::

    {"id": 1, "so_far": 1048576}
    {"id": 1, "done": true}

It also has one file of a dataset in kagglehub's cache (cached.py), and says before each call to
the API which that is, how much has come, and where the file is::

    {"id": 2, "op": "file", "handle": "kaggle/meta-kaggle", "path": "Competitions.csv",
     "cache": "…", "look_every": 1.0}
    {"id": 2, "sending": "GetDataset"}
    {"id": 2, "path": "…/versions/1819/Competitions.csv", "fetched": true, "size": 1048576}

No text of an exception is told of a download: it may quote a signed URL, which is a secret.
It ends when stdin does, whatever its threads are at, so that it never outlives the crawl.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import requests

from kagglecrawl.transport.cached import Fetching
from kagglecrawl.transport.failures import (
    Message,
    answered,
    disk,
    failed,
    name_of,
    no_answer,
    page_in_place_of,
)

#: A crawl has 8 calls at once (CONCURRENT_REQUESTS_PER_DOMAIN); the rest is for those that were
#: given up and cannot be stopped. Threads are only started as they are needed.
THREADS = 16

_TEXT_LENGTH = 200
#: Bytes of a small file.
_LARGEST_FILE = 256 << 20


class Worker:
    """Answers messages; each thread has a client, and so a connection, of its own."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._writing = threading.Lock()
        self._signing_in = threading.Lock()
        self._of_thread = threading.local()
        self._ops = {"call": self._call, "download": self._download, "file": self._file}

    def load(self, package: str) -> None:
        """Import the package and say so. A failure ends the process; its traceback says why."""
        try:
            importlib.import_module(package)  # kaggle signs in meanwhile: not before we listen
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        if package == "kagglehub":  # bars of its progress, and warnings of urllib3's with URLs
            os.dup2(1, 2)
        self._write({"ready": True})

    def answer(self, line: bytes) -> None:
        """Do what one message asks for, and write the answer."""
        message: Message = json.loads(line)
        try:
            answer = self._ops[message["op"]](message)
        except requests.RequestException as error:
            answer = no_answer(error)
        except SystemExit:  # how authenticate() says that there is nobody to be
            answer = {"error": "credentials", "text": "none that the kaggle package accepts"}
        except Exception as error:  # whatever kagglesdk stumbles over in an answer
            answer = {"error": "unreadable", "text": f"{type(error).__name__}: {error}"}
        if "text" in answer:
            answer["text"] = answer["text"][:_TEXT_LENGTH]
        self._write({"id": message["id"], **answer})

    def _write(self, message: Message) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._writing:
            self._output.write(line)
            self._output.flush()

    def _call(self, message: Message) -> Message:
        try:
            method = find_method(self._client(), message["service"], message["method"])
            request_class = inspect.signature(method).parameters["request"].annotation
            reply = method(request_class.from_dict(message["body"]))
        except ValueError as error:
            # Not JSON: json's error, or the one that requests makes of it. Both carry the text,
            # but not the status: kagglesdk 0.1.37 decodes before it looks at that.
            text = getattr(error, "doc", None)
            if not isinstance(text, str):
                raise
            return answered(200, text, {"Content-Type": "text/plain"})
        if isinstance(reply, requests.Response):
            return _file_of(reply)
        return answered(200, json.dumps(reply.to_dict()), {"Content-Type": "application/json"})

    def _download(self, message: Message) -> Message:
        scratch, into = Path(message["scratch"]), Path(message["into"])
        with self._telling(message, lambda: on_disk(scratch)):
            try:
                answer = download(message["handle"], scratch, into)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        if "done" in answer:  # a small one is over before there was a look
            self._write({"id": message["id"], "so_far": on_disk(into)[0]})
        return answer

    def _file(self, message: Message) -> Message:
        fetching = Fetching(
            message["handle"],
            message["path"],
            Path(message["cache"]),
            lambda method: self._write({"id": message["id"], "sending": method}),
        )
        folder = fetching.folder
        before = on_disk(folder)[0]

        def seen() -> tuple[int, int]:
            size, entries = on_disk(folder)
            return max(0, size - before), entries + fetching.checked

        with self._telling(message, seen):
            answer = fetching.run()
        self._write({"id": message["id"], "so_far": seen()[0]})  # a small one had no look
        return answer

    @contextmanager
    def _telling(self, message: Message, look: Callable[[], tuple[int, int]]) -> Iterator[None]:
        """Meanwhile say how many bytes are there: the first of what ``look`` gives, when any of it
        has changed."""
        ended = threading.Event()
        told = threading.Thread(target=self._tell, args=(message, look, ended), daemon=True)
        told.start()
        try:
            yield
        finally:
            ended.set()
            told.join()

    def _tell(
        self, message: Message, look: Callable[[], tuple[int, int]], ended: threading.Event
    ) -> None:
        pause = every = message["look_every"]
        last = (0, 0)
        while not ended.wait(pause):
            started = time.monotonic()
            seen = look()
            if seen != last:
                last = seen
                self._write({"id": message["id"], "so_far": seen[0]})
            # a tree of many files is not looked at all the time
            pause = min(max(every, 10 * (time.monotonic() - started)), 10 * every)

    def _client(self) -> Any:
        client = getattr(self._of_thread, "client", None)
        if client is None:
            client = self._of_thread.client = self._api().build_kaggle_client()
        return client

    def _api(self) -> Any:
        """The package's own ``KaggleApi``, signed in.

        Importing the package has tried that already, and has passed over any failure.
        """
        import kaggle

        api = kaggle.api
        with self._signing_in:
            if api.CONFIG_NAME_AUTH_METHOD not in api.config_values:
                api.authenticate()
        return api


def _file_of(reply: requests.Response) -> Message:
    """A small file, which kagglesdk gives as the response that brings it."""
    with reply:
        content = bytearray()
        for piece in reply.iter_content(1 << 16):
            content += piece
            if len(content) > _LARGEST_FILE:
                return {"error": "too_large", "text": "more than 256 MiB"}
    return {"status": 200, "headers": {}, "base64": base64.b64encode(content).decode()}


def find_method(client: Any, service: str, method: str) -> Any:
    """The client's method for a name on the wire, such as ``client.datasets.dataset_api_client``'s
    ``list_datasets`` for ``datasets.DatasetApiService`` and ``ListDatasets``.

    Raises ``LookupError`` if the installed kagglesdk has none.
    """
    package, _, name = service.partition(".")
    class_name = name.removesuffix("Service") + "Client"
    for stub in vars(getattr(client, package, object)).values():
        if type(stub).__name__ == class_name:
            for attribute in dir(stub):
                if attribute.replace("_", "") == method.lower():
                    return getattr(stub, attribute)
    raise LookupError(f"the installed kagglesdk has no {service}/{method}")


def download(handle: str, scratch: Path, into: Path) -> Message:
    """Have kagglehub put a dataset's files into a folder that is empty or not there.

    It does so in a cache of its own below ``scratch``, where its archive and its markers are
    beside the dataset's folder. (Given an ``output_dir`` it puts them among the dataset's files,
    whose names may be the same.)
    """
    import kagglehub

    os.environ["KAGGLEHUB_CACHE"] = str(scratch)
    try:
        tree = kagglehub.dataset_download(handle)
    except Exception as error:
        return _no_files(error, scratch)
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        Path(tree).rename(into)
    except OSError as error:
        return disk(error)
    return {"done": True}


def on_disk(folder: Path) -> tuple[int, int]:
    """Bytes and entries below a folder that somebody is at work in."""
    size = entries = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # it has gone meanwhile
    return size, entries


def _no_files(error: Exception, scratch: Path) -> Message:
    """The answer that stands for a failure of kagglehub's; of its text nothing."""
    if (answer := failed(error)) is not None:
        return answer
    name = name_of(error)
    archives = list(scratch.glob("datasets/*/*/*.archive"))
    if not archives:
        return {"error": "unreadable", "text": name}
    return page_in_place_of(archives[0]) or {"error": "archive", "text": name}


def main() -> None:
    """Serve until stdin ends. The argument is the package."""
    (package,) = sys.argv[1:]
    # Ctrl-C and a service manager's SIGTERM may reach the whole group: the crawl decides, not we.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The pipes are ours alone. The package prints notices, which must not get in between; and where
    # it calls exit(), site's Quitter closes sys.stdin, and would wait for us to have read it.
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    worker = Worker(answers)
    pool = ThreadPoolExecutor(THREADS)
    try:
        pool.submit(worker.load, package)
        for line in messages:
            pool.submit(worker.answer, line)
    finally:
        os._exit(0)  # leaving by the door would wait for threads that may never come back


if __name__ == "__main__":
    main()
