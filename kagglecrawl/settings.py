"""The project's settings: an annotated difference from Scrapy's defaults, then our own.

``scrapy settings --get NAME`` shows what is in force; ``-s NAME=VALUE`` changes it for one run.
Credentials are never settings: see kagglecrawl/kaggle/auth.py.
"""

import os

from scrapy.settings import default_settings

from kagglecrawl import __version__
from kagglecrawl.config import default_api_url

BOT_NAME = "kagglecrawl"
SPIDER_MODULES = ["kagglecrawl.spiders"]
NEWSPIDER_MODULE = "kagglecrawl.spiders"
COMMANDS_MODULE = "kagglecrawl.commands"

# -- Who we are -----------------------------------------------------------------------------------
USER_AGENT = f"kagglecrawl/{__version__} (Scrapy)"  # default "Scrapy/VERSION (+https://scrapy.org)"
# robots.txt of www.kaggle.com and api.kaggle.com are 404 (reported, kaggle-facts 8), and an
# official API is not what robots.txt speaks of.
ROBOTSTXT_OBEY = False
COOKIES_ENABLED = False  # default True; the API has no sessions

# -- How fast -------------------------------------------------------------------------------------
# The scheduler sets the pace, by KAGGLE_QUOTAS below, and a 429 stops all of its kind for as long
# as it says (state/quotas.py, holds.py). AutoThrottle makes the gaps longer when answers are slow.
AUTOTHROTTLE_ENABLED = True  # default False
AUTOTHROTTLE_START_DELAY = 0.5  # default 5.0
AUTOTHROTTLE_TARGET_CONCURRENCY = 4.0  # default 1.0
DOWNLOAD_DELAY = 0.5  # default 0; seconds, for spiders that have no quotas (ours set it to 0)
CONCURRENT_REQUESTS = 8  # default 16
CONCURRENT_REQUESTS_PER_DOMAIN = 8  # default 8
# Scrapy starts this many tasks for each response: 100 cost 1.4 times the CPU of 8 (measured).
CONCURRENT_ITEMS = 8  # default 100
# Scrapy parses the source of a callback again at one request in five, to give this warning.
WARN_ON_GENERATOR_RETURN_VALUE = False  # default True
DOWNLOAD_TIMEOUT = 60  # default 180; seconds for one whole reply of the API

# -- What carries a request -----------------------------------------------------------------------
DOWNLOAD_HANDLERS = {
    "http": "kagglecrawl.transport.handler.KaggleDownloadHandler",
    "https": "kagglecrawl.transport.handler.KaggleDownloadHandler",
    # tables of Meta Kaggle, which are requests like all others: metakaggle://tables/Competitions?offset=0
    "metakaggle": "kagglecrawl.transport.tables.TableHandler",
}
SCHEDULER = "kagglecrawl.state.scheduler.KaggleScheduler"

