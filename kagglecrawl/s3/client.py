"""boto3's client for the store, and what its errors mean.

Nothing of boto3 is imported before a client is wanted: it takes a third of a second and 50 MB.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import kagglecrawl
from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.s3.destination import Destination, check_endpoint
from kagglecrawl.s3.errors import (
    KeyRefused,
    RequestRefused,
    StoreAway,
    StoreFailed,
    StoreRefused,
    Unproved,
)

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT = 10.0
_READ_TIMEOUT = 60.0
_MESSAGE_LENGTH = 200

#: Codes of S3's errors (and of what speaks it) that nothing of us will get past, with the next
#: step. The store's own message is left out: some quote what was signed.
_REFUSED = {
    "NoSuchBucket": "the bucket does not exist: create it, or name another",
    "InvalidBucketName": "the store cannot have a bucket of this name: name another",
    "AccessDenied": "the store denies access: check what the credentials may do in this bucket",
    "403": "the store denies access: check what the credentials may do in this bucket",
    "AllAccessDisabled": "the store has closed this bucket: ask its owner",
    "AccountProblem": "the store has a problem with the account: ask its owner",
    "InvalidAccessKeyId": "the store does not know the access key: check the credentials",
    "InvalidAccessKey": "the store does not know the access key: check the credentials",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check the credentials",
    "AuthorizationHeaderMalformed": "the store wants another region: set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "301": "the bucket is in another region: set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: set AWS_REGION",
    "ExpiredToken": "the session token has expired: get new credentials",
    "InvalidToken": "the store does not accept the session token: get new credentials",
    "TokenRefreshRequired": "the session token has expired: get new credentials",
    "RequestTimeTooSkewed": "this machine's clock and the store's differ too much: set the clock",
    "SecondLevelDomainForbidden": "the store wants the bucket in the host name: "
    "set addressing_style = virtual under s3 in ~/.aws/config",
    "QuotaExceeded": "the store has no more room: make some, or have the quota raised",
    "InsufficientStorage": "the store has no more room: make some, or have the quota raised",
    "XMinioStorageFull": "the store has no more room: make some, or have the quota raised",
    "XMinioAdminBucketQuotaExceeded": "the bucket's quota is used up: make room, or have it raised",
    "507": "the store has no more room: make some, or have the quota raised",
    "MethodNotAllowed": "what answers there does not do this: is it an S3 store?",
    "NotImplemented": "what answers there does not do this: is it an S3 store?",
}
#: Codes of failures that pass, by the word that they are counted under.
_PASSING = {
    "InternalError": "server_error",
    "ServiceUnavailable": "server_error",
    "SlowDown": "slow_down",
    "SlowDownRead": "slow_down",
    "SlowDownWrite": "slow_down",
    "Throttling": "slow_down",
    "ThrottlingException": "slow_down",
    "TooManyRequests": "slow_down",
    "RequestLimitExceeded": "slow_down",
    "429": "slow_down",
    "RequestTimeout": "timed_out",
    "408": "timed_out",
    "IncompleteBody": "cut",
    "OperationAborted": "conflict",
    "ConditionalRequestConflict": "conflict",
    "409": "conflict",
}
#: The store has computed another checksum than the one that was sent.
_DAMAGED = {
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "ContentChecksumMismatch",
}
#: The store cannot have an object of this key.
_OF_KEYS = {
    "KeyTooLong",
    "KeyTooLongError",
    "InvalidObjectName",
    "InvalidKey",
    "InvalidURI",
    "XMinioInvalidObjectName",
    "XMinioInvalidResourceName",
    "XMinioParentIsObject",
    "XMinioObjectExistsAsDirectory",
}
#: botocore's own exceptions, by name: they need no import so.
_AWAY = {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"}
_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "LoginRefreshRequired",
}
_CONFIGURED = {"ProfileNotFound", "ConfigParseError", "ConfigNotFound", "InvalidConfigError"}


def connect(destination: Destination, *, uploads: int) -> Any:
    """A boto3 client, for several threads: ``uploads`` requests at once.

    Its credentials and whatever the destination leaves open are found by boto3. It tries nothing
    again of its own, so that what is tried again is counted, and can be stopped. Raises
    ``StoreRefused`` with one sentence.
    """
    import boto3
    from botocore.config import Config

    if destination.made_https:
        logger.info("The store's endpoint is used by https, not http: %s", destination.endpoint)
    options: dict[str, Any] = {}
    if destination.endpoint is not None and is_loopback(destination.endpoint):
        options["proxies"] = {}
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        max_pool_connections=uploads + 2,
        tcp_keepalive=True,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # A checksum that we send could come back without having been computed.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # The answer's checksum proves the bytes; SHA-256 of them all would cost as much again.
        s3={"payload_signing_enabled": False},
        user_agent_extra=f"kagglecrawl/{kagglecrawl.__version__}",
        **options,
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=destination.access_key,
            aws_secret_access_key=destination.secret_key,
            aws_session_token=destination.session_token,
            # botocore itself knows AWS_DEFAULT_REGION alone
            region_name=destination.region or os.environ.get("AWS_REGION") or None,
        )
        region = session.region_name or "us-east-1"
        client = session.client(
            "s3", endpoint_url=destination.endpoint, region_name=region, config=config
        )
        check_endpoint(client.meta.endpoint_url)
    except ValueError as error:  # an endpoint of a profile
        raise StoreRefused(f"{destination.setting} cannot be used: {clean(str(error))}") from None
    except Exception as error:
        raise translated(error, f"{destination.setting} cannot be used") from None
    return client


def code_of(error: Exception) -> str:
    """The code of S3's error, or its status where it has none; empty if it is another error."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or "Error" not in response:
        return ""
    return str(response["Error"].get("Code") or status_of(error) or "")


