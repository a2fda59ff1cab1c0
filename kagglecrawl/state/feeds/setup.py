"""What ``FEEDS`` says: each feed's options, and the parts of Scrapy's that it is made of."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlparse

from itemadapter import ItemAdapter
from scrapy import Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.exporters import (
    BaseItemExporter,
    CsvItemExporter,
    JsonItemExporter,
    XmlItemExporter,
)
from scrapy.extensions.feedexport import (
    FeedStorageProtocol,
    FileFeedStorage,
    ItemFilter,
    StdoutFeedStorage,
    apply_uri_params,
)
from scrapy.extensions.postprocessing import PostProcessingManager
from scrapy.settings import BaseSettings
from scrapy.utils.conf import feed_complete_default_values_from_settings
from scrapy.utils.misc import build_from_crawler, load_object

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.feeds.file import FeedRefused

# As in redaction.py: a password of AWS's may hold "/".
_USER = re.compile(r"(?<=://)[^\s?#]*@")


@dataclass
class FeedSetup:
    """One feed of ``FEEDS``."""

    crawler: Crawler
    #: Its URI as it is set, a path as text.
    key: str
    options: dict[str, Any]
    exporter_class: type[BaseItemExporter]
    storage_class: type[FeedStorageProtocol]
    item_filter: ItemFilter
    #: Of a CSV file whose columns nobody has set: those of its first row.
    columns: list[str] | None = None

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return f"the feed {clean(self.key)}"

    @property
    def format(self) -> str:
        """Its format's name."""
        return str(self.options["format"])

    @property
    def batch_items(self) -> int:
        """Rows in one file; 0 for all of them."""
        return int(self.options["batch_item_count"] or 0)

    @property
    def store_empty(self) -> bool:
        """Is a file wanted even without a row?"""
        return bool(self.options["store_empty"])

    @property
    def overwrite(self) -> bool:
        """Is what is there before the job replaced? For local files."""
        return bool(self.options.get("overwrite", False))

    @property
    def local(self) -> bool:
        """Is it a file on this machine?"""
        return issubclass(self.storage_class, FileFeedStorage)

    @property
    def stdout(self) -> bool:
        """Is it the standard output?"""
        return issubclass(self.storage_class, StdoutFeedStorage)

    # -- addresses --------------------------------------------------------------------------------

    @property
    def spider(self) -> Spider:
        """The crawl's spider."""
        assert self.crawler.spider is not None
        return self.crawler.spider

    @property
    def template(self) -> str:
        """The key as the store knows it: see ``lasting``."""
        return self.lasting(self.key)

    def lasting(self, uri: str) -> str:
        """A URI as the store keeps it: a path whatever the current folder is, and no password."""
        if self.local and not urlparse(uri).scheme:
            return str(Path(uri).absolute())
        return _USER.sub("", uri, count=1)

    def restored(self, lasting: str) -> str:
        """The URI again, with the user name and password that are set now."""
        user = _USER.search(self.uri(1))
        return lasting.replace("://", f"://{user[0]}", 1) if user else lasting

    def uri(self, batch: int) -> str:
        """With its parameters filled in as of now; batches count from 1. Raises ``FeedRefused``."""
        spider, now = self.spider, datetime.now(tz=UTC)
        params: dict[str, Any] = {}
        for name in dir(spider):
            with suppress(AttributeError):  # a property of what is not there before it is opened
                params[name] = getattr(spider, name)
        params["time"] = now.replace(microsecond=0).isoformat().replace(":", "-")
        params["batch_time"] = now.isoformat().replace(":", "-")
        params["batch_id"] = batch
        if function := self.options["uri_params"]:
            changed = load_object(function)(params, spider)
            params = params if changed is None else changed
        try:
            return apply_uri_params(self.key, params)
        except (KeyError, TypeError, ValueError) as error:
            raise FeedRefused(
                f"{self.name} has a parameter in its address that cannot be filled in ({error}): "
                "name an attribute of the spider, or time, batch_time, batch_id"
            ) from None

    def storage(self, uri: str) -> FeedStorageProtocol:
        """What stores the file of that URI. Raises ``FeedRefused``."""
        try:
            storage: FeedStorageProtocol = build_from_crawler(
                self.storage_class, self.crawler, uri, feed_options=self.options
            )
        except (NotConfigured, ValueError, AssertionError) as error:
            why = clean(str(error)) or "its address is wrong"
            raise FeedRefused(f"{self.name} cannot be stored: {why}") from None
        return storage

    def path(self, uri: str) -> Path:
        """Where the local file of that URI is."""
        storage = self.storage(uri)
        assert isinstance(storage, FileFeedStorage)
        return Path(storage.path)

    # -- rows -------------------------------------------------------------------------------------

    def exporter(self, file: Any, place: int, first: Any = None) -> BaseItemExporter:
        """A new exporter of rows into ``file``, which begins at ``place`` bytes of the feed's file;
        ``first`` is the first of the items."""
        options = dict(self.options["item_export_kwargs"])
        fields = self.options["fields"]
        if place and issubclass(self.exporter_class, CsvItemExporter):
            options["include_headers_line"] = False  # it is there already
            if not fields and first is not None:
                fields = self.columns or list(ItemAdapter(first).field_names())
        exporter: BaseItemExporter = build_from_crawler(
            self.exporter_class,
            self.crawler,
            file,
            fields_to_export=fields,
            encoding=self.options["encoding"],
            indent=self.options["indent"],
            **options,
        )
        return exporter

    def learn_columns(self, exporter: BaseItemExporter) -> None:
        """Remember the columns of a CSV file that are those of its first row."""
        if not self.options["fields"] and isinstance(exporter, CsvItemExporter):
            self.columns = list(exporter.fields_to_export or ())

    def processed(self, data: bytes) -> bytes:
        """What the post-processing plugins make of it: compressed, it is a whole of its own, so
        that a file can be cut behind it."""
        for plugin in self.options.get("postprocessing") or ():
            # one manager for each, since a manager closes the first of its plugins alone
            file = BytesIO()
            manager = PostProcessingManager([plugin], file, self.options)
            manager.write(data)
            manager.close()
            data = file.getvalue()
        return data

    def check(self) -> None:
        """Raise ``FeedRefused`` if the options are not those of its exporter and plugins."""
        try:
            self.exporter(BytesIO(), 0)
            self.processed(b"")
        except Exception as error:
            raise FeedRefused(
                f"{self.name} has options in FEEDS that do not work: {clean(str(error))}"
            ) from error


