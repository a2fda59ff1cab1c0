"""Who is compared in benchmarks/s3.py: each brings the same dataset to the same store."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure
from benchmarks.s3_bucket import differences, sizes, wrong_sizes
from benchmarks.s3_objects import Object, Served
from benchmarks.transfer_contenders import Run
from tests.stores import Store

_TIMEOUT = 1800
_PEAK = Path(__file__).with_name("peak.py")
_HUB = """
import shutil, sys, kagglehub
ref, folder = sys.argv[1:3]
kagglehub.dataset_download(ref, output_dir=folder)
shutil.rmtree(f"{folder}/.complete")  # a note of its own
"""
_UPLOAD_FILE = f"""{_HUB}
import pathlib, boto3
bucket, prefix = sys.argv[3:5]
client, root = boto3.client("s3"), pathlib.Path(folder)
for path in root.rglob("*"):
    if path.is_file():
        name = path.relative_to(root).as_posix()
        client.upload_file(str(path), bucket, f"{{prefix}}/{{name}}")
"""
#: The aws CLI beside this Python. From 1.46 on it brings a botocore of its own, so it does not
#: hold back ours.
AWS = Path(sysconfig.get_path("scripts")) / "aws"
_PREFIX = "harvest"


@dataclass(frozen=True)
class Contender:
    """``command(ref, place, bucket)`` has each of the dataset's files as an object whose key begins
    with ``prefix(ref)``; what it wants on disk it puts below ``place``."""

    name: str
    command: Callable[[str, Path, str], list[str]]
    env: dict[str, str]
    prefix: Callable[[str], str]


class Bench:
    """Runs contenders against one store, one after the other, each with a bucket of its own."""

    def __init__(self, served: Served, store: Store, folder: Path) -> None:
        self._served = served
        self._store = store
        self._folder = folder
        self._place = folder / "place"
        self._emptied = folder / "emptied"
        self._emptied.mkdir(parents=True)

    def contenders(self) -> list[Contender]:
        """Ours, and the two that it is measured against.

        Raises ``BenchmarkError`` if the aws CLI is not installed.
        """
        if not AWS.exists():
            raise BenchmarkError("there is no aws CLI: pip install 'awscli>=1.46,<2'")
        store = {"AWS_DEFAULT_REGION": "us-east-1", **self._store.environment()}
        official = clean_env(
            self._folder,
            **self._served.official_env,
            **store,
            KAGGLE_CONFIG_DIR=str(self._folder / "kaggle"),
            KAGGLEHUB_CACHE=str(self._place / "cache"),
        )
        crawler = clean_env(self._folder, **self._served.crawler_env, **store)
        return [
            Contender("kagglecrawl", _crawl, crawler, _crawled),
            Contender("kagglehub, upload_file", _upload_file, official, _copied),
            Contender("kagglehub, aws s3 cp", _aws_cp, official, _copied),
        ]

    def run(self, contender: Contender, wanted: Object, *, whole: bool) -> Run:
        """One process.

        Raises ``BenchmarkError`` if it fails, or if its bucket then holds anything but the objects
        that it should, by their sizes; with ``whole`` by every byte.
        """
        with self._fresh() as store:
            result = self._folder / "usage.txt"
            command = contender.command(wanted.ref, self._place, store.bucket)
            bare = [sys.executable, "-I", "-S", str(_PEAK), str(result), *command]
            measure(bare, folder=ROOT, env=contender.env, timeout=_TIMEOUT)
            seconds, cpu, peak = result.read_text("ascii").split()
            self._check(contender, wanted, store, whole=whole)
        return Run(float(seconds), float(seconds), float(cpu), int(peak))

    @contextmanager
    def _fresh(self) -> Iterator[Store]:
        """An empty place, and a bucket that has had its first object; both are gone afterwards.

        Files are emptied, and not removed before the end of it all: see transfer_contenders.py.
        """
        self._place.mkdir()
        store = self._store.new_bucket()
        client = store.client()
        try:
            # the first object makes some stores get ready
            client.put_object(Bucket=store.bucket, Key="first", Body=b"first")
            client.delete_object(Bucket=store.bucket, Key="first")
            os.sync()
            yield store
        finally:
            for key in sizes(store):
                client.delete_object(Bucket=store.bucket, Key=key)
            client.delete_bucket(Bucket=store.bucket)
            for root, _, names in os.walk(self._place):
                for name in names:
                    os.truncate(Path(root, name), 0)
            self._place.rename(self._emptied / store.bucket)

    def _check(self, contender: Contender, wanted: Object, store: Store, *, whole: bool) -> None:
        look = differences if whole else wrong_sizes
        if wrong := look(store, f"{contender.prefix(wanted.ref)}/", wanted.files):
            raise BenchmarkError(f"{contender.name}: {len(wrong)} wrong: {'; '.join(wrong[:3])}")

    def close(self) -> None:
        """Give the disk back."""
        shutil.rmtree(self._emptied)


def _crawl(ref: str, place: Path, bucket: str) -> list[str]:
    return [
        *(sys.executable, "-m", "scrapy", "crawl", "datasets", "-a", f"refs={ref}"),
        *("-s", f"S3_URI=s3://{bucket}/{_PREFIX}"),
        *("-O", str(place / "rows.jsonl"), "-s", f"WORKSPACE={place}"),
        *("-s", "AUTOTHROTTLE_ENABLED=False", "-s", "DOWNLOAD_DELAY=0"),
        *("-s", "WORKSPACE_MIN_FREE=0", "-s", "LOG_LEVEL=WARNING"),
    ]


def _crawled(ref: str) -> str:
    return f"{_PREFIX}/datasets/dataset/{ref.replace('/', '_')}"


def _copied(ref: str) -> str:
    return f"{_PREFIX}/{ref}"


def _upload_file(ref: str, place: Path, bucket: str) -> list[str]:
    folder = str(place / "files")
    return [sys.executable, "-c", _UPLOAD_FILE, ref, folder, bucket, _copied(ref)]


def _aws_cp(ref: str, place: Path, bucket: str) -> list[str]:
    folder = str(place / "files")
    commands = [
        [sys.executable, "-c", _HUB, ref, folder],
        [str(AWS), "s3", "cp", "--recursive", "--quiet", folder, f"s3://{bucket}/{_copied(ref)}"],
    ]
    return ["sh", "-c", " && ".join(map(shlex.join, commands))]
