"""The command that goes on with a job."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scrapy.settings import BaseSettings

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.holds import repeated
from kagglecrawl.state.job import Identity


def command(
    status: Mapping[str, Any],
    feeds: dict[str, str],
    decisive: dict[str, str],
    repeat: dict[str, str],
    folder: Path,
    settings: BaseSettings,
) -> str:
    """What goes on with the job: all that makes it this job (``decisive`` are settings of it), and
    settings of its last run that are to be repeated; but not what is so by itself here."""
    # the columns that the spider sets by itself need not be named
    decisive = {
        name: value
        for name, value in decisive.items()
        if name != "FEED_EXPORT_FIELDS" or not str(value).startswith("{'")
    }
    try:
        here = Identity.of(status["spider"], {}, settings)
        own, api_url, workspace = here.feeds, here.api_url, here.workspace
        here_settings = here.settings
    except (ValueError, TypeError, AttributeError):  # a crawl would say which setting is wrong
        own, api_url, workspace, here_settings = {}, "", "", {}
    words = ["scrapy", "crawl", status["spider"]]
    for name, value in status["arguments"].items():
        words += ["-a", f"{name}={value}"]
    for uri, kind in () if "FEEDS" in decisive else feeds.items():
        # the one that a crawl has when nobody names one (spiders/base.py)
        default = uri.startswith(f"{status['workspace']}/output/%(name)s/")
        if not default and uri not in own:
            place = "-" if uri == "stdout:" else clean(uri)
            plain = place.endswith(".jsonl" if kind == "jsonlines" else f".{kind}")
            words += ["-o", place if plain else f"{place}:{kind}"]
    if status["api_url"] != api_url:
        words += ["-s", f"KAGGLE_API_URL={status['api_url']}"]
    if status["workspace"] != workspace:
        words += ["-s", f"WORKSPACE={status['workspace']}"]
    for name, value in decisive.items():
        if value != here_settings.get(name):
            words += ["-s", f"{name}={clean(value)}"]
    by_itself = repeated(settings)
    for name, value in repeat.items():
        if value != by_itself.get(name):
            words += ["-s", f"{name}={clean(value)}"]
    return shlex.join([*words, "-s", f"JOBDIR={folder}"])
