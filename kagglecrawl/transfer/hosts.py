"""Where a download may lead: Kaggle's storage over https, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import Unusable


def check_location(location: str, base: str, api_url: str, hosts: Collection[str]) -> str:
    """The address that a redirect from ``base`` leads to, if it may be followed.

    It may to https on one of ``hosts``, and to this machine when the API is on this machine too.
    Raises ``Unusable`` with a sentence that names the host alone: a signed URL is a secret.
    """
    if not location.strip():
        raise _refused("no address")
    try:
        url = urljoin(base, location.strip())
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("an address that cannot be read") from None
    if parts.username is not None or parts.password is not None:
        raise _refused(f"{_shown(host)} with a user name in its address")
    if not host:
        raise _refused("an address without a host")
    if is_loopback(url) and is_loopback(api_url) and parts.scheme in {"http", "https"}:
        return url
    if parts.scheme != "https":
        raise _refused(f"{_shown(host)} by {parts.scheme[:20]}, which is not https")
    if host.lower() not in hosts:
        raise _refused(
            f"{_shown(host)}, which is not among KAGGLE_STORAGE_HOSTS: add it if you trust it"
        )
    if port not in {None, 443}:
        raise _refused(f"port {port} of {_shown(host)}")
    return url


def _shown(host: str) -> str:
    """As it may stand in a log."""
    return ascii(host[:80])[1:-1]


def _refused(where: str) -> Unusable:
    return Unusable(f"the download is redirected to {where}", "redirect_refused")
