"""Scrapy alone: the calls that `scrapy crawl datasets` makes, posted and parsed, and no more.

Run by `scrapy runspider` outside of the project, so that every setting is Scrapy's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from scrapy import Request, Spider
from scrapy.http import TextResponse
from scrapy.settings import BaseSettings

_PAGE_SIZE = 200


class BareSpider(Spider):
    """Pages 1 to ``pages`` of ListDatasets, and GetDatasetMetadata for every row.

    With ``store`` it yields what it has parsed.
    """

    name = "bare"
    handle_httpstatus_list = [403, 404]  # a few datasets are gone or forbidden

    def __init__(self, pages: str, store: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pages = int(pages)
        self.store = bool(store)
        self.url = f"{os.environ['KAGGLE_API_URL']}/v1/datasets.DatasetApiService"

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """The token on every request, and on none that a job directory keeps."""
        super().update_settings(settings)
        headers = {"Authorization": f"Bearer {os.environ['KAGGLE_API_TOKEN']}"}
        settings.set("DEFAULT_REQUEST_HEADERS", headers, priority="spider")

    async def start(self) -> AsyncIterator[Any]:
        yield self.post("ListDatasets", {"pageSize": _PAGE_SIZE}, self.listed, page=1)

    def post(self, method: str, body: dict[str, Any], callback: Any, **cb_kwargs: Any) -> Request:
        return Request(
            f"{self.url}/{method}",
            method="POST",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=json.dumps(body).encode(),
            callback=callback,
            cb_kwargs=cb_kwargs,
        )

    def listed(self, response: TextResponse, page: int) -> Iterator[Request]:
        for row in response.json().get("datasets", []):
            owner, _, slug = row["ref"].partition("/")
            of = {"ownerSlug": owner, "datasetSlug": slug}
            yield self.post("GetDatasetMetadata", of, self.fetched)
        if page < self.pages:
            body = {"pageSize": _PAGE_SIZE, "page": page + 1}
            yield self.post("ListDatasets", body, self.listed, page=page + 1)

    def fetched(self, response: TextResponse) -> Iterator[dict[str, Any]]:
        reply = response.json()
        if self.store:
            yield reply
