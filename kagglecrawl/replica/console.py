"""A replica on the command line: served until told to stop, or for as long as a command runs."""

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from kagglecrawl.replica.faults import STORAGE, Fault, Faults, Rule
from kagglecrawl.replica.folder import publish
from kagglecrawl.replica.league import LeagueShape
from kagglecrawl.replica.quotas import Burst, Quotas
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.service import NAMES
from kagglecrawl.replica.storage import EXPIRES
from kagglecrawl.replica.world import World

DEFAULT_PORT = 8765
"""Where it listens unless told, and unless it runs a command."""
LEAST_TEAMS = 4
"""Of a league: so many play a game."""

_FAILING = re.compile(r"(\w+)(?::(.+))?=([45]\d\d)", re.ASCII)
_OWN_CREDENTIALS = (
    "KAGGLE_API_TOKEN",
    "KAGGLE_USERNAME",
    "KAGGLE_KEY",
    "KAGGLE_CONFIG_DIR",
    "KAGGLE_IAP_TOKEN",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_KERNEL_RUN_TYPE",
)
"""What a command must not inherit, lest a real credential be sent, or looked for elsewhere."""


class Mistake(Exception):
    """What the user asked for cannot be done; the text is one sentence."""


def main(opts: argparse.Namespace, command: list[str]) -> int:
    """Serve as the options of `scrapy replica` say, or run the command; the exit code.

    Raises Mistake for an option that makes no sense, and for what cannot be started.
    """
    if opts.port is None:
        opts.port = 0 if command else DEFAULT_PORT
    replica = _build(opts)
    try:
        replica.start()
    except OSError as failure:
        reason = os.strerror(failure.errno or 0)
        raise Mistake(f"Cannot listen on port {opts.port}: {reason}") from None
    try:
        return _run(command, replica) if command else _serve(replica)
    finally:
        replica.stop()


def _build(opts: argparse.Namespace) -> Replica:
    for name, value, least in (
        ("--port", opts.port, 0),
        ("--metadata-files", opts.metadata_files or 0, 0),
        ("--max-page-size", opts.max_page_size, 1),
        ("--url-expires", opts.url_expires or 0, 0),
        ("--drip-seconds", opts.drip_seconds, 0),
        ("--moved", opts.moved, 0),
        ("--competitions", opts.competitions or 0, 0),
        ("--league-teams", opts.league_teams, LEAST_TEAMS),
    ):
        if value < least:
            raise Mistake(f"{name} must be at least {least}")
    if opts.port > 65_535:
        raise Mistake("--port must be at most 65535")
    try:
        world = World(
            opts.seed,
            opts.scale or (None if opts.folder else "small"),
            publish(opts.folder),
            moved=opts.moved,
            competition_count=opts.competitions,
            league_shape=LeagueShape(teams=opts.league_teams),
        )
        quotas = Quotas(*opts.quota, bursts=map(Burst.parse, opts.burst))
        broken = [_failing(spec) for spec in opts.fail]
    except ValueError as failure:
        raise Mistake(str(failure)) from None
    match opts.faults:
        case "mild":
            faults = Faults.mild(opts.seed, opts.drip_seconds)
        case "harsh":
            faults = Faults.harsh(opts.seed, opts.drip_seconds)
        case _:
            faults = Faults.none()
    faults.add(*broken)
    if opts.meta_kaggle is not None:
        _write_meta_kaggle(world, opts)
    elif opts.meta_schema != "2025":
        raise Mistake("--meta-schema is of the tables that --meta-kaggle DIR writes: give that too")
    behaviour = Behaviour(
        opts.paging,
        opts.max_page_size,
        opts.metadata_files,
        leaderboard=opts.leaderboard,
        zipped_files=opts.zipped_files,
        episodes=opts.episodes,
    )
    return Replica(
        world,
        faults=faults,
        behaviour=behaviour,
        quotas=quotas,
        port=opts.port,
        url_expires=EXPIRES if opts.url_expires is None else opts.url_expires,
    )


def _write_meta_kaggle(world: World, opts: argparse.Namespace) -> None:
    folder = Path(opts.meta_kaggle)
    marker = folder / ".replica"
    try:
        if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
            raise Mistake(
                f"The folder {str(folder)!r} has files that are none of the replica's, which it "
                "would replace: name a new one for --meta-kaggle"
            )
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
        world.write_meta_kaggle(folder, schema=opts.meta_schema, zipped=opts.zipped_files)
    except OSError as failure:
        raise Mistake(f"Cannot write into the folder {str(folder)!r}: {failure.strerror}") from None


def _failing(spec: str) -> Rule:
    """The rule of `METHOD[:KEY]=STATUS`; raises ValueError, one sentence."""
    found = _FAILING.fullmatch(spec)
    if found is None:
        raise ValueError(f"Not a failure: {spec!r} (expected as in GetDatasetMetadata=500)")
    known = sorted(NAMES | {STORAGE})
    if found[1] not in known:
        raise ValueError(f"Not a method to fail: {found[1]!r} (there are {', '.join(known)})")
    return Rule(Fault("status", int(found[3])), found[1], found[2] or "*")


def _serve(replica: Replica) -> int:
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    _say(
        f"Kaggle replica at {replica.url} (Ctrl-C ends it)\n\n"
        f"For the crawler:\n{_exports(replica.crawler_env())}\n\n"
        f"For the unmodified kaggle CLI and kagglehub:\n{_exports(replica.env())}"
    )
    stop.wait()
    _say(_summary(replica.stats()))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # for whoever reads the address from a pipe


def _exports(variables: dict[str, str]) -> str:
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"  export {pairs}"


def _summary(stats: dict[str, Any]) -> str:
    answers = {method: sum(table.values()) for method, table in stats["requests"].items()}
    listed = ", ".join(f"{count} {method}" for method, count in sorted(answers.items()))
    trouble = sum(stats["faults"].values())
    return (
        f"Served {sum(answers.values())} API requests{': ' if listed else ''}{listed}.\n"
        f"{stats['bytes_sent']} bytes sent, {trouble} faults made, "
        f"{stats['retry_after_violations']} requests came before Retry-After had run out."
    )


def _run(command: list[str], replica: Replica) -> int:
    """Run the command to its end; its exit code, 128 + N if signal N ended it."""
    if command[0] == "scrapy":  # the same one, whether or not its environment is activated
        command = [sys.executable, "-m", "scrapy", *command[1:]]
    with tempfile.TemporaryDirectory(prefix="kagglecrawl-replica-") as config:
        inherited = {k: v for k, v in os.environ.items() if k not in _OWN_CREDENTIALS}
        env = {**inherited, **replica.env(), **replica.crawler_env(), "KAGGLE_CONFIG_DIR": config}
        try:
            # In a session of its own a Ctrl-C reaches the child through us alone, and so once: to
            # Scrapy a second one means to stop at once.
            child = subprocess.Popen(command, env=env, start_new_session=True)
        except OSError as failure:
            raise Mistake(f"Cannot run {command[0]!r}: {failure.strerror}") from None

        def interrupt(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)

        def forward(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGHUP, forward)
        code = child.wait()
    return 128 - code if code < 0 else code
