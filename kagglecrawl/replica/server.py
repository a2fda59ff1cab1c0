"""The server: connections on 127.0.0.1, in a thread with a loop of its own."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from kagglecrawl.replica import moves
from kagglecrawl.replica.faults import Faults
from kagglecrawl.replica.listing import Listings
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Behaviour, Site
from kagglecrawl.replica.security import KEY, TOKEN, USERNAME
from kagglecrawl.replica.service import Service
from kagglecrawl.replica.storage import EXPIRES, Signer, Storage
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World

HOST = "127.0.0.1"
_STOP_SECONDS = 0.1  # slow answers under way are not waited for


class Replica:
    """A Kaggle on loopback, for as long as its `with` block lasts (or from start to stop).

    `port` 0 is any free one. `url_expires` is how long signed URLs hold, in seconds. Starting
    raises OSError if the port is taken. It can be started once.
    """

    token = TOKEN
    username = USERNAME
    key = KEY

    def __init__(
        self,
        world: World | None = None,
        *,
        faults: Faults | None = None,
        behaviour: Behaviour | None = None,
        quotas: Quotas | None = None,
        port: int = 0,
        url_expires: int = EXPIRES,
    ) -> None:
        world = world or World()
        self.port = port
        self.faults = faults or Faults.none()
        """What goes wrong; `repair` and `add` change it while it runs."""
        self._signer = Signer(world.seed, url_expires)
        self._storage = Storage()
        site = Site(
            world,
            Listings(world),
            behaviour or Behaviour(),
            self._signer,
            self._storage,
            self.faults.shift,
        )
        self._service = Service(site, self.faults, quotas or Quotas())
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    @property
    def world(self) -> World:
        """What is served."""
        return self._service.world

    def move(self, world: World) -> None:
        """Serve another world from the next request on, such as `world.moved_on()`.

        What was signed before leads to what it led to then, also where that has a new version or is
        removed (but to nothing in a world that never had it, such as an earlier one). A page token
        from before is still good: it means a position, in the list as it is now, so that rows may
        come again or be missed, as with pages by number. Raises ValueError if the same version of a
        dataset has other files there: storage never mixes two.
        """
        moves.check(self.world.datasets, world.by_id)
        self._service.move(world)

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:PORT`."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """What the crawler's KAGGLE_API_URL wants: everything before `/v1/…`."""
        return f"{self.url}/api"

    def crawler_env(self) -> dict[str, str]:
        """The variables that point the crawler here."""
        return {"KAGGLE_API_URL": self.api_url, "KAGGLE_API_TOKEN": self.token}

    def env(self) -> dict[str, str]:
        """The variables that point the unmodified kaggle CLI and kagglehub here.

        LOCALHOST makes them ask `http://localhost/api/v1/…` (kagglesdk 0.1.37), which the proxy
        variables bring here; storage URLs and everything else on 127.0.0.1 are reached directly.
        """
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": self.token,
            **dict.fromkeys(("HTTP_PROXY", "http_proxy"), self.url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), HOST),
        }

    def stats(self) -> dict[str, Any]:
        """What it has seen and given since the last reset, as `GET /__stats` shows it."""
        return self._service.stats()

    def reset_stats(self) -> None:
        """Count from zero again; quotas and fault scripts go on as they were."""
        self._service.reset_stats()

    def prepare(self, dataset: DatasetTruth) -> None:
        """Make and hash the dataset's archive now, lest the first who asks for it wait.

        A file on disk is hashed at about 1 GB a second.
        """
        self._storage.blob(dataset, None)

    def change(self, dataset: DatasetTruth, content: bytes | Path) -> None:
        """Put another object in the place of the dataset's archive, from the next request on."""
        self._storage.change(dataset.archive_key, content)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, and return when connections are accepted."""
        ready = threading.Event()
        failures: list[Exception] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except Exception as failure:
                failures.append(failure)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="kagglecrawl-replica", daemon=True)
        self._thread.start()
        ready.wait()
        if failures:
            self._thread.join()
            raise failures[0]

    def stop(self) -> None:
        """Close every connection and wait for the end of the thread."""
        if self._thread and self._loop and self._stopped and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()
        self._storage.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        server = web.Server(self._service.handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port).start()
            self.port = runner.addresses[0][1]
            self._signer.base_url = self.url
            ready.set()
            await self._stopped.wait()
        finally:
            await runner.cleanup()
