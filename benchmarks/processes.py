"""Processes that are measured, and that never outlive the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
_LAST_WORDS = 2000
#: A developer's own settings and credentials must neither be measured nor sent.
_NOT_INHERITED = re.compile(r"KAGGLE|AWS_|PROXY|SCRAPY|XDG_|PYTHON", re.IGNORECASE)


class BenchmarkError(Exception):
    """The benchmark cannot say anything; the text says why."""


@dataclass(frozen=True)
class Usage:
    """What one process took: wall-clock and CPU (user and system) seconds, children included."""

    seconds: float
    cpu: float


def clean_env(home: Path, **more: str) -> dict[str, str]:
    """This process's environment with nothing of Kaggle's, of Scrapy's or of a proxy's in it."""
    env = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.search(name)}
    return {**env, "HOME": str(home), **more}


def measure(command: list[str], *, folder: Path, env: dict[str, str], timeout: float) -> Usage:
    """Run a command to its end and return what it took.

    It is killed with its whole process group after ``timeout`` seconds, or if we are interrupted.
    Raises ``BenchmarkError`` with its last words if it does not end with exit code 0.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(timeout, _kill_group, [child.pid])
        timer.start()
        try:
            # not Popen.wait: the usage of this very child, whatever else has ended meanwhile
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            _kill_group(child.pid)
            child.wait()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            output.seek(0)
            words = output.read()[-_LAST_WORDS:].decode(errors="replace")
            raise BenchmarkError(f"{command} ended with {child.returncode}:\n{words}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class ReplicaProcess:
    """A replica in a process of its own, so that its CPU is not a client's, for a `with` block.

    It answers on its stdout what it is asked on its stdin (see `serve`), and ends with the latter.
    """

    def __init__(self, scale: str, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", scale],
            cwd=ROOT,
            env=clean_env(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us; we end it
        )
        about = self._read()
        self.url: str = about["url"]
        #: What points the crawler here, and what points the unmodified kaggle package here.
        self.crawler_env: dict[str, str] = about["crawler_env"]
        self.official_env: dict[str, str] = about["env"]
        #: Every dataset that it lists, as owner/slug, and those that are not gone or forbidden.
        self.refs: list[str] = about["refs"]
        self.readable: list[str] = about["readable"]

    def reset(self) -> None:
        """Count requests from zero again."""
        self._ask("reset")

    def requests(self) -> dict[str, int]:
        """Requests answered since the last reset, by method."""
        counts: dict[str, int] = self._ask("requests")
        return counts

    def cpu(self) -> float:
        """CPU seconds that it has used so far."""
        return float(self._ask("cpu"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:  # closes its pipes and waits
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the replica ended with {self._process.wait()}")
        return json.loads(line)


def serve(scale: str) -> None:
    """Serve a replica, and answer `reset`, `requests` and `cpu`, until stdin ends."""
    from kagglecrawl.replica.server import Replica
    from kagglecrawl.replica.world import World

    world = World(seed=1, scale=scale)  # type: ignore[arg-type]  # argparse has checked it
    with Replica(world) as replica:
        about = {
            "url": replica.api_url,
            "crawler_env": replica.crawler_env(),
            "env": replica.env(),
            "refs": [dataset.ref for dataset in world.datasets],
            "readable": [dataset.ref for dataset in world.public()],
        }
        print(json.dumps(about), flush=True)
        for line in sys.stdin:
            answer: object = None
            match line.strip():
                case "reset":
                    replica.reset_stats()
                case "requests":
                    seen = replica.stats()["requests"]
                    answer = {method: sum(by_status.values()) for method, by_status in seen.items()}
                case "cpu":
                    answer = time.process_time()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
