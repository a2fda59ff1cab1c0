"""What a bucket holds, beside what it should hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.stores import Store

#: Objects that are read back at once, and of each so many bytes at a time.
_READERS = 2
_PIECE = 1 << 20


def sizes(store: Store) -> dict[str, int]:
    """Bytes of every object of the bucket, by its key."""
    pages = store.client().get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
    return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}


def uploads(store: Store) -> list[str]:
    """The keys of the bucket's multipart uploads that are under way."""
    client: Any = store.client()
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket)
        return [each["Key"] for page in pages for each in page.get("Uploads", ())]
    except client.exceptions.NoSuchUpload:  # so rclone says that it has never had one
        return []


def wrong_sizes(store: Store, prefix: str, files: Mapping[str, tuple[int, str]]) -> list[str]:
    """What is not as it should be in a bucket that is to hold these files below the prefix (which
    ends in a slash), and nothing else: objects, their sizes, uploads that were left behind."""
    there = sizes(store)
    wanted = {prefix + name: size for name, (size, _) in files.items()}
    found = [f"{key} is missing" for key in wanted.keys() - there.keys()]
    found += [f"{key} should not be there" for key in there.keys() - wanted.keys()]
    found += [
        f"{key} has {there[key]} bytes, not {wanted[key]}"
        for key in wanted.keys() & there.keys()
        if there[key] != wanted[key]
    ]
    return sorted(found) + [f"an upload of {key} is left behind" for key in uploads(store)]


def differences(store: Store, prefix: str, files: Mapping[str, tuple[int, str]]) -> list[str]:
    """The same, with every object read back and compared by its SHA-256."""
    if found := wrong_sizes(store, prefix, files):
        return found
    with ThreadPoolExecutor(_READERS) as pool:
        digests = pool.map(lambda name: _sha256(store, prefix + name), files)
        return [
            f"{prefix}{name} has other bytes"
            for (name, (_, right)), digest in zip(files.items(), digests, strict=True)
            if digest != right
        ]


def _sha256(store: Store, key: str) -> str:
    body: Any = store.client().get_object(Bucket=store.bucket, Key=key)["Body"]
    digest = hashlib.sha256()
    with body:
        for piece in body.iter_chunks(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
