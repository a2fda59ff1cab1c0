"""What a proxy before an S3 store reads and says: requests, answers, signatures, XML."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit
from xml.sax.saxutils import unescape

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

#: Of a connection, or of a signature that no longer holds: not passed on.
_NOT_PASSED = {
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "transfer-encoding",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
}
CHECKSUM = "x-amz-checksum-"
_ALGORITHMS = {"crc32", "crc32c", "crc64nvme", "sha1", "sha256"}
_PART = re.compile(r"<Part\b[^>]*>.*?</Part>", re.DOTALL)
_CONTENTS = re.compile(r"<Contents\b[^>]*>.*?</Contents>", re.DOTALL)
_CHECKSUM_ELEMENT = re.compile(r"<Checksum\w+>.*?</Checksum\w+>", re.DOTALL)
_ETAG = re.compile(r"""(<ETag>(?:&quot;|&#34;|")?)[\w-]+((?:&quot;|&#34;|")?</ETag>)""")
_SEALS = ("content-md5", "x-amz-sdk-checksum-algorithm")


def _operation(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    match method, bool(key):
        case "PUT", True if "partNumber" in query:
            return "part"
        case "PUT", True if not query and "x-amz-copy-source" not in headers:
            return "put"
        case "POST", True if "uploads" in query:
            return "create"
        case "POST", True if "uploadId" in query:
            return "complete"
        case "DELETE", True:
            return "abort" if "uploadId" in query else "delete"
        case "HEAD", True:
            return "head"
        case "GET", True:
            return "parts" if "uploadId" in query else "get"
        case "POST", False if "delete" in query:
            return "deletes"
        case "GET", False if "uploads" in query:
            return "uploads"
        case "GET", False if "list-type" in query or "prefix" in query:
            return "list"
    return "bucket"


@dataclass(frozen=True)
class Ask:
    """A request as its client sent it; ``headers`` have lower-case names."""

    method: str
    target: str
    """Path and query, percent-encoded as they came."""
    headers: Mapping[str, str]
    body: bytes = b""
    bucket: str = ""
    key: str = ""
    """Of a LIST its prefix."""
    query: Mapping[str, str] = field(default_factory=dict)
    operation: str = ""

    @classmethod
    def of(cls, request: web.BaseRequest) -> Self:
        """What this request asks for; its body is yet to be read."""
        target = request.raw_path
        parts = urlsplit(target)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in request.headers.items()}
        operation = _operation(request.method, key, query, headers)
        key = key or query.get("prefix", "")
        return cls(request.method, target, headers, b"", bucket, key, query, operation)

    def with_body(self, body: bytes) -> Ask:
        """The same with other bytes."""
        return replace(self, body=body)

    def unsealed(self, body: bytes) -> Ask:
        """The same with other bytes, and with nothing that would give them away."""
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in _SEALS and not name.startswith(CHECKSUM)
        }
        return replace(self, body=body, headers=headers)

    def aborting(self) -> Ask:
        """An AbortMultipartUpload of the same upload."""
        return replace(self, method="DELETE", body=b"", headers={}, operation="abort")

    def empty_part(self, number: int) -> Ask:
        """An UploadPart of the same upload, of no bytes."""
        query = f"partNumber={number}&uploadId={quote(self.upload, safe='')}"
        target = f"{self.target.partition('?')[0]}?{query}"
        return replace(self, method="PUT", target=target, body=b"", headers={}, operation="part")

    def reading(self, method: str) -> Ask:
        """A HEAD or GET of the same object."""
        path = self.target.partition("?")[0]
        return Ask(method, path, {}, b"", self.bucket, self.key, {}, method.lower())

    @property
    def upload(self) -> str:
        """The id of the multipart upload that it is about."""
        return self.query.get("uploadId", "")

    @property
    def number(self) -> int:
        """Of a part."""
        return int(self.query["partNumber"])

    @property
    def checksums(self) -> dict[str, str]:
        """What the client says of its body, by the names of the headers."""
        known = {f"{CHECKSUM}{name}" for name in _ALGORITHMS}
        return {name: value for name, value in self.headers.items() if name in known}


@dataclass(frozen=True)
class Answer:
    """An answer; ``headers`` have lower-case names, without any of the connection's."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def etag(self) -> str:
        """Without its quotes; empty where there is none."""
        return self.headers.get("etag", "").strip('"')

    def claiming(self, headers: Mapping[str, str]) -> Answer:
        """The same with these in the place of its checksums."""
        kept = {n: value for n, value in self.headers.items() if not n.startswith(CHECKSUM)}
        return replace(self, headers={**kept, **headers})

    def with_body(self, body: bytes) -> Answer:
        """The same with another body."""
        return replace(self, body=body, headers={**self.headers, "content-length": str(len(body))})


class Behind:
    """The real store: what is sent to it has this owner's signature."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        access_key: str,
        secret_key: str,
        region: str,
    ) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._auth = S3SigV4Auth(Credentials(access_key, secret_key), "s3", region)

    async def send(self, ask: Ask) -> Answer:
        """Its whole answer. Raises aiohttp.ClientError where it gives none."""
        headers = {name: value for name, value in ask.headers.items() if name not in _NOT_PASSED}
        url = self._endpoint + ask.target
        signed = AWSRequest(method=ask.method, url=url, data=ask.body, headers=headers)
        self._auth.add_auth(signed)
        async with self._session.request(
            ask.method,
            URL(url, encoded=True),
            data=io.BytesIO(ask.body),
            headers=dict(signed.headers.items()),
            allow_redirects=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
        ) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            for name in ("connection", "keep-alive", "transfer-encoding", "date", "server"):
                found.pop(name, None)
            return Answer(response.status, found, await response.read())


