"""One dataset's files: their crawl is started, killed, looked at and started again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagglecrawl.replica.faults import Faults
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from kagglecrawl.state.store import FILE, MemberRow, Store, TransferRow
from tests import warm
from tests.conftest import QUICK, ROOT, clean_env
from tests.killing.trial import Kill, Outcome
from tests.transfer.victim_archive import Made
from tests.transfer.victim_storage import Sent, Spans

REF = "me/set"
VICTIM = "tests.transfer.victim"
#: Seconds for what takes one or two.
_TIMEOUT = 60
_POLL = 0.002
#: With so many of an archive's last bytes every run begins.
TAIL = 1 << 20
#: From so many bytes on disk on, a member that is not packed is gone on with in its middle.
WORTH_KEEPING = 1 << 20


@dataclass
class Trial:
    """A job that fetches this archive in this folder, from a replica of its own, for a ``with``
    block. Storage answers as ``trouble`` says."""

    made: Made
    folder: Path
    trouble: Faults | None = None
    options: tuple[str, ...] = ()
    #: Files, by name, that are at the place before the job.
    beside: dict[str, bytes] = field(default_factory=dict)
    #: Seconds between two commits; None is the project's own.
    commit_every: float | None = None
    starts: int = 0
    kept: Spans = field(default_factory=Spans)
    """What is on disk of the archive, and the job knows it: it must not be fetched again."""

    def __post_init__(self) -> None:
        name = "archive.tar.gz" if self.made.path.suffix == ".gz" else "archive.zip"
        dataset = published(REF, self.made.path, {"data.csv": b"x\n"}, name=name)
        self.replica = Replica(World(scale=None, extra=(dataset,)), faults=self.trouble)
        self.sent = Sent()
        self.job = self.folder / "job"
        self.place = self.folder / "workspace" / "output" / "datasets" / "dataset"
        self.target = self.place / "me_set"
        self._patched = contextlib.ExitStack()

    def __enter__(self) -> Trial:
        for name, content in self.beside.items():
            (self.target / name).parent.mkdir(parents=True, exist_ok=True)
            (self.target / name).write_bytes(content)
        self._patched.enter_context(self.sent())
        self._patched.enter_context(self.replica)
        return self

    def __exit__(self, *_: object) -> None:
        self._patched.close()

    # -- starting and killing ---------------------------------------------------------------------

    def start(self, kill: Kill | None = None) -> Outcome:
        """Run the crawl until it ends or dies; ``outside`` counts MiB that storage has sent."""
        with tempfile.TemporaryFile() as log:
            words, env = self._command(kill)
            process = warm.start(VICTIM, *words, cwd=ROOT, env=env, output=log)
            try:
                if kill is not None and kill.point == "outside":
                    wanted = self.sent.total() + (kill.passes << 20)
                    while process.poll() is None and self.sent.total() < wanted:
                        time.sleep(_POLL)
                    process.kill()
                code: int | None = process.wait(_TIMEOUT)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            text = log.read().decode(errors="replace")
        return Outcome(code == -signal.SIGKILL, code, text)

    def _command(self, kill: Kill | None) -> tuple[list[str], dict[str, str]]:
        """What the next process is given, and its environment."""
        self.starts += 1
        env = self.replica.crawler_env()
        if kill is not None and kill.point != "outside":
            env["KILL_AT"] = str(kill)
        if self.commit_every is not None:
            env["COMMIT_EVERY"] = str(self.commit_every)
        settings = ("WORKSPACE_MIN_FREE=0", f"JOBDIR={self.job}", f"WORKSPACE={self.workspace}")
        words = [
            *("crawl", "datasets", *QUICK, "-o", str(self.folder / "rows.jsonl")),
            *(word for setting in settings for word in ("-s", setting)),
            *self.options,
        ]
        return words, clean_env(self.folder, **env)

    @contextmanager
    def running(self, *more: str) -> Iterator[subprocess.Popen[str]]:
        """The crawl, under way; killed at the end of the block if it still is."""
        words, env = self._command(None)
        process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", VICTIM, *words, *more],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def end(self, process: subprocess.Popen[str], log: str = "") -> Outcome:
        """Wait for its end; code None: it hung."""
        try:
            log += process.communicate(timeout=_TIMEOUT)[1]
        except subprocess.TimeoutExpired:
            return Outcome(False, None, log)
        return Outcome(process.returncode == -signal.SIGKILL, process.returncode, log)

    # -- looking ----------------------------------------------------------------------------------

    @property
    def workspace(self) -> Path:
        """The crawl's."""
        return self.folder / "workspace"

    def known(self) -> tuple[TransferRow | None, list[MemberRow]]:
        """What the job has committed: of the transfer, and which members are on disk. A copy is
        looked at, since what looks at a database may mend it."""
        if not (self.job / FILE).exists():
            return None, []
        with tempfile.TemporaryDirectory() as name:
            for path in self.job.glob(f"{FILE}*"):
                shutil.copy(path, name)
            with closing(Store.look(Path(name) / FILE)) as store:
                row = store.transfer(REF)
                return row, store.stored_members(row.number, 0, 1_000_000) if row else []

    def rows(self) -> list[dict[str, Any]]:
        """Of the feed; the last one may be half written."""
        feed = self.folder / "rows.jsonl"
        lines = feed.read_text(encoding="utf-8").splitlines(keepends=True) if feed.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep(self) -> None:
        """See what the next start must not fetch: members that are known to be on disk, and what is
        there of one that is not packed, or of an archive that has to be whole."""
        self.kept = Spans()
        row, stored = self.known()
        if row is None:
            return
        done = {member.name for member in stored}
        head = self.place / f".{self.target.name}.{row.token}"
        for lies in self.made.members:
            path = Path(f"{head}.incomplete", lies.name)
            there = path.stat().st_size if path.is_file() else 0
            if lies.name in done:
                self.kept.add(lies.start, lies.stop)
            elif lies.stored and there >= WORTH_KEEPING:
                data = lies.stop - self.made.files[lies.name][0]
                self.kept.add(data, data + there)
        spool = Path(f"{head}.archive.incomplete")
        if spool.is_file():
            self.kept.add(0, spool.stat().st_size)
        elif done == self.made.files.keys() | {f"{name}/" for name in self.made.folders}:
            self.kept.add(0, self.made.size)

    def fetched_again(self, before: int) -> int:
        """Bytes of what was kept that storage has sent since there were so many answers."""
        return sum(
            self.kept.common(start, min(start + count, self.made.size - TAIL))
            for start, count in self.sent.answers()[before:]
        )

    def left_over(self) -> list[str]:
        """What is in the place of datasets beside this one."""
        there = self.place.iterdir() if self.place.is_dir() else ()
        return sorted(path.name for path in there if path != self.target)

    def wrong_at_end(self, outcome: Outcome) -> list[str]:
        """What is not as it should be of a job that has come to its end."""
        found = self.made.differences(self.target, beside=self.beside) + self.left_over()
        if outcome.code != 0:
            found.append(f"exit code {outcome.code}")
        if "Traceback" in outcome.log:
            found.append("a traceback in the log")
        told = [(row["Ref"], row["Download"]) for row in self.rows()]
        right = {
            "folder": self.target.relative_to(self.workspace).as_posix(),
            "files": len(self.made.files),
            "bytes": self.made.unpacked,
            "leftOut": {},
            "reason": "",
        }
        if told != [(REF, right)]:
            found.append(f"the rows tell {told}")
        return found
