"""Real S3 stores on loopback: SeaweedFS (``weed mini``) and ``rclone serve s3``.

One server of each kind serves a whole test session, and all its processes; each test gets a bucket
of its own. The first test that wants a server starts it, under a lock; the session's end ends it,
and so does the death of the process that runs the session. ``weed()`` and ``rclone()`` start one
for the caller alone, which may kill it.

``pytest_plugins = ["tests.stores"]`` in ``tests/conftest.py`` makes all of this known.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_FOLDER = "KAGGLECRAWL_TEST_STORES"
_ACCESS_KEY = "AKIATESTSTORES"
_SECRET_KEY = "a/secret+of=the-tests"  # with what would need care in a URL
_REGION = "us-east-1"
_START_MOST = 30.0
#: All of weed's servers: those that are not given would be looked for near the usual ones.
_WEED_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
_WEED_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-admin.ui=false",
    "-webdav=false",
    "-master.telemetry=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.iam=false",
    "-s3.autoCreateBucket=false",
)
# Ends a server, and removes its folder, when the process that wanted it is gone, however it went.
_WATCH = """
{ while kill -0 "$1" && kill -0 "$2"; do sleep 1; done
  kill -0 "$1" || { kill -9 "$2"; rm -rf "$3"; }
} </dev/null >/dev/null 2>&1 &"""


@dataclass(frozen=True)
class Store:
    """A bucket of a running store."""

    name: str
    """``weed`` or ``rclone``."""
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    folder: Path
    """Where the server keeps what it has; rclone has ``<bucket>/<key>`` in it as files."""
    process: int
    """The server's process id."""

    @property
    def region(self) -> str:
        """The region to sign for."""
        return _REGION

    def environment(self) -> dict[str, str]:
        """What a subprocess needs to use the store: the ``AWS_…`` variables."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A plain boto3 client, one for each process."""
        return _client(self.endpoint, self.access_key, self.secret_key)

    def uri(self, prefix: str = "") -> str:
        """``s3://bucket[/prefix]``."""
        return f"s3://{self.bucket}/{prefix}".rstrip("/")

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Everything in the bucket, read back."""
        pages = self.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [entry["Key"] for page in found for entry in page.get("Contents", ())]
        return {key: self.read(key) for key in keys}

    def read(self, key: str) -> bytes:
        """One object."""
        body = self.client().get_object(Bucket=self.bucket, Key=key)["Body"]
        with body:
            return bytes(body.read())

    def new_bucket(self) -> Store:
        """Another bucket of the same server."""
        bucket = f"test-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=bucket)
        return replace(self, bucket=bucket)


@functools.cache
def _client(endpoint: str, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=_REGION,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def find(program: str) -> str | None:
    """The path of ``weed`` or ``rclone``: beside this Python, or on the PATH."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def weed() -> Iterator[Store]:
    """SeaweedFS for the caller alone, with a bucket; ended, and its folder removed, at the end."""
    with _alone("weed") as store:
        yield store


@contextlib.contextmanager
def rclone() -> Iterator[Store]:
    """``rclone serve s3`` for the caller alone, with a bucket; ended and removed at the end."""
    with _alone("rclone") as store:
        yield store


@contextlib.contextmanager
def _alone(name: str) -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix=f"kagglecrawl-{name}-") as folder:
        store = _start(name, Path(folder), owner=os.getpid())
        try:
            yield store.new_bucket()
        finally:
            _end(store)


def _start(name: str, folder: Path, owner: int) -> Store:
    program = find(name)
    if program is None:
        raise FileNotFoundError(f"{name} is not installed: see requirements-dev.txt")
    data = folder / "data"
    error: Exception | None = None
    for _ in range(3):  # somebody else may take a port meanwhile
        data.mkdir(parents=True, exist_ok=True)
        ports = free_ports(len(_WEED_PORTS) if name == "weed" else 1)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [program, *_arguments(name, data, ports)],
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests: they may still need it
            )
        watch = ["/bin/sh", "-c", _WATCH, "watch", str(owner), str(process.pid), str(folder)]
        subprocess.run(watch, check=True, start_new_session=True)
        endpoint = f"http://127.0.0.1:{ports[0]}"
        store = Store(name, endpoint, _ACCESS_KEY, _SECRET_KEY, "", data, process.pid)
        try:
            _wait(store, process)
        except TimeoutError as late:
            error = late
            _end(store)
            shutil.rmtree(data, ignore_errors=True)
            continue
        (folder / "ports").write_text(json.dumps(ports))
        _detached.append(process)
        return store
    log_end = (folder / "log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{name} does not start:\n{log_end}") from error


