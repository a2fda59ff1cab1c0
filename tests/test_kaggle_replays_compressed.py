"""The files in which replays are kept."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest

from kagglecrawl.kaggle.replays import Compressor, open_replay
from tests.replay_shapes import SHAPES

SMALL = json.dumps(SHAPES["talk"]).encode()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_file_is_the_same_however_it_was_cut(
    kind: Literal["gzip", "zstd"], tmp_path: Path
) -> None:
    def compressed(pieces: Iterable[bytes]) -> bytes:
        engine = Compressor(kind)
        return b"".join([*(engine.write(piece) for piece in pieces), engine.close()])

    data = SMALL * 300
    file = compressed([data])
    assert compressed(data[at : at + 777] for at in range(0, len(data), 777)) == file
    assert len(file) < len(data) / 20
    path = tmp_path / f"replay.json{Compressor(kind).suffix}"
    path.write_bytes(file)
    with open_replay(path) as stream:
        assert stream.read() == data
    path.write_bytes(file[:-1] + bytes([file[-1] ^ 1]))
    with open_replay(path) as stream, pytest.raises(Exception, match=r"(?i)crc|length|checksum"):
        stream.read()
    assert Compressor(kind).content_type == f"application/{kind}"


def test_a_gzip_file_has_no_time_and_no_name(tmp_path: Path) -> None:
    engine = Compressor("gzip")
    file = engine.write(SMALL) + engine.close()
    assert file[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    assert gzip.decompress(file) == zlib.decompress(file, 31) == SMALL
    path = tmp_path / "replay.json"
    path.write_bytes(SMALL)
    with open_replay(path) as stream:
        assert stream.read() == SMALL
