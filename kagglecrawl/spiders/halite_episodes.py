"""``scrapy crawl halite_episodes``: the seed's command, which is ``episodes`` for Halite."""

from __future__ import annotations

from kagglecrawl.spiders.episodes import EpisodesSpider


class HaliteEpisodesSpider(EpisodesSpider):
    """``scrapy crawl episodes -a competition=halite``, which is that spider's default."""

    name = "halite_episodes"
    resource = EpisodesSpider.name
