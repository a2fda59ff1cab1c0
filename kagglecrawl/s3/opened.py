"""The store of this process: looked at once, and used by all that need it."""

from __future__ import annotations

from functools import lru_cache

from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import StoreRefused


@lru_cache(maxsize=8)
def endpoint_of(destination: Destination) -> str:
    """The address of the store, which may come from a profile; nobody is asked. Raises
    ``StoreRefused``."""
    from kagglecrawl.s3.client import connect

    return str(connect(destination, uploads=1).meta.endpoint_url)


@lru_cache(maxsize=8)
def open_bucket(destination: Destination, *, uploads: int, read_back: bool) -> Bucket:
    """The bucket of a destination, after a look at what it can do (a dozen requests, the first
    time). Raises what of ``KaggleError`` says that it cannot be used.

    boto3 takes a third of a second to import: only who has a store waits for it.
    """
    from kagglecrawl.s3.abilities import probe
    from kagglecrawl.s3.client import connect

    client = connect(destination, uploads=uploads)
    abilities = probe(client, destination)
    if not abilities.reads and (read_back or abilities.proof == "read_back"):
        raise StoreRefused(
            f"{destination.setting} ({destination.uri}): an object cannot be read by these "
            "credentials, and this store proves nothing in another way (or S3_READ_BACK is set): "
            "let them read"
        )
    return Bucket(client, destination, abilities, read_back=read_back)
