"""A job with a million requests: what it keeps in memory, and how long it takes to open.

Memory is this process's, so this part is run in a process of its own:
`python -m benchmarks.million`.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from pathlib import Path

from kagglecrawl.state.accounts import Accounts
from kagglecrawl.state.queue import Queue
from kagglecrawl.state.store import Store

_MILLION = 1_000_000
#: Requests between two commits.
_COMMIT = 5_000
#: What may be kept in memory for a million pending requests, in MiB.
MEMORY_BAR = 64
#: Seconds in which a job with a million requests done must be open.
OPEN_BAR = 2.0
_REQUEST = (
    '{{"url":"https://api.kaggle.com/v1/datasets.DatasetApiService/GetDatasetMetadata",'
    '"method":"POST","body":"{{\\"ownerSlug\\":\\"owner\\",\\"datasetSlug\\":\\"{0}\\"}}",'
    '"callback":"fetched","errback":"failed","meta":{{"family":"api","key":"owner/{0}"}},'
    '"cb_kwargs":{{"then":"metadata","key":"owner/{0}","row":{{"title":"A title of {0}"}}}},'
    '"priority":10}}'
)


def main() -> int:
    """Print it; 1 if a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="kagglecrawl-million-") as name:
        path = Path(name) / "kagglecrawl.sqlite"
        store = Store.create(path)
        before = _resident()
        queue = Queue(store, 1)
        for number in range(_MILLION):
            key = f"owner/{number}"
            print_ = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
            queue.push(print_, "api", 10, key, _REQUEST.format(number))
            if number % _COMMIT == 0:
                store.commit()
        store.commit()
        kept = _resident() - before
        done = 0
        while row := queue.pop(time.time(), {}, only_begun=False):
            store.finish(row.id)
            done += 1
            if done % _COMMIT == 0:
                store.commit()
        store.commit()
        kept = max(kept, _resident() - before)
        store.close()
        began = time.perf_counter()
        store = Store.open(path)
        store.begin_run()
        store.commit()
        left = Queue(store, 2).any()
        Accounts(store, "datasets")
        opened = time.perf_counter() - began
        store.close()
    passed = kept < MEMORY_BAR and opened < OPEN_BAR and done == _MILLION and not left
    print(
        f"A job with {done:,} requests pending, then done: {kept:.0f} MiB of memory "
        f"(bar {MEMORY_BAR}), open in {opened:.3f} s (bar {OPEN_BAR:g}): "
        f"{'passed' if passed else 'MISSED'}"
    )
    return 0 if passed else 1


def _resident() -> float:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    sys.exit(main())
