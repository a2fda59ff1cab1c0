"""`scrapy verify` of a bucket: listed or read, whatever the store's order and failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import md5, sha256
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.s3.bucket import Entry
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import KeyRefused, StoreAway, StoreFailed, StoreRefused
from kagglecrawl.state.ledger import Ledger
from kagglecrawl.state.ledger_look import Shelf
from kagglecrawl.verify.faults import Counts, Fault, Findings
from kagglecrawl.verify.run import Look, Wanted
from kagglecrawl.verify.store import Objects
from tests.state.ledgers import KAGGLE, manifest, stored
from tests.stores import Store

URI = "s3://bucket/in/dataset/o_s"
KEY = "in/dataset/o_s"


def etag(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


def note(
    path: Path, key: str, folder: str, files: dict[str, bytes], at: float = 1, *, etags: bool = True
) -> None:
    """Files that were stored, in the ledger."""
    kept = manifest(folder, len(files), sum(map(len, files.values())))
    rows = [
        (name, len(data), sha256(data).digest(), etag(data) if etags else "")
        for name, data in files.items()
    ]
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.apply([stored(key, at, str(at), manifest=kept, files=rows, seen=at)])


class Bucket:
    """One whose answers the test decides. Pages have three entries, and no order of ours."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        #: What LIST says otherwise than HEAD, by key: an entry, or None where it says nothing.
        self.listed: dict[str, Entry | None] = {}
        #: What reading and asking for an object raises, one after the other.
        self.failures: dict[str, list[KaggleError]] = {}
        self.asked: list[str] = []
        self._lock = Lock()

    def list(self, prefix: str) -> Iterator[list[Entry]]:
        entries = {key: self._entry(key) for key in self.objects if key.startswith(prefix)}
        late = {key: each for key, each in self.listed.items() if key.startswith(prefix)}
        found = [each for each in {**entries, **late}.values() if each is not None]
        found.sort(key=lambda each: each.key[::-1])
        for start in range(0, len(found), 3):
            yield found[start : start + 3]

    def head(self, key: str) -> Entry | None:
        with self._lock:
            self.asked.append(key)
            if failures := self.failures.get(key):
                raise failures.pop(0)
        return self._entry(key) if key in self.objects else None

    def read(self, key: str) -> Iterator[bytes]:
        data = self.objects[key]
        yield data[:1]
        if failures := self.failures.get(f"read {key}"):
            raise failures.pop(0)
        yield data[1:]

    def call(
        self, name: str, what: str, *, Prefix: str, Delimiter: str, ContinuationToken: str = "0"
    ) -> dict[str, Any]:
        """A listing of folders, two entries to a page."""
        assert (name, Delimiter) == ("list_objects_v2", "/")
        rest = [key.removeprefix(Prefix) for key in self.objects if key.startswith(Prefix)]
        tops = sorted({"".join((Prefix, *name.partition("/")[:2])) for name in rest})
        start = int(ContinuationToken)
        page = tops[start : start + 2]
        return {
            "CommonPrefixes": [{"Prefix": key} for key in page if key.endswith("/")],
            "Contents": [{"Key": key} for key in page if not key.endswith("/")],
            "IsTruncated": start + 2 < len(tops),
            "NextContinuationToken": str(start + 2),
        }

    def _entry(self, key: str) -> Entry:
        return Entry(key, len(self.objects[key]), etag(self.objects[key]))


