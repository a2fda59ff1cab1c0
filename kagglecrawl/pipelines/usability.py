"""Leave out what Kaggle's usability rating says is poor.

The list callback asks ``usable`` too, to save a request; this pipeline decides.
"""

from __future__ import annotations

from typing import Any, Self

from scrapy.crawler import Crawler

from kagglecrawl.config import KaggleConfig
from kagglecrawl.pipelines import SkipItem

#: The reason in the stats of a resource that is left out.
BELOW = "usability"


def usable(rating: float | None, minimum: float) -> bool | None:
    """Is this rating at least the minimum? None: it is unknown, and it matters."""
    if minimum <= 0:
        return True
    return None if rating is None else rating >= minimum


class UsabilityPipeline:
    """Drops items that carry a ``usability_rating`` below the spider's ``min_usability``."""

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """By the spider's own ``min_usability``, else the setting."""
        chosen = getattr(crawler.spider, "min_usability", None)
        if chosen is None:
            chosen = KaggleConfig.from_settings(crawler.settings).min_usability
        return cls(chosen)

    def process_item(self, item: Any) -> Any:
        """Pass what is usable; raises ``SkipItem`` for the rest."""
        if not hasattr(item, "usability_rating"):
            return item
        verdict = usable(item.usability_rating, self.minimum)
        if verdict is None:
            raise SkipItem("usability_unknown", "Kaggle gives no usability rating")
        if not verdict:
            raise SkipItem(BELOW, f"usability {item.usability_rating} is below {self.minimum}")
        return item
