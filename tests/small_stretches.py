"""``scrapy``, but that tables are read three rows at a time: a small one is many requests then."""

from functools import partialmethod

from scrapy.cmdline import execute

from kagglecrawl.metakaggle.table import Table

if __name__ == "__main__":
    Table.batch = partialmethod(Table.batch, most_rows=3)  # type: ignore[assignment]
    execute()