def error(status: int, code: str, key: str) -> Answer:
    """What S3 says where it does not do what it is asked for."""
    body = f"<Error><Code>{code}</Code><Message>so says the store</Message><Key>{key}</Key></Error>"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return xml(text, status)


def xml(text: str, status: int = 200) -> Answer:
    """An answer whose body is this."""
    body = text.encode()
    headers = {"content-type": "application/xml", "content-length": str(len(body))}
    return Answer(status, headers, body)


def completed(ask: Ask, etag: str) -> Answer:
    """What S3 says to a CompleteMultipartUpload."""
    return xml(
        '<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUploadResult>'
        f"<Bucket>{ask.bucket}</Bucket><ETag>&quot;{etag}&quot;</ETag>"
        "</CompleteMultipartUploadResult>"
    )


def md5(data: bytes) -> str:
    """The ETag of such a body, in hex."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def etag_of_parts(etags: Sequence[str]) -> str:
    """The ETag of an object that was uploaded in parts which have these."""
    joined = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{md5(joined)}-{len(etags)}"


def element(text: str, name: str) -> str:
    """What stands in the first such element; empty if there is none."""
    found = re.search(rf"<{name}\b[^>]*>(.*?)</{name}>", text, re.DOTALL)
    return unescape(found[1], {"&quot;": '"', "&#34;": '"', "&#39;": "'"}) if found else ""


def with_etag(text: str, etag: str) -> str:
    """The same XML, with this in the place of its ETags; in quotes where they are."""
    return _ETAG.sub(rf"\g<1>{etag}\g<2>", text)


@dataclass(frozen=True)
class Part:
    """A part as a CompleteMultipartUpload names it."""

    number: int
    etag: str
    text: str

    @classmethod
    def stored(cls, number: int, answer: Answer) -> Self:
        """The part of which a store has said this."""
        checksums = "".join(
            f"<Checksum{name.upper()}>{value}</Checksum{name.upper()}>"
            for header, value in answer.headers.items()
            if (name := header.removeprefix(CHECKSUM)) in _ALGORITHMS
        )
        etag = f"<ETag>&quot;{answer.etag}&quot;</ETag>"
        text = f"<Part>{etag}<PartNumber>{number}</PartNumber>{checksums}</Part>"
        return cls(number, answer.etag, text)


def parts_of(complete: bytes) -> list[Part]:
    """Each part that the body of a CompleteMultipartUpload names."""
    found = (each[0] for each in _PART.finditer(complete.decode()))
    return [
        Part(int(element(each, "PartNumber")), element(each, "ETag").strip('"'), each)
        for each in found
    ]


def complete_of(parts: Iterable[Part]) -> bytes:
    """The body of a CompleteMultipartUpload of these."""
    told = "".join(part.text for part in parts)
    return f"<CompleteMultipartUpload>{told}</CompleteMultipartUpload>".encode()


def relisted(text: str, entry: Callable[[str, str], str | None]) -> str:
    """A LIST's XML, whose entries are now ``entry(key, entry)``; those that are None are left
    out, and the count is kept right."""
    by_url = element(text, "EncodingType") == "url"
    gone = 0

    def change(found: re.Match[str]) -> str:
        nonlocal gone
        key = element(found[0], "Key")
        changed = entry(unquote_plus(key) if by_url else key, found[0])
        gone += changed is None
        return changed or ""

    text = _CONTENTS.sub(change, text)
    return re.sub(
        r"<KeyCount>(\d+)</KeyCount>", lambda n: f"<KeyCount>{int(n[1]) - gone}</KeyCount>", text
    )


def entry_like(entry: str, head: Answer) -> str:
    """A LIST's entry that says what this HEAD says."""
    size = head.headers.get("content-length", "0")
    text = re.sub(r"<Size>\d+</Size>", f"<Size>{size}</Size>", with_etag(entry, head.etag))
    return _CHECKSUM_ELEMENT.sub("", text)
