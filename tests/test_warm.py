"""A process of the server's does what one that begins at the beginning does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.conftest import clean_env

SHOWS = """
import json, os, signal, socket, sys, threading

print(json.dumps({
    "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path[0], "env": dict(os.environ),
    "name": __name__, "ours": [name for name in sys.modules if name.startswith("kagglecrawl")],
    "warnings": sys.warnoptions, "bytecode": sys.dont_write_bytecode,
    "streams": [(each.encoding, each.errors, each.isatty(), each.line_buffering)
                for each in (sys.stdin, sys.stdout, sys.stderr)],
    "files": sorted(each for each in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{each}")),
    "signals": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM,
                signal.SIGCHLD, signal.SIGPIPE)],
    "masked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": threading.active_count(), "group": os.getpgid(0), "read": sys.stdin.read(),
}).replace(" at 0x", " "), flush=True)
left_open = socket.socket()
del left_open
if sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[1]))
"""
WAITS = "import time\nprint('here', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(params=["warm", "cold"])
def begins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where processes begin."""
    monkeypatch.setenv(warm.COLD, "1" if request.param == "cold" else "")
    return str(request.param)


@pytest.mark.parametrize(("word", "code"), [("0", 0), ("7", 7), ("die", -signal.SIGKILL)])
def test_both_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, code: int
) -> None:
    (tmp_path / "shows.py").write_text(SHOWS, encoding="utf-8")
    found = []
    for cold in ("", "1"):
        monkeypatch.setenv(warm.COLD, cold)
        env = clean_env(tmp_path, ÜNI="x\ny", KAGGLE_API_TOKEN="KGAT_any")
        found.append(warm.run("shows", word, "-a b", cwd=tmp_path, env=env))
    assert found[0] == found[1]
    assert found[0][0] == code
    assert "ResourceWarning: unclosed <socket" in found[0][1]


def test_it_is_waited_for_and_can_be_stopped(tmp_path: Path, begins: str) -> None:
    (tmp_path / "waits.py").write_text(WAITS, encoding="utf-8")
    options: dict[str, Any] = {"cwd": tmp_path, "env": dict(os.environ)}
    with (tmp_path / "log").open("wb") as log:
        process = warm.start("waits", output=log, **options)
        while not (tmp_path / "log").read_bytes():
            time.sleep(0.005)
        assert process.poll() is None
        os.kill(process.pid, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM == process.returncode == process.poll()
        process.kill()  # does nothing
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run("waits", timeout=0.01, **options)
