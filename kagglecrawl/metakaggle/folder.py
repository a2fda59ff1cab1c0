"""Where a table of Meta Kaggle is in a folder of the user's: as a CSV file, or in a zip."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.metakaggle.table import TableRefused
from kagglecrawl.units import amount

#: A table that unpacks to more than so many times its size is none of Kaggle's (theirs: 3 to 10).
_MOST_RATIO = 200
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}", re.ASCII)
#: How the files that hold a table may end, the one that is taken first.
_ENDINGS = (".csv", ".csv.zip", ".zip")
_BLOCK = 1 << 20
#: What zipfile raises for an archive that is damaged, encrypted or of a kind that it cannot read.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


def find_table(folder: Path, name: str, cache: Path) -> Path:
    """The CSV file of the table ``name``: ``<folder>/<name>.csv``; else what ``<name>.csv.zip`` or
    ``<name>.zip`` beside it holds, unpacked into the folder ``cache`` (which is made). It is
    unpacked once, is there whole or not at all, and takes the place of what was unpacked for an
    earlier zip of that path.

    Blocking, for minutes where gigabytes are unpacked. Raises ``TableRefused``.
    """
    if not _NAME.fullmatch(name):
        raise TableRefused(f"Meta Kaggle has no table {name!a}: names are such as Competitions")
    for path in (folder / f"{name}{ending}" for ending in _ENDINGS):
        try:
            if not path.is_file():
                continue
            # A download may be a zip under the name of what it holds.
            with path.open("rb") as file:
                zipped = file.read(4) == b"PK\3\4" or path.suffix == ".zip"
            return _unpacked(path, name, cache) if zipped else path
        except OSError as error:
            raise TableRefused(
                f"Meta Kaggle's table {name}: {path} cannot be read: {error.strerror or error}"
            ) from None
    raise TableRefused(_absent(folder, name))


def tables(folder: Path) -> list[str]:
    """The names of the tables that a folder holds as ``<name>.csv`` or ``<name>.csv.zip``, sorted.
    Raises ``OSError``."""
    found = {
        each.name.partition(".")[0]
        for each in folder.iterdir()
        if each.name.partition(".")[2] in {"csv", "csv.zip"} and each.is_file()
    }
    return sorted(name for name in found if _NAME.fullmatch(name))


def has_table(folder: Path, name: str) -> bool:
    """Is there something that ``find_table`` would take for the table? Raises ``OSError``."""
    return any((folder / f"{name}{end}").exists() for end in _ENDINGS)


def _absent(folder: Path, name: str) -> str:
    if not folder.is_dir():
        return f"Meta Kaggle's table {name}: there is no folder {folder}: check its name"
    return (
        f"Meta Kaggle's table {name}: the folder {folder} has no {name}.csv and no {name}.csv.zip: "
        "put it there from https://www.kaggle.com/datasets/kaggle/meta-kaggle, or name the folder "
        "that has it"
    )


def _unpacked(path: Path, name: str, cache: Path) -> Path:
    """The table out of a zip. Raises ``TableRefused`` and ``OSError`` (of the zip)."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path, name)
            # Named after the zip's path, so that two folders do not take each other's place, and
            # after what it holds, so that another day's zip is unpacked anew.
            stem = f"{name}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]}"
            target = cache / f"{stem}-{member.CRC:08x}-{member.file_size}.csv"
            if _is_whole(target, member):
                return target
            with _writing(cache, stem, name):
                if not _is_whole(target, member):
                    _unpack(archive, member, cache / f".{stem}.incomplete", target)
                    for old in cache.glob(f"{stem}-*.csv"):
                        if old != target:
                            old.unlink(missing_ok=True)
            return target
    except _BROKEN as error:
        raise TableRefused(
            f"Meta Kaggle's table {name}: {path} is no zip that can be unpacked "
            f"({clean(str(error)) or type(error).__name__}): download it again"
        ) from None


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> zipfile.ZipInfo:
    """The table among what a zip holds."""
    wanted = f"{name}.csv"
    found = [each for each in archive.infolist() if each.filename.rpartition("/")[2] == wanted]
    if len(found) != 1:
        raise TableRefused(
            f"Meta Kaggle's table {name}: {path} holds {len(found) or 'no'} files {wanted}, and "
            f"should hold one: download it again, or unpack {wanted} beside it"
        )
    [member] = found
    if member.file_size > _MOST_RATIO * max(member.compress_size, 1 << 14):
        raise TableRefused(
            f"Meta Kaggle's table {name}: {path} would unpack {amount(member.compress_size)} to "
            f"{amount(member.file_size)}, which is absurd: download it again"
        )
    return member


def _is_whole(target: Path, member: zipfile.ZipInfo) -> bool:
    """It got its name when it was whole, so only somebody else can have changed it since."""
    return target.is_file() and target.stat().st_size == member.file_size


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, beside: Path, target: Path) -> None:
    """Raises ``OSError``, and what zipfile does, also where the CRC is another."""
    if shutil.disk_usage(target.parent).free < member.file_size:
        raise OSError(errno.ENOSPC, f"{amount(member.file_size)} do not fit on this disk")
    try:
        with archive.open(member) as source, beside.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _writing(cache: Path, stem: str, name: str) -> Iterator[None]:
    """The right to write into the cache, for one process at a time; the next one finds what it
    would have unpacked."""
    import fcntl

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{stem}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise TableRefused(
            f"Meta Kaggle's table {name} cannot be unpacked into {cache}: "
            f"{error.strerror or error}: make room, or unpack it yourself"
        ) from None
