"""The child process that calls Kaggle through the unmodified ``kaggle`` package.

``python -m kagglecrawl.transport.worker`` reads one JSON object a line on stdin::

    {"id": 1, "op": "call", "service": "datasets.DatasetApiService", "method": "GetDataset",
     "body": {"ownerSlug": "zillow", "datasetSlug": "zecon"}}

and writes one a line on stdout, first ``{"ready": true}``, then in any order::

    {"id": 1, "status": 200, "headers": {"Content-Type": "application/json"}, "body": "{…}"}
    {"id": 1, "error": "refused", "text": "ConnectionError"}

``error`` is one of ``timeout``, ``refused``, ``unknown_host``, ``cut``, ``broken`` (no whole answer
came), ``credentials`` (the package accepts none) and ``unreadable`` (it failed on the answer).
It ends when stdin does, whatever its threads are at, so that it never outlives the crawl.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import requests

#: A crawl has 8 calls at once (CONCURRENT_REQUESTS_PER_DOMAIN); the rest is for those that were
#: given up and cannot be stopped. Threads are only started as they are needed.
THREADS = 16

_TEXT_LENGTH = 200
_KEPT_HEADERS = ("Content-Type", "Date", "Location", "Retry-After")

Message = dict[str, Any]


class Worker:
    """Answers messages; each thread has a client, and so a connection, of its own."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._writing = threading.Lock()
        self._signing_in = threading.Lock()
        self._of_thread = threading.local()
        self._ops = {"call": self._call}

    def load(self) -> None:
        """Import the package and say so. A failure ends the process; its traceback says why."""
        try:
            import kaggle  # noqa: F401  (it signs in as it is imported, so not before we listen)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        self._write({"ready": True})

    def answer(self, line: bytes) -> None:
        """Do what one message asks for, and write the answer."""
        message: Message = json.loads(line)
        try:
            answer = self._ops[message["op"]](message)
        except requests.RequestException as error:
            answer = _no_answer(error)
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
            return _answer(200, text, {"Content-Type": "text/plain"})
        return _answer(200, json.dumps(reply.to_dict()), {"Content-Type": "application/json"})

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


def _answer(status: int, body: str, headers: dict[str, str]) -> Message:
    return {"status": status, "headers": headers, "body": body}


def _no_answer(error: requests.RequestException) -> Message:
    if (response := error.response) is not None:
        kept = {name: value for name in _KEPT_HEADERS if (value := response.headers.get(name))}
        return _answer(response.status_code, response.text, kept)
    # the class alone: a message may quote a header, and so the token
    return {"error": _kind(error), "text": type(error).__name__}


def _kind(error: requests.RequestException) -> str:
    causes = tuple(_causes(error))
    if any(isinstance(cause, TimeoutError | requests.Timeout) for cause in causes):
        return "timeout"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "unknown_host"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut"
    return "broken"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def main() -> None:
    """Serve until stdin ends."""
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
        pool.submit(worker.load)
        for line in messages:
            pool.submit(worker.answer, line)
    finally:
        os._exit(0)  # leaving by the door would wait for threads that may never come back


if __name__ == "__main__":
    main()
