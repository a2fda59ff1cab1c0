"""Prints where the tests' folders are to be: in memory, where there is room for them.

Tests make thousands of files safe on the disk, and wait for it longer than they compute.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
#: Bytes; a run of all tests has some hundred million at a time.
ROOM = 8 << 30


def room() -> str:
    """A folder that can be written, and whose programs can be run, as tests have some."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        runs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        if runs and shutil.disk_usage(MEMORY).free > ROOM:
            return str(MEMORY)
    return tempfile.gettempdir()


if __name__ == "__main__":
    print(room())
