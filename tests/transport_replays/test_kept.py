"""Replays that an earlier run has stored: a file is used if it is a whole replay of that game."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import pytest

from kagglecrawl.kaggle.replays import Compressor
from kagglecrawl.transport.replays import ON_DISK, ReplayResponse
from tests.transport_replays.site import EPISODE, REPLAY, Bench, always, answer, run

KINDS = {".gz": "gzip", ".zst": "zstd"}


def stored(suffix: str) -> bytes:
    engine = Compressor(cast(Literal["gzip", "zstd"], KINDS[suffix]))
    return engine.write(REPLAY) + engine.close()


def looked(content: bytes, suffix: str, folder: Path) -> tuple[ReplayResponse | None, object]:
    """What is made of a file, and how many were used."""
    found: list[tuple[ReplayResponse | None, object]] = []
    (folder / f"1.json{suffix}").write_bytes(content)

    async def test(bench: Bench) -> None:
        request = bench.request()
        request.meta.update(kept="1.json", episode=EPISODE)
        kept = await bench.handler._replays.kept(request)
        found.append((kept, bench.stat("replays/on_disk")))

    run(test, always(answer(500)), WORKSPACE=str(folder))
    return found[0]


@pytest.mark.parametrize("suffix", KINDS)
def test_a_whole_file_is_used(suffix: str, tmp_path: Path) -> None:
    kept, count = looked(stored(suffix), suffix, tmp_path)
    assert kept is not None
    assert (kept.content, count) == (stored(suffix), 1)
    assert kept.flags == [ON_DISK, KINDS[suffix]]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("damage", ["begin", "middle", "checksum", "cut", "empty", "text"])
def test_a_damaged_file_is_not_used(suffix: str, damage: str, tmp_path: Path) -> None:
    whole = stored(suffix)
    at = {"begin": 1, "middle": len(whole) // 2, "checksum": len(whole) - 1}.get(damage, 0)
    if suffix == ".gz" and damage == "checksum":
        at -= 4  # after it comes the length
    content = {
        "cut": whole[:-5],
        "empty": b"",
        "text": REPLAY,
    }.get(damage, whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    assert looked(content, suffix, tmp_path) == (None, None)
