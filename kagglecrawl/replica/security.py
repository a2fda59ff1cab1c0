"""`security.OAuthService`, and who may ask: the credentials that the replica knows."""

import base64
import hmac
from typing import Literal

from kagglesdk.security.types.oauth_service import IntrospectTokenRequest, IntrospectTokenResponse

from kagglecrawl.replica.rpc import Method, Site
from kagglecrawl.replica.wire import Reply, encode

TOKEN = "KGAT_replica_0000000000000000000000"  # noqa: S105 - a fake one, made to be shown
USERNAME = "replica"
KEY = "0123456789abcdef0123456789abcdef"

Identity = Literal["bearer", "basic", "anonymous", "refused"]


def identify(authorization: str | None) -> Identity:
    """Whom an `Authorization` header names: Bearer token, Basic name and key, or nobody."""
    if authorization is None:
        return "anonymous"
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer" and _same(value, TOKEN):
        return "bearer"
    if scheme.lower() == "basic":
        try:
            plain = base64.b64decode(value, validate=True).decode()
        except ValueError:
            return "refused"
        if _same(plain, f"{USERNAME}:{KEY}"):
            return "basic"
    return "refused"


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


def _introspect(site: Site, request: IntrospectTokenRequest) -> Reply:
    """The kaggle CLI 2.2.4 asks this once per process, and takes an inactive token for none."""
    reply = IntrospectTokenResponse()
    if _same(request.token, TOKEN):
        reply.active = True
        reply.username = USERNAME
        reply.user_id = 1
    return encode(reply)


METHODS = (
    Method(
        "security.OAuthService",
        "IntrospectToken",
        IntrospectTokenRequest,
        _introspect,
        key=lambda request: "token",
        anonymous=True,
    ),
)
