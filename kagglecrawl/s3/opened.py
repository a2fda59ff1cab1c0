"""The store of this process: looked at once, and used by all that need it."""

from __future__ import annotations

import logging
from functools import lru_cache

from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.destination import Destination


@lru_cache(maxsize=8)
def open_bucket(destination: Destination, *, uploads: int, read_back: bool) -> Bucket:
    """The bucket of a destination, after a look at what it can do (a dozen requests, the first
    time). Raises what of ``KaggleError`` says that it cannot be used.

    boto3 takes a third of a second to import: only who has a store waits for it.
    """
    from kagglecrawl.s3.abilities import probe
    from kagglecrawl.s3.client import connect

    for name in ("boto3", "botocore"):  # at DEBUG they show keys and signatures
        logging.getLogger(name).setLevel(logging.INFO)
    client = connect(destination, uploads=uploads)
    return Bucket(client, destination, probe(client, destination), read_back=read_back)