def status_of(error: Exception) -> int:
    """The HTTP status of S3's error; 0 if there is none."""
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def translated(error: Exception, what: str) -> KaggleError:
    """What an error of boto3 means; ``what`` was being done, and begins the text.

    Any other error is raised as it is.
    """
    if isinstance(error, KaggleError):
        return error
    if code := code_of(error):
        message = str(getattr(error, "response", {})["Error"].get("Message") or "")
        return answered(code, status_of(error), message, what)
    names = {one.__name__ for one in type(error).__mro__}
    if names & _AWAY:
        return StoreAway(f"{what}: nobody answers at the store's address")
    if names & _CREDENTIALS:
        return StoreRefused(
            f"{what}: there are no credentials for the store: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name a CLOUD_CONFIG"
        )
    if names & _CONFIGURED:
        return StoreRefused(f"{what}: {_one_line(str(error))}: check AWS_PROFILE and ~/.aws")
    if "SSLError" in names:
        return StoreRefused(
            f"{what}: the store's certificate is not accepted: check the endpoint, or name the "
            "certificates to trust in AWS_CA_BUNDLE"
        )
    if "ParamValidationError" in names:
        return RequestRefused(f"{what}: boto3 refuses it: {_one_line(str(error))}")
    if "ReadTimeoutError" in names:
        return StoreFailed(f"{what}: the store does not answer", cause="timed_out")
    if names & {"HTTPClientError", "IncompleteReadError", "ConnectionError"}:
        return StoreFailed(f"{what}: the connection broke", cause="cut")
    if "ResponseParserError" in names:
        return StoreFailed(f"{what}: the answer is not S3's", cause="bad_reply")
    if "BotoCoreError" in names:
        return StoreRefused(f"{what}: {_one_line(str(error))}")
    raise error


def answered(code: str, status: int, message: str, what: str) -> KaggleError:
    """What an error in an answer means, by S3's code and the HTTP status."""
    message = _one_line(message)
    said = f"{what}: the store answers {code}" + (f": {message}" if message else "")
    if code in _DAMAGED:
        return Unproved(f"{what}: the store has got other bytes ({code})", "store_damaged")
    if code in _PASSING:
        return StoreFailed(said, cause=_PASSING[code])
    if code in _REFUSED or str(status) in {"403", "507"}:
        reason = _REFUSED.get(code) or _REFUSED[str(status)]
        return StoreRefused(f"{what}: {reason} ({code})")
    if status >= 500 or status < 400:
        return StoreFailed(said, cause="server_error")
    if status == 401:
        return StoreRefused(f"{what}: the store wants other credentials ({code})")
    if status in {408, 409, 429}:
        return StoreFailed(said, cause=_PASSING[str(status)])
    if code in {"NoSuchKey", "404"}:
        return Unproved(f"{what}: the store does not have it", "store_lost")
    return KeyRefused(said) if code in _OF_KEYS else RequestRefused(said)


def _one_line(text: str) -> str:
    line = " ".join(clean(text[: 10 * _MESSAGE_LENGTH]).split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"
