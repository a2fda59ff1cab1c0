"""The machinery of benchmarks/s3.py and benchmarks/s3_kills.py, small; no timing is judged here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import s3, s3_kills
from benchmarks.processes import BenchmarkError
from benchmarks.s3_bucket import differences, wrong_sizes
from benchmarks.s3_contenders import AWS, Bench, Contender
from benchmarks.s3_objects import TINY, WORDS, Object, Served, make, serving
from benchmarks.transfer_contenders import Run
from benchmarks.transfers import Result
from tests.stores import Store, find
from tests.transfer.victim_archive import sha256_of

MEMBERS = 20
SIZE = 200_000
needs_aws = pytest.mark.skipif(not AWS.exists(), reason="awscli is not installed")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("objects"), SIZE, MEMBERS, list(WORDS)) as served:
        yield served


def test_the_objects_are_what_they_are_said_to_be(served: Served) -> None:
    objects = served.objects
    assert list(objects) == list(WORDS)
    assert len(objects["many"].files) == MEMBERS
    assert [size for size, _ in objects["stored"].files.values()] == [SIZE]
    assert objects["stored"].packed > SIZE
    assert objects["deflated"].packed < SIZE / 2
    assert len(objects["tar"].files) > 4
    assert min(size for size, _ in objects["mix"].files.values()) > 0


@needs_aws
@pytest.mark.parametrize("which", [0, 1, 2], ids=["ours", "upload_file", "aws s3 cp"])
def test_each_contender_brings_what_it_should(
    served: Served, rclone_store: Store, tmp_path: Path, which: int
) -> None:
    bench = Bench(served, rclone_store, tmp_path / "bench")
    run = bench.run(bench.contenders()[which], served.objects["many"], whole=True)
    assert run.seconds > 0 < run.cpu
    assert run.peak > 20e6, "no Python with boto3 takes less"
    bench.close()
    names = {bucket["Name"] for bucket in rclone_store.client().list_buckets()["Buckets"]}
    assert not [path for path in (tmp_path / "bench").iterdir() if path.name != "usage.txt"]
    assert rclone_store.bucket in names, "only its own buckets are removed"


@needs_aws
def test_who_has_not_the_objects_is_not_measured(
    served: Served, rclone_store: Store, tmp_path: Path
) -> None:
    bench = Bench(served, rclone_store, tmp_path / "bench")
    tiny = served.objects[TINY]
    put = (
        "import boto3, sys; boto3.client('s3').put_object("
        "Bucket=sys.argv[1], Key='x/tiny.bin', Body=bytes({}))"
    )

    def lazy(code: str) -> Contender:
        return Contender(
            "lazy",
            lambda ref, place, bucket: [sys.executable, "-c", code, bucket],
            bench.contenders()[0].env,
            lambda ref: "x",
        )

    for code, wrong in (
        ("pass", "1 wrong: x/tiny.bin is missing"),
        (put.format(999), "x/tiny.bin has 999 bytes, not 1000"),
        (put.format(1000), "x/tiny.bin has other bytes"),
        ("raise SystemExit('what went wrong')", "ended with 1:\nwhat went wrong"),
    ):
        with pytest.raises(BenchmarkError, match=wrong):
            bench.run(lazy(code), tiny, whole=True)
    bench.run(lazy(put.format(1000)), tiny, whole=False)
    bench.close()


def test_a_bucket_is_looked_at_closely(s3_store: Store) -> None:
    client, bucket = s3_store.client(), s3_store.bucket
    files = {name: (2, sha256_of(b"ab")) for name in ("a", "b ü+%", "d/c")}
    for name in files:
        client.put_object(Bucket=bucket, Key=f"x/{name}", Body=b"ab")
    assert differences(s3_store, "x/", files) == []
    client.put_object(Bucket=bucket, Key="x/a", Body=b"aB")
    assert wrong_sizes(s3_store, "x/", files) == []
    assert differences(s3_store, "x/", files) == ["x/a has other bytes"]
    client.put_object(Bucket=bucket, Key="x/a", Body=b"abc")
    client.put_object(Bucket=bucket, Key="y", Body=b"")
    client.delete_object(Bucket=bucket, Key="x/d/c")
    upload = client.create_multipart_upload(Bucket=bucket, Key="x/z")["UploadId"]
    assert wrong_sizes(s3_store, "x/", files) == [
        "x/a has 3 bytes, not 2",
        "x/d/c is missing",
        "y should not be there",
        "an upload of x/z is left behind",
    ]
    client.abort_multipart_upload(Bucket=bucket, Key="x/z", UploadId=upload)


def result(name: str, *seconds: float, peak: int = 10**8) -> Result:
    run = Run(seconds=0.5, safe=0.5, cpu=0.5, peak=peak)
    return Result(name, runs=[replace(run, seconds=each) for each in seconds], start=[run])


def test_bars_are_held_against_the_faster_of_the_two() -> None:
    ours, slow, fast = result("us", 2.0, 2.0), result("slow", 4.0, 4.0), result("fast", 1.9, 1.9)
    verdicts = s3.judge("weed", {"many": [ours, slow, fast], "stored": [ours, slow, fast]})
    assert [passed for passed, _ in verdicts] == [False, True, True]
    assert "2.00 of slow's, 0.95 of fast's: FAIL" in verdicts[0][1]
    verdicts = s3.judge("weed", {"many": [ours, slow, slow], "deflated": [ours, fast, fast]})
    assert [passed for passed, _ in verdicts] == [True, True], "of one deflated there is no bar"
    large = result("us", 2.0, 2.0, peak=(200 << 20) + 1)
    assert not s3.judge("weed", {"many": [large, slow, slow]})[-1][0]


def test_a_table_has_a_line_for_each(served: Served) -> None:
    rows = [result("us", 2.0, 4.0), result("other", 3.0, 3.0)]
    wanted = Object("stored", 3 << 30, {})
    heads, ours, other = s3.table(wanted, rows).splitlines()
    assert heads.split()[:3] == ["MB/s", "seconds", "net"]
    assert ours.startswith("us ")
    assert re.search(r" 0.17 \[0.17-0.17\] +95 +1.00 \[1.00-1.00\]$", ours), ours
    assert other.endswith("1.12 [0.75-1.50]")
    text = s3.report("weed", {TINY: wanted}, {TINY: rows})
    assert "medians [least-most] of 2 repeats" in text


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_missed_bar_is_an_error_if_strict(
    monkeypatch: pytest.MonkeyPatch, strict: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(s3, "_run", lambda folder, opts: False)
    assert s3.main(strict) == code


@pytest.mark.parametrize("kind", s3_kills.KINDS)
def test_an_archive_to_be_killed_over_is_as_large_as_was_said(tmp_path: Path, kind: str) -> None:
    made = s3_kills.make(tmp_path, kind, 3 << 20, seed=1)
    assert 0.9 < made.size / (3 << 20) < 1.2
    assert (len(made.files) > 50) == (kind in {"many", "mix", "tar"})


@pytest.mark.skipif(find("rclone") is None, reason="rclone is not installed")
def test_kills_are_counted_and_the_bucket_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(s3_kills, "_LATER", 0.0)
    monkeypatch.setattr(s3_kills._Crawl, "moments", lambda crawl, kills: [1] * kills)
    small = ("--size", "30MiB", "--kills", "1", "--seed", "3", "--store", "rclone")
    assert s3_kills.main(small) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ +1 +killed ", printed, re.MULTILINE), printed
    assert re.search(r"^ +2 +code 0 ", printed, re.MULTILINE), printed
    assert printed.endswith("All right.\n")
    assert list(tmp_path.iterdir()) == []


def test_too_much_memory_or_disk_is_a_fault(tmp_path: Path) -> None:
    run = s3_kills.Run(False, 0, 1.0, 1, 1, 200 << 20, 64 << 20, tmp_path)
    assert s3_kills.over_the_bars([run]) == []
    found = s3_kills.over_the_bars([run, replace(run, peak=(200 << 20) + 1, disk=65 << 20)])
    assert [re.sub(":.*", "", each) for each in found] == [
        "start 2 held 200 MiB of memory",
        "start 2 had 65.0 MiB on disk",
    ]


def test_make_is_as_large_as_is_asked_for(tmp_path: Path) -> None:
    assert make(tmp_path, 10 << 20, 30, "deflated").unpacked == 5 << 20
