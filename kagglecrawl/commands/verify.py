"""``scrapy verify``: are the files that were stored still there, and as they were?

It compares the workspace and every bucket that the ledger names with the
ledger, while crawls may be writing, and changes nothing. Of each resource it
takes the files that came last; those that others have overwritten since are
counted and passed over. KEY is a key or a glob such as 'owner/*'; without one
all resources are meant.

Files in the workspace are compared by size. Objects in a bucket are listed,
and compared by size and by the ETag that the store gave when they were proved;
the summary says of how many the size alone is known. With --read-back every
byte is read, and its SHA-256 compared with that of the ledger.

======== =====================================================================
fault    what it means
======== =====================================================================
missing  it is not there; a whole folder is one line
changed  another size, other contents, or no file any more. Another ETag of the
         same size means that the object was stored anew; --read-back says
         whether its contents are the same
extra    the ledger does not have it: put by a crawl that wanted other files
         (only, max_bytes) or by somebody else; or, without KEY, a folder
         beside those of the resources that have files. (Files that only an
         earlier version has are counted, and are no fault.)
unread   it could not be read; the line says why
======== =====================================================================

What a crawl is storing at the same moment may be told as a fault: look again
when it has ended. Page files (meta_data/) and feeds are not in the ledger, so
nothing is said of them. The replays and logs of episodes are looked for where
the settings put them now: in WORKSPACE, or below S3_URI.

Buckets are reached as a crawl reaches them: by S3_URI or CLOUD_CONFIG if they
are set (their endpoint and credentials count for every bucket), else by what
boto3 finds (environment, profiles).

The terminal shows the first faults; --json prints all of them, each as an
object on one line, and then the counts as {"summary": …}.

==== =========================================================================
code meaning
==== =========================================================================
0    all is there
1    faults were found
2    wrong usage, no ledger, or a bucket that cannot be used
3    interrupted
==== =========================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl.commands.crawl import FAILED, STOPPED, USAGE
from kagglecrawl.commands.tables import TableHelpFormatter
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.ledger_look import LedgerRefused, Shelf
from kagglecrawl.units import amount
from kagglecrawl.verify.buckets import Places
from kagglecrawl.verify.faults import Counts, Fault, Findings
from kagglecrawl.verify.run import Look, Wanted

#: Faults that a terminal is shown.
SHOWN = 100
#: Seconds between two lines that say how far it is.
_SAY_EVERY = 10.0


class Command(ScrapyCommand):
    """The command."""

    requires_project = True
    requires_crawler_process = False
    default_settings = {"LOG_ENABLED": False}

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Compare the stored files with the ledger"

    def long_desc(self) -> str:
        """What the help says first."""
        return "Compares the files in the workspace and in buckets with the ledger."

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options] [KEY ...]"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """What is meant, and how it is told."""
        super().add_options(parser)
        group = parser.add_argument_group("Of verify")
        group.add_argument("--read-back", action="store_true", help="read every byte")
        group.add_argument("--spider", metavar="NAME", default="", help="its resources alone")
        group.add_argument("--json", action="store_true", help="print JSON lines")
        parser.formatter_class = TableHelpFormatter
        parser.epilog = (__doc__ or "").partition("\n\n")[2]

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what cannot be meant, in one sentence."""
        try:
            super().process_options(args, opts)
            if options := [arg for arg in args if arg.startswith("-")]:
                raise UsageError(f"option {options[0]} is not known: see `scrapy verify -h`")
            assert self.settings is not None
            opts.config = KaggleConfig.from_settings(self.settings)
        except (UsageError, SettingError) as error:
            _say(str(error))
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Look, and tell."""
        config: KaggleConfig = opts.config
        teller = _Teller(as_json=opts.json)
        findings = Findings(teller.tell)
        assert self.settings is not None
        places = Places(self.settings, config.destination, config.workspace, config.uploads)
        try:
            with Shelf(config.ledger) as shelf:
                tick = partial(teller.progress, findings)
                look = Look(
                    shelf,
                    places.of,
                    findings,
                    tick,
                    read_back=opts.read_back,
                    output=config.output,
                )
                if not look.run(Wanted(opts.spider, args)) and (args or opts.spider):
                    raise UsageError(_nothing(args, opts))
            teller.end(findings.counts)
            self.exitcode = FAILED if findings.counts.faults.total() else 0
            sys.stdout.flush()
        except (LedgerRefused, KaggleError, SettingError, UsageError) as error:
            findings.close()
            _say(str(error))
            self.exitcode = USAGE
        except BrokenPipeError:
            # Whoever read has enough; what is left in the buffer goes nowhere.
            findings.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            findings.close()
            self.exitcode = STOPPED
        finally:
            places.close()


def _nothing(args: list[str], opts: argparse.Namespace) -> str:
    which = " ".join([*([f"--spider {opts.spider}"] if opts.spider else []), *args])
    return f"the ledger {opts.config.ledger} has no files of {which}: see `scrapy ledger list`"


class _Teller:
    """Says what is found, and how far it is."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told = 0
        self._said = time.monotonic()

    def tell(self, fault: Fault) -> None:
        """One fault, as one line."""
        self._told += 1
        if self._as_json:
            print(json.dumps(fault.as_object()))
        elif self._told <= SHOWN:
            _print(fault.as_text())

    def end(self, counts: Counts) -> None:
        """The counts."""
        if self._as_json:
            print(json.dumps({"summary": counts.as_object()}))
            return
        if self._told > SHOWN:
            _print(f"… and {self._told - SHOWN:,} more: --json prints all of them")
        _print(counts.as_text())

    def progress(self, findings: Findings) -> None:
        """Each ten seconds a line."""
        if time.monotonic() - self._said >= _SAY_EVERY:
            self._said = time.monotonic()
            read = f", {amount(findings.read)} read" if findings.read else ""
            _say(f"{findings.looked:,} files so far{read}, {self._told:,} faults")


def _say(text: str) -> None:
    print("scrapy verify:", " ".join(clean(text).split()), file=sys.stderr)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))
