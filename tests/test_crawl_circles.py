"""A Kaggle whose page tokens lead in circles: nothing ends unseen, nothing goes on for ever."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from tests.conftest import Run

#: After A comes B, and after B comes A.
NEXT = {"": "A", "A": "B", "B": "A"}


class Circles(BaseHTTPRequestHandler):
    """Lists of datasets and of files whose tokens go round."""

    circle: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rpartition("/")[2]
        type(self).asked.append(method)
        content = json.dumps(self.reply(method, body.get("pageToken", ""))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reply(self, method: str, token: str) -> dict[str, Any]:
        goes_on = {"nextPageToken": NEXT[token]} if method == self.circle else {}
        if method == "ListDatasets":
            row = {"ref": f"owner/slug-{token}x", "usabilityRating": 1.0, "totalBytes": 5}
            return {"datasets": [row], **goes_on} if goes_on or not token else {}
        if method == "ListDatasetFiles":
            return {
                "datasetFiles": [{"name": f"{token or 'first'}.csv", "totalBytes": 1}],
                **goes_on,
            }
        named = [] if self.circle == "ListDatasetFiles" else [{"name": "a", "totalBytes": 5}]
        return {"info": {"title": "t", "data": named}}

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def kaggle() -> Iterator[dict[str, str]]:
    Circles.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Circles) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/api"
            yield {"KAGGLE_API_URL": url, "KAGGLE_API_TOKEN": "KGAT_any"}
        finally:
            server.shutdown()
            thread.join()


def test_a_list_in_circles_is_walked_once_and_fails_the_run(
    crawl: Run, kaggle: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Circles, "circle", "ListDatasets")
    done = crawl(None, env=kaggle)
    assert done.code == 1, done.log
    assert {row["Ref"] for row in done.rows} == {"owner/slug-x", "owner/slug-Ax", "owner/slug-Bx"}
    assert done.stat("kaggle/lists/ListDatasets/ended/circle") == 1
    assert Circles.asked.count("ListDatasets") < 12


def test_files_in_circles_are_listed_once(
    crawl: Run, kaggle: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Circles, "circle", "ListDatasetFiles")
    done = crawl(None, "-a", "refs=owner/slug-x", "-a", "min_usability=0", env=kaggle)
    assert done.code == 1, "GetDataset of this server has no ref"
    done = crawl(None, "-a", "sample=1", env=kaggle)
    (row,) = done.rows
    assert [file["name"] for file in row["File Explorer"]] == ["first.csv", "A.csv", "B.csv"]
    assert done.stat("kaggle/datasets/pending") == 0
