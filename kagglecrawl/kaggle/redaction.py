"""Text that may be shown: a signed URL is a secret, and so is a password in one."""

from __future__ import annotations

import re

# Everything up to the last "@" may be a password (one of AWS's may hold "/"); everything after "?"
# or "#" may be a signature or a token, up to white space. "\/" is how some JSON writes "/".
_URL = re.compile(
    r"(?P<scheme>(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+:(?:\\?/){2})"
    r"(?P<user>[^\s<>?#]*@)?"
    r"(?P<rest>[^\s<>?#]*)"
    r"(?P<tail>[?#][^\s<>]*)?"
)
_PARAMETER = re.compile(
    r"(?P<name>\b(?:x-(?:goog|amz)-[\w-]+|signature|sig|credential|access_token|token|api_?key)=)[^\s&'\"<>]+",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """The text without user names, queries and fragments in its URLs, without the values of
    parameters that sign something, and without control characters."""

    def shorten(match: re.Match[str]) -> str:
        user = "***@" if match["user"] else ""
        tail = f"{match['tail'][0]}…" if match["tail"] else ""
        return f"{match['scheme']}{user}{match['rest']}{tail}"

    return _CONTROL.sub(" ", _PARAMETER.sub(r"\g<name>…", _URL.sub(shorten, text)))
