"""Processes that begin where Python has started and other people's packages are imported.

That is two thirds of what a small crawl costs. A server, one for each process of pytest, imports
them once; each process is a fork of it, with an environment, a working directory, standard streams
and an end of its own, and it imports every module of this project anew. Differences from a process
that begins at the beginning: what packages have imported of each other, and the seed of hashes,
which those of one server share. ``KAGGLECRAWL_COLD=1`` starts every process at the beginning, as
it is where there is no Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

#: What a crawl imports that is not ours: what reads no environment at its import.
PACKAGES = (
    "scrapy.cmdline",
    "scrapy.commands.check",
    "scrapy.commands.crawl",
    "scrapy.commands.shell",
    "scrapy.commands.startproject",
    "scrapy.core.downloader.handlers.http11",
    "scrapy.downloadermiddlewares.defaultheaders",
    "scrapy.downloadermiddlewares.downloadtimeout",
    "scrapy.downloadermiddlewares.httpcompression",
    "scrapy.downloadermiddlewares.httpproxy",
    "scrapy.downloadermiddlewares.redirect",
    "scrapy.downloadermiddlewares.retry",
    "scrapy.downloadermiddlewares.stats",
    "scrapy.downloadermiddlewares.useragent",
    "scrapy.extensions.feedexport",
    "scrapy.extensions.throttle",
    "scrapy.exporters",
    "scrapy.http.request.rpc",
    "scrapy.logformatter",
    "scrapy.spidermiddlewares.httperror",
    "scrapy.spidermiddlewares.referer",
    "scrapy.spidermiddlewares.start",
    "scrapy.statscollectors",
    "scrapy.utils.test",
    "twisted.internet.asyncioreactor",
    "bs4",
    "botocore.session",
    "google_crc32c",
    "kagglesdk",
    "markdownify",
    "requests",
    "sqlite3",
)
COLD = "KAGGLECRAWL_COLD"
_MESSAGE = 1 << 18
_WARNINGS = ("-W", "error::ResourceWarning")


class Warm:
    """A process of the server's; of ``subprocess.Popen``'s interface what tests use."""

    def __init__(self, link: socket.socket, args: Sequence[str]) -> None:
        self._link = link
        self.args = args
        self.pid = int(self._answer())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended, after so many seconds at most.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self.returncode is None:
            if not select.select([self._link], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            self.returncode = int(self._answer())
            self._link.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(BrokenPipeError):  # it ends at this moment
                self._link.send(bytes([number]))

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _answer(self) -> str:
        said = self._link.recv(64).decode()
        assert said, "the server of processes has died"
        return said


#: What was started, warm or not.
Process = Warm | subprocess.Popen[bytes]


def start(module: str, *args: str, cwd: Path, env: dict[str, str], output: IO[Any]) -> Process:
    """``python -m MODULE ARGS …``, which reads nothing and whose output goes to this file. A
    ResourceWarning is an error in it. Whoever starts it has to wait for its end.
    """
    if not hasattr(os, "pidfd_open") or os.environ.get(COLD):
        command = [sys.executable, *_WARNINGS, "-m", module, *args]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        return subprocess.Popen(command, cwd=cwd, env=env, **streams)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        message = json.dumps([module, list(args), str(cwd), env]).encode()
        assert len(message) < _MESSAGE
        socket.send_fds(_server(), [message], [its.fileno(), output.fileno()])
    return Warm(ours, [module, *args])


def run(
    module: str, *args: str, cwd: Path, env: dict[str, str], timeout: float = 120
) -> tuple[int, str]:
    """The same, to its end: its exit code, and what it said on both streams.

    Raises:
        subprocess.TimeoutExpired: it had not ended after so many seconds, and was killed.
    """
    with tempfile.TemporaryFile() as output:
        process = start(module, *args, cwd=cwd, env=env, output=output)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        # as subprocess reads text
        return code, output.read().decode().replace("\r\n", "\n").replace("\r", "\n")


@functools.cache
def _server() -> socket.socket:
    """Started when it is first needed; it ends when this end of the socket is closed."""
    from tests.conftest import clean_env  # which imports this module

    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its, tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, *_WARNINGS, "-m", __name__, str(its.fileno())],
            cwd=Path(__file__).parent.parent,
            env=clean_env(Path(home)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


# -- in the server ---------------------------------------------------------------------------------


def _serve(control: socket.socket) -> tuple[str, list[str]] | None:
    """Fork until nobody asks any more. In a process that was asked for: what it is to run."""
    for package in PACKAGES:
        importlib.import_module(package)
    assert "twisted.internet.reactor" not in sys.modules, "each process has to have its own"
    gc.collect()
    gc.freeze()  # what is there is no process's garbage
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, 2)
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:  # keepers that have ended
                pass
        if not message:
            return None
        link, output = descriptors
        if os.fork() == 0:
            control.close()
            return _keep(link, output, *json.loads(message))
        os.close(link)
        os.close(output)


def _keep(
    link: int, output: int, module: str, args: list[str], cwd: str, env: dict[str, str]
) -> tuple[str, list[str]]:
    """Fork once more, and look after that process: say who it is, bring signals, say how it ended.
    Where the other end of the link is gone, it is killed. Returns in that process alone.
    """
    pid = os.fork()
    if pid == 0:
        _become(link, output, cwd, env)
        return module, args
    os.close(output)
    with socket.socket(fileno=link) as asked:
        asked.send(str(pid).encode())
        ended = os.pidfd_open(pid)
        while ended not in select.select([link, ended], [], [])[0]:
            os.kill(pid, (asked.recv(1) or bytes([signal.SIGKILL]))[0])
        with contextlib.suppress(BrokenPipeError):
            asked.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _become(link: int, output: int, cwd: str, env: dict[str, str]) -> None:
    os.close(link)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as control_:
        found = _serve(control_)
    if found is not None:
        sys.argv[1:] = found[1]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(found[0], run_name="__main__", alter_sys=True)