Check = Callable[..., tuple[list[Fault], Counts]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "ledger.sqlite"


@pytest.fixture
def check(path: Path) -> Check:
    """Compare a bucket with the ledger: the faults by where they are, and the counts."""

    def run(bucket: Bucket, *keys: str, read_back: bool = False) -> tuple[list[Fault], Counts]:
        faults: list[Fault] = []
        findings, crew = Findings(faults.append), Crew(4, 8)
        objects = Objects(Destination("bucket", "in"), bucket, crew)  # type: ignore[arg-type]
        try:
            with Shelf(path) as shelf:
                look = Look(shelf, lambda _: objects, findings, lambda: None, read_back=read_back)
                look.run(Wanted(keys=keys))
        finally:
            crew.close()
        return sorted(faults, key=lambda each: each.where), findings.counts

    return run


def bucket_of(files: dict[str, bytes], key: str = KEY) -> Bucket:
    return Bucket({f"{key}/{name}": data for name, data in files.items()})


FILES = {"a.csv": b"aaa", "b/ü +%.csv": b"bb", "c": b"", "B": b"B", "d.txt": b"ddd", "e": b"e"}


# -- comparing -------------------------------------------------------------------------------------


def test_a_listing_is_enough(check: Check, path: Path) -> None:
    """And is all that is asked for."""
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    bucket.objects[f"{KEY}/"] = bucket.objects[f"{KEY}/b/"] = b""  # as some have for folders
    faults, counts = check(bucket)
    assert (faults, bucket.asked) == ([], [])
    assert (counts.files, counts.bytes, counts.size_only, counts.read) == (6, 10, 0, 0)


def test_every_byte_is_read(check: Check, path: Path) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    faults, counts = check(bucket, read_back=True)
    assert (faults, counts.files, counts.read) == ([], 6, 10)
    # stored anew by somebody else, so with other ETags: the contents decide
    path.unlink()
    note(path, "o/s", URI, FILES, etags=False)
    assert check(bucket, read_back=True)[1].size_only == 0


def test_what_is_wrong(check: Check, path: Path) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    del bucket.objects[f"{KEY}/e"]
    bucket.objects[f"{KEY}/a.csv"] = b"AAA"
    bucket.objects[f"{KEY}/b/ü +%.csv"] = b"bbb"
    bucket.objects[f"{KEY}/b/new"] = b"n"
    for read_back in (False, True):
        faults, counts = check(bucket, read_back=read_back)
        sums = (sha256(b"aaa").hexdigest(), sha256(b"AAA").hexdigest())
        found = [(each.kind, each.where, each.what, each.expected, each.found) for each in faults]
        assert found == [
            (
                *("changed", f"{URI}/a.csv", "checksum"),
                *(sums if read_back else (etag(b"aaa"), etag(b"AAA"))),
            ),
            ("extra", f"{URI}/b/new", "", None, None),
            ("changed", f"{URI}/b/ü +%.csv", "size", 2, 3),
            ("missing", f"{URI}/e", "", None, None),
        ]
        assert ("--read-back" in faults[0].as_text()) is not read_back
        assert (counts.files, counts.bytes) == (3, 4)


def test_a_folder_that_is_gone_is_one_line(check: Check, path: Path) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of({})
    faults, counts = check(bucket)
    assert [(each.where, each.files) for each in faults] == [(f"{URI}/", 6)]
    assert faults[0].as_text() == f"missing  {URI}/: all of it, 6 files"
    assert (counts.faults, len(bucket.asked)) == ({"missing": 6}, 1)


def test_a_listing_that_is_late_or_has_other_etags_is_not_believed(
    check: Check, path: Path
) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    bucket.listed = {
        f"{KEY}/a.csv": None,
        f"{KEY}/c": Entry(f"{KEY}/c", 9, "old"),
        f"{KEY}/d.txt": Entry(f"{KEY}/d.txt", 3, ""),
    }
    faults, counts = check(bucket)
    assert (faults, counts.files) == ([], 6)
    assert sorted(bucket.asked) == [f"{KEY}/{name}" for name in ("a.csv", "c", "d.txt")]
    bucket.listed = dict.fromkeys(bucket.objects)  # it says nothing at all
    assert check(bucket)[0] == []


def test_without_etags_sizes_alone_are_compared_and_that_is_said(check: Check, path: Path) -> None:
    note(path, "o/s", URI, FILES, etags=False)
    bucket = bucket_of(FILES)
    faults, counts = check(bucket)
    assert (faults, bucket.asked, counts.size_only) == ([], [], 6)
    assert counts.as_text().endswith("; 6 compared by size alone")


def test_many_names_in_any_order(check: Check, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are kept in memory; one is missing, one is too much, one is listed twice."""
    monkeypatch.setattr("kagglecrawl.verify.names.BLOCK", 50)
    files = {f"{number % 7}/{number}": b"" for number in range(1_234)}
    note(path, "o/s", URI, files)
    bucket = bucket_of(files)
    del bucket.objects[f"{KEY}/3/10"]
    bucket.objects[f"{KEY}/zz"] = b""
    bucket.listed[f"{KEY}/again"] = bucket._entry(f"{KEY}/0/0")
    faults, counts = check(bucket)
    assert [(each.kind, each.where) for each in faults] == [
        ("missing", f"{URI}/3/10"),
        ("extra", f"{URI}/zz"),
    ]
    assert counts.files == len(files) - 1


# -- whose they are --------------------------------------------------------------------------------


def test_what_belongs_to_nobody(check: Check, path: Path) -> None:
    """But not what an earlier version has left, nor what is beside the folders of resources."""
    note(path, "o/s", URI, FILES)
    note(path, "p/s", "s3://bucket/in/dataset/p_old", {"a": b"1"})
    note(path, "p/s", "s3://bucket/in/dataset/p_s", {"a": b"1"}, at=2)
    note(path, "p/s", "s3://bucket/in/dataset/p_s", {"b": b"1"}, at=3)
    bucket = bucket_of(FILES)
    names = ("p_old/a", "p_s/a", "p_s/b", "stray/x", "stray/y/z", "loose.txt", "O_S2/x")
    bucket.objects.update({f"in/dataset/{name}": b"1" for name in names})
    bucket.objects["in/dataset/"] = b""  # as some have for folders
    bucket.objects["in/meta_data/page_1.jsonl"] = b"{}"
    faults, counts = check(bucket)
    root = "s3://bucket/in/dataset"
    assert [(each.kind, each.what, each.where) for each in faults] == [
        ("extra", "unowned", f"{root}/O_S2/"),
        ("extra", "unowned", f"{root}/loose.txt"),
        ("extra", "unowned", f"{root}/stray/"),
    ]
    assert (counts.files, counts.earlier) == (7, 1)
    assert check(bucket, "o/*")[0] == []


# -- failures --------------------------------------------------------------------------------------


def test_an_object_that_cannot_be_read_is_told(check: Check, path: Path) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    bucket.failures = {
        f"{KEY}/a.csv": [KeyRefused("refused")],
        f"read {KEY}/d.txt": [StoreFailed("cut", cause="cut")] * 2,
        f"read {KEY}/e": [StoreFailed("cut\nfor good", cause="cut")] * 3,
    }
    faults, counts = check(bucket, read_back=True)
    assert [each.as_text() for each in faults] == [
        f"unread   {URI}/a.csv: refused",
        f"unread   {URI}/e: cut for good",
    ]
    assert (counts.files, counts.read) == (4, 6)
    assert "2 could not be read" in counts.as_text()


@pytest.mark.parametrize("error", [StoreRefused("denied"), StoreAway("nobody answers")])
def test_a_bucket_that_cannot_be_used_ends_it(check: Check, path: Path, error: KaggleError) -> None:
    note(path, "o/s", URI, FILES)
    bucket = bucket_of(FILES)
    bucket.failures = {f"{KEY}/a.csv": [error]}
    with pytest.raises(type(error)):
        check(bucket, read_back=True)


# -- the command, and real stores ------------------------------------------------------------------


@pytest.fixture
def ask(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run ``scrapy verify`` here; its code, and what it said."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def run(*args: str) -> tuple[int, str, str]:
        given = ["scrapy", "verify", *args, "-s", f"WORKSPACE={path.parent}"]
        with pytest.raises(SystemExit) as ended:
            execute(given, settings=get_project_settings())
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


def test_real_stores(
    ask: Callable[..., tuple[int, str, str]],
    path: Path,
    s3_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By the environment's credentials, and by the seeds' file; a second bucket beside it."""
    second, client = s3_store.new_bucket(), s3_store.client()
    names = {"a b.csv": b"1,2\n", "d/e+ü%.bin": b"x" * 70_000, "d-e": b"", "D": b"D", "f": b"f"}
    for bucket, key in ((s3_store.bucket, "o/s"), (second.bucket, "p/s")):
        folder = f"in/dataset/{key.replace('/', '_')}"
        note(path, key, f"s3://{bucket}/{folder}", names)
        for name, data in names.items():
            client.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=data)
    cloud = tmp_path / "cloud.json"
    fields = {"ACCESS_KEY": s3_store.access_key, "SECRET_KEY": s3_store.secret_key}
    place = {"ENDPOINT_URL": s3_store.endpoint, "BUCKET_NAME": second.bucket, "OSS_PREFIX": "in"}
    cloud.write_text(json.dumps({**fields, **place}))
    size = amount_of(names)
    head, rest = (
        f"2 resources: 10 files right, {size} (10 in stores",
        "0 missing; 0 changed; 0 extra\n",
    )
    read_back = ask("-s", f"CLOUD_CONFIG={cloud}", "--read-back")
    assert read_back == (0, f"{head}, {size} read); {rest}", "")
    code, _, errors = ask()
    assert (code, errors.count("\n")) == (2, 1)
    assert "there are no credentials for the store: set AWS_ACCESS_KEY_ID" in errors
    for name, value in s3_store.environment().items():
        monkeypatch.setenv(name, value)
    assert ask() == (0, f"{head}); {rest}", "")
    client.put_object(Bucket=second.bucket, Key="in/dataset/p_s/f", Body=b"F")
    client.put_object(Bucket=second.bucket, Key="in/dataset/p_s/d/extra", Body=b"")
    client.put_object(Bucket=second.bucket, Key="in/dataset/stray_one/x/y", Body=b"")
    client.delete_object(Bucket=s3_store.bucket, Key="in/dataset/o_s/a b.csv")
    for options in (["--read-back"], []):
        code, output, errors = ask("--json", *options)
        assert (code, errors) == (1, "")
        *faults, summary = map(json.loads, output.splitlines())
        assert sorted((each["fault"], each["where"]) for each in faults) == [
            ("changed", f"s3://{second.bucket}/in/dataset/p_s/f"),
            ("extra", f"s3://{second.bucket}/in/dataset/p_s/d/extra"),
            ("extra", f"s3://{second.bucket}/in/dataset/stray_one/"),
            ("missing", f"s3://{s3_store.bucket}/in/dataset/o_s/a b.csv"),
        ]
        assert summary["summary"]["files"] == 8
    if s3_store.name == "weed":  # it has room for so many
        client.delete_bucket(Bucket=second.bucket)


def amount_of(files: dict[str, bytes]) -> str:
    return f"{2 * sum(map(len, files.values())) / 1000:.0f} kB"


@pytest.mark.parametrize(
    ("bucket", "words"),
    [("no-such-bucket", r"the bucket does not exist: create it, or name another"), ("", "no name")],
)
def test_a_bucket_that_is_not_there(
    ask: Callable[..., tuple[int, str, str]],
    path: Path,
    rclone_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    words: str,
) -> None:
    note(path, "o/s", f"s3://{bucket}/in/dataset/o_s", FILES)
    for name, value in rclone_store.environment().items():
        monkeypatch.setenv(name, value)
    code, output, errors = ask()
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert words in errors
    assert rclone_store.secret_key not in errors