#: The servers that this process has started.
_detached: list[subprocess.Popen[bytes]] = []


def _arguments(name: str, data: Path, ports: list[int]) -> list[str]:
    if name == "weed":
        given = [f"-{option}={port}" for option, port in zip(_WEED_PORTS, ports, strict=True)]
        return ["mini", f"-dir={data}", *_WEED_OPTIONS, *given]
    key = f"{_ACCESS_KEY},{_SECRET_KEY}"
    return ["serve", "s3", "--addr", f"127.0.0.1:{ports[0]}", "--auth-key", key, str(data)]


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
        "GOMEMLIMIT": "400MiB",
        "RCLONE_CONFIG": str(folder / "rclone.conf"),
    }


def _wait(store: Store, process: subprocess.Popen[bytes]) -> None:
    """Until an object can be put; ``TimeoutError`` if the server ends or takes too long."""
    until = time.monotonic() + _START_MOST
    bucket = "test-ready"
    hasty = Config(
        s3={"addressing_style": "path"},
        proxies={},
        retries={"total_max_attempts": 1},
        connect_timeout=2,
        read_timeout=5,
    )
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=_REGION,
        config=hasty,
    )
    while time.monotonic() < until and process.poll() is None:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="x", Body=b"x")
            client.delete_object(Bucket=bucket, Key="x")
            client.close()
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    client.close()
    raise TimeoutError(store.name)


def _end(store: Store) -> None:
    """End the server at once: what it has is thrown away."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(store.process, signal.SIGKILL)
    for process in [one for one in _detached if one.pid == store.process]:
        process.wait()
        _detached.remove(process)
    ports = store.folder.parent / "ports"
    if store.name == "weed" and ports.exists():
        for port in json.loads(ports.read_text()):
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def _shared(name: str) -> Store:
    """The session's server of this kind, started by whoever comes first."""
    folder = Path(os.environ[_FOLDER])
    folder.mkdir(exist_ok=True)
    note = folder / f"{name}.json"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists():
            known = json.loads(note.read_text())
            return Store(**{**known, "folder": Path(known["folder"])})
        store = _start(name, folder / name, owner=int(folder.name.rpartition("-")[2]))
        note.write_text(json.dumps({**asdict(store), "folder": str(store.folder)}))
        return store


def pytest_configure(config: pytest.Config) -> None:
    """Say where the session's servers are kept: all its processes inherit it."""
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.gettempdir()) / f"kagglecrawl-stores-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed, with our process id
        os.environ[_FOLDER] = str(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the session's servers, also after Ctrl-C."""
    if hasattr(session.config, "workerinput"):
        for process in _detached:
            process.returncode = 0  # others still use it: this is not the process that ends it
        return
    folder = Path(os.environ[_FOLDER])
    for note in folder.glob("*.json"):
        known = json.loads(note.read_text())
        _end(Store(**{**known, "folder": Path(known["folder"])}))
    shutil.rmtree(folder, ignore_errors=True)


def _bucket(name: str) -> Iterator[Store]:
    if find(name) is None:
        pytest.skip(f"{name} is not installed: see requirements-dev.txt")
    store = _shared(name).new_bucket()
    yield store
    if name == "weed":  # each of its buckets holds volumes, of which there are only so many
        store.client().delete_bucket(Bucket=store.bucket)


@pytest.fixture
def weed_store() -> Iterator[Store]:
    """A bucket of its own in the session's SeaweedFS."""
    yield from _bucket("weed")


@pytest.fixture
def rclone_store() -> Iterator[Store]:
    """A bucket of its own in the session's ``rclone serve s3``."""
    yield from _bucket("rclone")


@pytest.fixture(params=["weed", "rclone"])
def s3_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A bucket of its own in each of the two, one after the other."""
    yield from _bucket(request.param)
