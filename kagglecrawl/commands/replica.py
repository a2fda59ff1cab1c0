"""`scrapy replica`: a Kaggle on loopback, to crawl without the real one."""

import argparse

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl.replica.scales import LEAGUE_TEAMS, SCALES

_SCALES = "240, 2,000 or 12,000 datasets; 60, 400 or 3,000 competitions (default: small)"


class Command(ScrapyCommand):
    """Serve a replica of Kaggle, or run a command against one."""

    requires_project = True
    requires_crawler_process = False
    default_settings = {"LOG_ENABLED": False}

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options] [-- COMMAND ...]"

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Serve a Kaggle on loopback, or run a command against one"

    def long_desc(self) -> str:
        """What the help says."""
        return (
            "Serves a seeded, deterministic Kaggle on 127.0.0.1 until Ctrl-C. With a COMMAND after "
            "--, runs it against a replica of its own, without your Kaggle credentials, and ends "
            "with its exit code."
        )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        super().add_options(parser)
        add = parser.add_argument
        add("--port", type=int, help="0 is any free one (default: 8765; 0 with a COMMAND)")
        add("--seed", type=int, default=1, help="seed of the world and of the faults (default: 1)")
        add("--scale", choices=SCALES, help=_SCALES)
        add(
            "--moved", type=int, default=0, metavar="N", help="the world N weeks later (default: 0)"
        )
        add("--faults", choices=("none", "mild", "harsh"), default="none", help="trouble to make")
        add("--drip-seconds", type=float, default=2.0, help="how long a slow answer takes")
        add("--paging", choices=("page", "token"), default="page", help="how lists page")
        add("--max-page-size", type=int, default=200, help="most rows of a page by token")
        add("--metadata-files", type=int, metavar="N", help="metadata names the first N files only")
        add("--quota", action="append", default=[], metavar="FAMILY=RATES", help="api=10/second,…")
        add(
            "--burst",
            action="append",
            default=[],
            metavar="FAMILY=N:COUNT:S",
            help="after every N requests COUNT answers 429, Retry-After S; api=50:3:1",
        )
        add(
            "--fail",
            action="append",
            default=[],
            metavar="METHOD[:KEY]=STATUS",
            help="what always fails: GetDatasetMetadata=500 (until POST /__faults/repair)",
        )
        add("--url-expires", type=int, metavar="S", help="life of a signed URL")
        add(
            "--folder",
            action="append",
            default=[],
            metavar="DIR[=owner/slug]",
            help="publish a folder; alone unless --scale is given (may be repeated)",
        )
        add("--competitions", type=int, metavar="N", help="how many there are (default: by scale)")
        add(
            "--episodes",
            choices=("2026", "2020"),
            default="2026",
            help="which generation of the EpisodeService answers (default: 2026)",
        )
        add(
            "--league-teams",
            type=int,
            default=LEAGUE_TEAMS,
            metavar="N",
            help=f"teams of the simulation competition halite, by default {LEAGUE_TEAMS}; "
            "the real one had 1,133",
        )
        add(
            "--meta-kaggle",
            metavar="DIR",
            help="write Meta Kaggle's tables there before serving, for -a meta_kaggle=DIR",
        )
        add(
            "--meta-schema",
            choices=("2025", "2022"),
            default="2025",
            help="columns of those tables (default: 2025)",
        )
        add(
            "--leaderboard",
            choices=("zip", "redirect"),
            default="zip",
            help="how boards come: in the answer, or from storage (default: zip)",
        )
        add(
            "--zipped-files",
            action="store_true",
            help="single files of datasets, and --meta-kaggle's, come as NAME.zip",
        )
        add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run")

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Serve until told to stop, or until the command ends."""
        if args or opts.command[:1] not in ([], ["--"]):
            extra = (args or opts.command)[0]
            raise UsageError(f"Not an option: {extra!r} (a command to run goes after --)")
        # Here, since Scrapy imports every command's module whichever command runs.
        from kagglecrawl.replica import console

        try:
            self.exitcode = console.main(opts, opts.command[1:])
        except console.Mistake as mistake:
            raise UsageError(str(mistake)) from None
