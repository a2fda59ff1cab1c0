"""Item pipelines, in the order of ITEM_PIPELINES: a pure function and a thin class each."""

from __future__ import annotations

from scrapy.exceptions import DropItem


class SkipItem(DropItem):
    """An item left out on purpose; ``slug`` is its reason in the stats."""

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug
