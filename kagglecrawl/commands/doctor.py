"""``scrapy doctor``: checks the set-up, probes the API, and saves what the crawler can use.

==== ==========================================================================================
code meaning
==== ==========================================================================================
0    fine: what a crawl needs is there; what differs from the assumptions is in the table
1    something does not work: it is named
2    wrong usage: an option, a setting or credentials that cannot be used; nothing was asked
3    stopped by Ctrl-C or SIGTERM
4    Kaggle asks to wait: what was found until then is told and saved
5    Kaggle refuses the credentials, or wants some for what a crawl needs
==== ==========================================================================================
"""

from __future__ import annotations

import argparse
import sys

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl.checks import check_types
from kagglecrawl.commands.crawl import USAGE
from kagglecrawl.config import SettingError


class Command(ScrapyCommand):
    """The command."""

    requires_project = True

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Check the set-up and probe Kaggle's API"

    def long_desc(self) -> str:
        """What the help says."""
        from kagglecrawl.doctor.probes import LIMIT

        return (
            f"Checks the set-up, asks the API at most {LIMIT} requests, prints what was found "
            "against what is assumed, and saves what the crawler can use."
        )

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options]"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """One more than Scrapy's."""
        super().add_options(parser)
        parser.add_argument("--no-save", action="store_true", help="print only, and save nothing")

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what is not known, in one sentence."""
        assert self.settings is not None
        # the table says it all; priority 30 is below what is given with -L
        self.settings.set("LOG_LEVEL", "WARNING", priority="spider")
        try:
            super().process_options(args, opts)
            if args:
                raise UsageError(f"{args[0]} is not known: see `scrapy doctor -h`")
            check_types(self.settings)
        except (UsageError, SettingError) as error:
            print("scrapy doctor:", error, file=sys.stderr)
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Examine, ask, tell, save, and set the exit code."""
        # Here, since Scrapy imports every command's module whichever command runs.
        from kagglecrawl.doctor.console import Console

        assert self.settings is not None
        assert self.crawler_process is not None
        self.exitcode = Console(self.settings, self.crawler_process).run(save=not opts.no_save)
