"""``scrapy sample-meta FROM TO``: a small Meta Kaggle out of a large one.

Reads the tables in the folder FROM (CSV files, zipped or not) and writes small
ones into the folder TO. Records and headers stay byte for byte as they are,
and in their order. Rows still find each other:

================ ==============================================================
of               the sample has
================ ==============================================================
Competitions,    --rows of them, each with the same chance; and so of every
Datasets,        table that belongs to none of the others
Kernels, Models
Teams, Episodes, rows that belong to rows in the sample: at most ten times
DatasetVersions, as many as those, and beside them what rows in the sample mention
…                (such as a dataset's current version)
Users, Forums,   rows that rows in the sample mention, and no others
Tags, …
================ ==============================================================

Where a row is not found in the sample, it may be missing in Meta Kaggle as
well; there that is common. The same FROM, options and seed give the same files.

Each table is read once; a table of gigabytes takes a minute for every three or
four of them. --tables leaves out what you do not need.

==== =========================================================================
code meaning
==== =========================================================================
0    the sample is there
1    a table could not be written
2    wrong usage, or a table that cannot be read
3    interrupted; tables that were finished stay
==== =========================================================================
"""

# The file has a name that cannot be imported by a statement, since Scrapy names a command after it.

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl.commands.crawl import FAILED, STOPPED, USAGE
from kagglecrawl.commands.tables import TableHelpFormatter
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.metakaggle.folder import tables
from kagglecrawl.metakaggle.sample import ORDER, Made, Sampler, in_order
from kagglecrawl.metakaggle.table import TableRefused


class Command(ScrapyCommand):
    """The command."""

    requires_project = True
    requires_crawler_process = False
    default_settings = {"LOG_ENABLED": False}

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Make a small Meta Kaggle out of a large one"

    def long_desc(self) -> str:
        """What the help says first."""
        return "Makes a small Meta Kaggle out of a large one, whose rows still find each other."

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options] FROM TO"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """What is drawn, and from what."""
        super().add_options(parser)
        add = parser.add_argument_group("Of sample-meta").add_argument
        add(
            "--rows",
            metavar="N",
            default="20",
            help="rows to draw of a table without parents (20)",
        )
        add("--seed", metavar="S", default="1", help="another seed draws other rows (1)")
        add("--tables", metavar="A,B", default="", help="these alone (all that FROM has)")
        add("--slugs", metavar="a,b", default="", help="competitions that must be among them")
        add("--overwrite", action="store_true", help="replace tables that TO has")
        parser.formatter_class = TableHelpFormatter
        parser.epilog = (__doc__ or "").partition("\n\n")[2]

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what cannot be meant, in one sentence."""
        try:
            super().process_options(args, opts)
            _check(args, opts)
        except UsageError as error:
            _say(str(error))
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Make table after table."""
        source, target = map(Path, args)
        try:
            target.mkdir(parents=True, exist_ok=True)
            sampler = Sampler(
                source, target, rows=opts.rows, seed=opts.seed, slugs=opts.slugs, tell=_say
            )
            for name in opts.tables:
                print(_told(sampler.make(name)), flush=True)
        except TableRefused as error:
            _say(str(error))
            self.exitcode = USAGE
        except OSError as error:
            _say(f"{target} cannot be written: {error.strerror or error}")
            self.exitcode = FAILED
        except KeyboardInterrupt:
            self.exitcode = STOPPED


def _check(args: list[str], opts: argparse.Namespace) -> None:
    """Put into ``opts`` what its texts mean. Raises ``UsageError``."""
    if options := [arg for arg in args if arg.startswith("-")]:
        raise UsageError(f"option {options[0]} is not known: see `scrapy sample-meta -h`")
    if len(args) != 2:
        raise UsageError(
            "it takes two folders, the one with Meta Kaggle and the one for the sample: "
            "scrapy sample-meta FROM TO"
        )
    source, target = map(Path, args)
    opts.rows = _number("--rows", opts.rows, least=0)
    opts.seed = _number("--seed", opts.seed, least=None)
    opts.slugs = _names(opts.slugs)
    wanted = _names(opts.tables)
    try:
        there = tables(source)
        if target.exists() and target.samefile(source):
            raise UsageError(f"{target} is where Meta Kaggle is: name another one for the sample")
        if target.exists() and not target.is_dir():
            raise UsageError(f"{target} is no folder: name another one for the sample")
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}: name the folder") from None
    if not there:
        raise UsageError(f"{source} has no tables (Competitions.csv, …): name the folder that has")
    if absent := [name for name in wanted if name not in there]:
        raise UsageError(f"{source} has no table {', '.join(absent)}; it has {', '.join(there)}")
    if not wanted and (absent := [name for name in ORDER if name not in there]):
        _say(f"{source} has no {', '.join(absent)}")
    opts.tables = in_order(wanted or there)
    if opts.slugs and "Competitions" not in opts.tables:
        raise UsageError("--slugs chooses competitions, and Competitions is not among the tables")
    files = [f"{name}.csv" for name in opts.tables]
    taken = [name for name in files if (target / name).exists()]
    if taken and not opts.overwrite:
        raise UsageError(
            f"{target} has {', '.join(taken)} already: name another folder, or add --overwrite"
        )


def _number(option: str, text: str, *, least: int | None) -> int:
    try:
        number = int(text)
        if least is None or number >= least:
            return number
    except ValueError:
        pass
    kind = "a whole number" if least is None else f"a whole number from {least} on"
    raise UsageError(f"{option} {text!a} is not {kind}")


def _names(text: str) -> list[str]:
    """The names of a list, each once."""
    return [*dict.fromkeys(name.strip() for name in text.split(",") if name.strip())]


def _told(made: Made) -> str:
    if not made.read:
        return f"{made.name}: is empty"
    broken = f", {made.broken:,} broken ones left out" if made.broken else ""
    return f"{made.name}: {made.rows:,} of {made.read:,} rows{broken}"


def _say(text: str) -> None:
    print("scrapy sample-meta:", " ".join(clean(text).split()), file=sys.stderr)
