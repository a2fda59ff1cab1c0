"""Help whose tables stay as they were written."""

from __future__ import annotations

import argparse

from scrapy.commands import ScrapyHelpFormatter


class TableHelpFormatter(ScrapyHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of a table as they are."""
