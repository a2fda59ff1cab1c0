"""What Linux tells of a crawl's process while it runs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 20.0
_POLL = 0.02


def peak_memory(pid: int) -> int:
    """The most bytes of memory that a process has held; 0 if it has ended."""
    return _status(pid, "VmHWM") << 10


def written(pid: int) -> int:
    """Bytes that a process has written to whatever it was; 0 if it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/io").read_text().split("wchar:")[1].split()[0])
    return 0


def children(pid: int) -> list[int]:
    """The processes that this one has started, and that are still there."""
    found = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [child for child in found if _status(child, "PPid") == pid]


def wait_for_end(processes: Sequence[int]) -> list[int]:
    """Those that are still there after a while; they are killed."""
    deadline = time.monotonic() + _PATIENCE
    while left := [pid for pid in processes if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(_POLL)
    return []


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        if match := re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE):
            return int(match[1])
    return 0