DOWNLOADER_MIDDLEWARES = {
    # Nearer to the downloader than Scrapy's RetryMiddleware (550): it sees an answer first.
    "kagglecrawl.middlewares.KaggleReplyMiddleware": 560,
    # Off, since nothing of ours needs them; each costs time on every request.
    "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
    "scrapy.downloadermiddlewares.redirect.MetaRefreshMiddleware": None,
    "scrapy.downloadermiddlewares.httpauth.HttpAuthMiddleware": None,
    "scrapy.downloadermiddlewares.cookies.CookiesMiddleware": None,
}
# default no-referrer-when-downgrade; an address of ours is nobody else's business
REFERRER_POLICY = "no-referrer"
SPIDER_MIDDLEWARES = {
    # Off as well: pages of a list follow one another, which is no depth.
    "scrapy.spidermiddlewares.depth.DepthMiddleware": None,
    "scrapy.spidermiddlewares.metacopy.MetaCopyDetectionMiddleware": None,
    "scrapy.spidermiddlewares.urllength.UrlLengthMiddleware": None,
}
ITEM_PIPELINES = {
    "kagglecrawl.pipelines.usability.UsabilityPipeline": 300,
    "kagglecrawl.pipelines.markdown.MarkdownPipeline": 400,
    "kagglecrawl.pipelines.upload.UploadPipeline": 800,
}
# Without the two that run Python in the crawler: both are off below, and importing them takes a
# fifth of a second all the same. (EXTENSIONS could only name them, for which Scrapy imports them.)
EXTENSIONS_BASE = {
    name: order
    for name, order in default_settings.EXTENSIONS_BASE.items()
    if not name.endswith((".TelnetConsole", ".RemoteControl"))
}
EXTENSIONS = {
    # The scheduler writes the feeds (state/feeds.py): a row counts when its request is done.
    "scrapy.extensions.feedexport.FeedExporter": None,
    # Off: it keeps a pickle in JOBDIR.
    "scrapy.extensions.spiderstate.SpiderState": None,
    "kagglecrawl.extensions.progress.Progress": 100,
    # Late at the close: it reports what the others have counted.
    "kagglecrawl.extensions.report.Report": 900,
    # After that, which says whether all was had: report.json and report.html in WORKSPACE.
    "kagglecrawl.extensions.run_report.RunReport": 950,
}

# -- What is shown, and what never is -------------------------------------------------------------
LOG_LEVEL = "INFO"  # default DEBUG
LOG_FORMATTER = "kagglecrawl.logformatter.QuietLogFormatter"
ADDONS = {"kagglecrawl.logformatter.RedactSettings": 0}
DEFAULT_DROPITEM_LOG_LEVEL = "DEBUG"  # default WARNING; drops are counted, with their reasons
STATS_DUMP = False  # default True; the report says it in plain words, `-s STATS_DUMP=True` for all
TELNETCONSOLE_ENABLED = False  # default True; it runs Python in the crawler
REMOTE_CONTROL_ENABLED = False  # default True; so does this

# -- What is written ------------------------------------------------------------------------------
# A crawl that stores nothing (a refused token, say) leaves what -O would overwrite as it is.
FEED_STORE_EMPTY = False  # default True
FEED_EXPORT_ENCODING = "utf-8"  # default ASCII escapes for JSON
# As Scrapy's, but what it has uploaded is proved.
FEED_STORAGES = {"s3": "kagglecrawl.s3.feeds.S3FeedStorage"}
FEED_EXPORTERS = {
    # lists as JSON, where Scrapy's writes Python's repr
    "csv": "kagglecrawl.extensions.exporters.CsvExporter",
    # "File Explorer" is no name that XML could have
    "xml": None,
}

