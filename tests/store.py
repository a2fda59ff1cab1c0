"""A real S3 store on this machine, for a look by hand: ``make store``, ``make crawl-s3``.

    python -m tests.store [weed|rclone]                until Ctrl-C
    python -m tests.store [weed|rclone] -- COMMAND     for this command, with AWS_… set for it

Its bucket is ``harvest``; all of it is gone when it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from tests import stores

BUCKET = "harvest"
_KINDS = {"weed": stores.weed, "rclone": stores.rclone}


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code is the command's."""
    given = list(arguments)
    command = given[given.index("--") + 1 :] if "--" in given else []
    names = given[: given.index("--")] if "--" in given else given
    name = names[0] if names else "weed"
    if name not in _KINDS or len(names) > 1:
        print(f"there is no store {' '.join(names)}: name weed or rclone", file=sys.stderr)
        return 2
    with _KINDS[name]() as any_bucket:
        store = replace(any_bucket, bucket=BUCKET)
        store.client().create_bucket(Bucket=BUCKET)
        if not command:
            return _serve(store)
        others = {name: value for name, value in os.environ.items() if name[:4] != "AWS_"}
        code = subprocess.run(command, env={**others, **store.environment()}, check=False)
        _show(store)
        return code.returncode


def _serve(store: stores.Store) -> int:
    print("# in another terminal, after `source .venv/bin/activate`:")
    if others := sorted(name for name in os.environ if name.startswith("AWS_")):
        print(f"unset {' '.join(others)}")
    for name, value in store.environment().items():
        print(f"export {name}={value}")
    print(f"scrapy replica -- scrapy crawl datasets -s S3_URI={store.uri('kaggle')}")
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    print("The store serves until Ctrl-C; then all of it is gone.", flush=True)
    signal.sigwait(ends)
    return 0


def _show(store: stores.Store) -> None:
    """What is in the bucket."""
    pages = store.client().get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
    sizes = {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}
    for key in sorted(sizes)[:5]:
        print(f"{sizes[key]:>12,}  {store.uri(key)}")
    print(f"{sum(sizes.values()):>12,}  bytes in {len(sizes)} objects")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
