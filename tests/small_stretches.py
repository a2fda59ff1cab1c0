"""``scrapy``, but that tables are read three rows at a time: a small one is many requests then."""

import time
from typing import Any

from scrapy.cmdline import execute

from kagglecrawl.metakaggle.table import Batch, Table

if __name__ == "__main__":
    read = Table.batch

    def slowly(self: Table, *args: Any, **kwargs: Any) -> Batch:
        time.sleep(0.03)  # in the thread that reads: so that there is time to kill it
        return read(self, *args, **{**kwargs, "most_rows": 3})

    Table.batch = slowly  # type: ignore[method-assign]
    execute()