def read_feeds(crawler: Crawler, *, durable: bool) -> list[FeedSetup]:
    """Every feed of the settings. Raises ``FeedRefused``; ``durable``: also for formats that cannot
    be gone on with."""
    settings = crawler.settings
    if settings["FEED_URI"]:
        raise FeedRefused("FEED_URI is not read any more: name the feed with -o, -O or FEEDS")
    feeds = settings.getdict("FEEDS").items()
    return [_read(crawler, key, options, durable=durable) for key, options in feeds]


def _read(crawler: Crawler, key: Any, options: dict[str, Any], *, durable: bool) -> FeedSetup:
    settings = crawler.settings
    if not isinstance(options, dict):
        raise FeedRefused(f"FEEDS gives no options for {clean(str(key))}: write {{'format': …}}")
    uri = str(key.absolute()) if isinstance(key, Path) else str(key)
    name = f"the feed {clean(uri)}"
    options = feed_complete_default_values_from_settings(options, settings, uri)
    exporter = _component(settings, "FEED_EXPORTERS", options["format"])
    if exporter is None:
        known = ", ".join(sorted(k for k, v in settings.getwithbase("FEED_EXPORTERS").items() if v))
        raise FeedRefused(f"{name} has no known format ({options['format']}): use one of {known}")
    if durable and issubclass(exporter, JsonItemExporter | XmlItemExporter):
        raise FeedRefused(
            f"{name} is {options['format']}, which a job cannot go on with: use jsonlines or csv"
        )
    try:
        scheme = urlparse(uri).scheme
    except ValueError:
        raise FeedRefused(f"{name} is no address: write a path, or one such as s3://…") from None
    if PureWindowsPath(uri).drive:
        scheme = "file"
    storage = _component(settings, "FEED_STORAGES", scheme)
    if storage is None:
        raise FeedRefused(
            f"{name} has an address that is not known ({scheme}:): use a path, s3://…, ftp://…, "
            "or add what stores it to FEED_STORAGES"
        )
    if options["batch_item_count"] and not re.search(r"%\(batch_time\)s|%\(batch_id\)", uri):
        raise FeedRefused(
            f"{name} has batches (batch_item_count), but one name for all of them: "
            "put %(batch_id)d or %(batch_time)s into it"
        )
    try:
        made_filter = load_object(options.get("item_filter", ItemFilter))(options)
        if options["uri_params"]:
            load_object(options["uri_params"])
    except (ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise FeedRefused(
            f"{name} names something in FEEDS that cannot be loaded ({clean(str(error))})"
        ) from None
    return FeedSetup(crawler, uri, options, exporter, storage, made_filter)


def _component(settings: BaseSettings, setting: str, name: str) -> Any:
    """The class of that name, or None."""
    path = settings.getwithbase(setting).get(name)
    try:
        return None if path is None else load_object(path)
    except NotConfigured:
        return None
