"""A web server on loopback whose answers are scripted, path by path."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

#: Status and text; of a 302 the text is where it leads.
Answer = tuple[int, str]


class Site:
    """Answers at a port of its own, for a ``with`` block; what is not scripted is ``200 ok``.

    ``script`` gives each path its answers in turn; the last one stays. ``port`` 0 is any free one.
    """

    def __init__(self, script: dict[str, list[Answer]] | None = None, port: int = 0) -> None:
        self.script = script or {}
        self.asked: Counter[str] = Counter()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = site.answer(self.path)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", text)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def answer(self, path: str) -> Answer:
        """Count a request and say what it gets."""
        self.asked[path] += 1
        answers = self.script.get(path, [(200, "ok")])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
