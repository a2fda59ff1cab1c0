"""What the child process says of a failure of its package's, and never of its text: that may quote
a header, and so the token, or a signed URL, which is a secret as well."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

Message = dict[str, Any]

_BODY_LENGTH = 1 << 16
_KEPT_HEADERS = ("Content-Type", "Date", "Location", "Retry-After")
#: What the system says of a name that an archive gives a file; of anything else the disk is to
#: blame, or who may write there.
_BAD_NAMES = {
    *(errno.EEXIST, errno.EILSEQ, errno.EINVAL, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR),
}


def failed(error: Exception) -> Message | None:
    """The answer that stands for a failure of kagglehub's; None where only what it has left on the
    disk can tell more."""
    from kagglehub.exceptions import DataCorruptionError

    text = getattr(error, "doc", None)
    if isinstance(error, ValueError) and isinstance(text, str):  # no JSON: the text, not the status
        return answered(200, text[:_BODY_LENGTH], {"Content-Type": "text/plain"})
    if isinstance(error, requests.RequestException):
        return no_answer(error) if error.response is None else _refusal(error.response)
    if isinstance(error, DataCorruptionError):
        return {"error": "damaged", "text": type(error).__name__}
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _BAD_NAMES:
        return disk(error)
    return None


def name_of(error: Exception) -> str:
    """A word for it: its class, or the system's own."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode[error.errno]
    return type(error).__name__


def disk(error: OSError) -> Message:
    """Files cannot be written."""
    return {"error": "disk", "errno": error.errno, "text": error.strerror}


def _refusal(response: requests.Response) -> Message:
    """The answer of the API; of storage, which redirects lead to, no more than what passes."""
    status = response.status_code
    headers = {name: value for name, value in _kept(response).items() if name != "Location"}
    if not response.history:
        try:
            body: bytes = next(response.iter_content(_BODY_LENGTH), b"")
        except requests.RequestException as error:
            return {"error": _kind(error), "text": type(error).__name__}
        return answered(status, body.decode("utf-8", "replace"), headers)
    if status >= 500 or status in {408, 429}:
        return answered(status, "", headers)
    return {"error": "broken", "text": f"storage answered {status}"}


def page_in_place_of(archive: Path) -> Message | None:
    """The answer with status 200 that kagglehub has taken for an archive: nothing, a web page,
    an error as JSON."""
    with archive.open("rb") as stream:
        text = stream.read(_BODY_LENGTH).decode("utf-8", "replace")
    if not text.strip() or text.lstrip()[0] == "<":
        return answered(200, text, {"Content-Type": "text/html"})
    try:
        reply = json.loads(text)
    except ValueError:
        return None
    if isinstance(reply, dict) and reply.keys() & {"code", "error", "errorMessage"}:
        return answered(200, text, {"Content-Type": "application/json"})
    return None


def answered(status: int, body: str, headers: dict[str, str]) -> Message:
    """An answer of the API's, whatever it means."""
    return {"status": status, "headers": headers, "body": body}


def no_answer(error: requests.RequestException) -> Message:
    """Why no whole answer came, or the answer that the package has taken for a failure."""
    if (response := error.response) is not None:
        return answered(response.status_code, response.text, _kept(response))
    # the class alone: a message may quote a header, and so the token
    return {"error": _kind(error), "text": type(error).__name__}


def _kept(response: requests.Response) -> dict[str, str]:
    return {name: value for name in _KEPT_HEADERS if (value := response.headers.get(name))}


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
