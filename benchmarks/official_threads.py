"""The unmodified `kaggle` package: GetDatasetMetadata from a pool of threads.

`python -m benchmarks.official_threads THREADS FILE` asks for every ref in the file, one to a
line. Not to be imported by others: importing `kaggle` signs in. Each thread keeps a kagglesdk
client, and so a connection, of its own: KaggleApi's methods make a new one for every call, which
costs half as much again.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kaggle
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetMetadataRequest
from requests import HTTPError

_of_thread = threading.local()


def _sign_in() -> None:
    _of_thread.client = kaggle.api.build_kaggle_client()


def _metadata(ref: str) -> Any:
    request = ApiGetDatasetMetadataRequest()
    request.owner_slug, _, request.dataset_slug = ref.partition("/")
    try:
        return _of_thread.client.datasets.dataset_api_client.get_dataset_metadata(request).info
    except HTTPError as error:
        # a few are gone or forbidden
        if error.response is None or error.response.status_code not in {403, 404}:
            raise
        return None


def main(threads: int, refs: list[str]) -> None:
    with ThreadPoolExecutor(threads, initializer=_sign_in) as pool:
        for _ in pool.map(_metadata, refs):
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").splitlines())