# -- Our own (read and checked by kagglecrawl/config.py) ------------------------------------------
#: Everything before /v1/… in a call. From the environment: KAGGLE_API_URL, else what kagglesdk
#: makes of KAGGLE_API_ENVIRONMENT, else https://api.kaggle.com.
KAGGLE_API_URL = default_api_url(os.environ)
#: The site, for what the official API does not have: lists of episodes, and replays. What stands
#: before the path; it is sent no credentials. Empty: https://www.kaggle.com, for an API on this
#: machine the same server.
KAGGLE_WEB_URL = os.environ.get("KAGGLE_WEB_URL", "")
#: The host of the site's files, likewise; empty: https://www.kaggleusercontent.com.
KAGGLE_CONTENT_URL = os.environ.get("KAGGLE_CONTENT_URL", "")
#: scrapy: Scrapy's downloader. official: the unmodified kaggle package in a child process.
KAGGLE_TRANSPORT = "scrapy"
#: Datasets below this usability rating (0 to 1) are skipped; `-a min_usability=` goes before it.
KAGGLE_MIN_USABILITY = 0.8
#: Attempts at one request in one run, before it counts as failed. A 429 costs none.
KAGGLE_MAX_ATTEMPTS = 8
#: First pause before a new attempt, in seconds; it doubles each time, up to a minute.
KAGGLE_RETRY_BASE = 0.5
#: The longest that is waited for one request, in seconds: a longer Retry-After, several that add up
#: to more, or a network that is away for longer, end the run cleanly.
KAGGLE_MAX_WAIT = 900
#: What may be sent, by family: the calls of the API, downloads begun, lists of episodes, replays. A
#: pace (second, minute), a budget (hour, day: any 24 hours), or several of them; an empty one is no
#: limit. For those that are not named: api and download 2/second, episodes 10/minute and 1000/day,
#: replay 60/minute; none on this machine. `-s KAGGLE_QUOTAS="api=1/second, 5000/day"`
KAGGLE_QUOTAS = ""
#: What was sent, kept for all runs and processes of this user; empty: in the user's state folder
#: (~/.local/state/kagglecrawl), for a server on this machine in WORKSPACE.
KAGGLE_QUOTA_FILE = ""
#: Where nothing may be sent for longer than KAGGLE_MAX_WAIT: stop (exit code 4), or wait.
KAGGLE_QUOTA_SPENT = "stop"
#: What every crawl has had, and what became of it, for those that follow; empty:
#: WORKSPACE/ledger.sqlite. `scrapy ledger` shows it.
KAGGLE_LEDGER = ""
#: Where files land.
WORKSPACE = "local_workspace"
#: Bytes that stay free on the disk of WORKSPACE: 500MB, 2GB. The crawl stops before that.
WORKSPACE_MIN_FREE = "1GB"
#: Downloads of files at once; each is one stream from Kaggle's storage. They count among
#: CONCURRENT_REQUESTS, of which one at least is left for everything else.
KAGGLE_CONCURRENT_TRANSFERS = 2
#: Seconds of waiting in which less than 1 KiB a second arrives, after which a download is begun
#: again where it was. There is no limit on the time of a whole download.
KAGGLE_STALL_TIMEOUT = 60
#: Hosts that Kaggle may send a download to, over https (kaggle-facts 1.4).
KAGGLE_STORAGE_HOSTS = ["storage.googleapis.com"]
#: How replays are stored: gzip, or zstd, which is smaller and quicker. (Modern ones have 31 to
#: 34 MB, and shrink 60 times.)
KAGGLE_REPLAY_COMPRESSION = "gzip"
#: Files of more than 1 MiB that are more than so many times as large as in their archive are
#: refused: archives are known that fill any disk.
KAGGLE_MAX_RATIO = 200
#: An S3-compatible store for files and page files, instead of WORKSPACE: s3://bucket/prefix.
#: Credentials and endpoint as boto3 finds them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, profiles).
S3_URI = ""
#: The same from the seeds' cloud.json, with the seeds' keys; it has ACCESS_KEY, SECRET_KEY,
#: ENDPOINT_URL, BUCKET_NAME, OSS_PREFIX.
CLOUD_CONFIG = ""
#: Folders of the store between its prefix and dataset/, meta_data/ and the like. None: the
#: spider's name, and with CLOUD_CONFIG nothing.
OUTPUT_PREFIX = None
#: Requests to the store at once.
S3_CONCURRENT_UPLOADS = 8
#: Read every object back, and compare it. (Where nothing else that the store says proves an
#: object, it is read back in any case.)
S3_READ_BACK = False
#: An archive that cannot be read as it comes is kept in WORKSPACE while it is sent to the store,
#: if it has no more bytes than this: 500MB, 2GB.
S3_SPOOL_MAX = "1GB"
#: Delete the files of a dataset in WORKSPACE when they were sent to the store from there, and the
#: store has proved that it has them.
S3_DELETE_LOCAL = False
#: What `scrapy doctor` found of the API, for the spiders to use; empty:
#: WORKSPACE/doctor.json, for a server on this machine WORKSPACE/doctor-loopback.json.
KAGGLE_FINDINGS = ""
