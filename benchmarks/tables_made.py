"""A large table for benchmarks/tables.py: Meta Kaggle's Competitions in its schema of 2025.

No text of Kaggle's is in it, but its shapes are: every cell quoted, Markdown with HTML inside,
quotes, commas, line ends of both kinds within cells, most pages short and some long.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

COLUMNS = (
    *("Id", "Slug", "Title", "Subtitle", "HostSegmentTitle", "ForumId", "OrganizationId"),
    *("EnabledDate", "DeadlineDate", "ProhibitNewEntrantsDeadlineDate", "TeamMergerDeadlineDate"),
    *("TeamModelDeadlineDate", "ModelSubmissionDeadlineDate", "FinalLeaderboardHasBeenVerified"),
    *("HasKernels", "OnlyAllowKernelSubmissions", "HasLeaderboard", "LeaderboardPercentage"),
    *("ScoreTruncationNumDecimals", "EvaluationAlgorithmAbbreviation", "EvaluationAlgorithmName"),
    *("EvaluationAlgorithmDescription", "EvaluationAlgorithmIsMax", "MaxDailySubmissions"),
    *("NumScoredSubmissions", "MaxTeamSize", "BanTeamMergers", "EnableTeamModels", "RewardType"),
    *("RewardQuantity", "NumPrizes", "UserRankMultiplier", "CanQualifyTiers", "TotalTeams"),
    *("TotalCompetitors", "TotalSubmissions", "LicenseName", "Overview", "Rules"),
    *("DatasetDescription", "TotalCompressedBytes", "TotalUncompressedBytes", "ValidationSetName"),
    *("ValidationSetValue", "EnableSubmissionModelHashes", "EnableSubmissionModelAttachments"),
    *("HostName", "CompetitionTypeId"),
)
#: Days over which the rows are spread evenly, in no order, and how many of the last are wanted.
_DAYS, _LAST = 5000, 50
#: A prime that does not divide it, so that every day has its turn.
_STEP = 7919
_FIRST_DAY = date(2010, 1, 1)
#: What a row ends with is drawn beforehand, and used again and again.
_TAILS = 512
#: Rows that are written at once.
_BLOCK = 20_000
_WORDS = (
    *("the", "model", "data", "teams", "score", "must", "predict", "each", "of", "their", "sample"),
    *("is", "weekly", "a", "in", "to", "and", "for", "with", "submission", "hidden", "test", "set"),
    *("files", "metric", "über", "naïve", "数据", "🐝", "log-loss", "\\$100"),
)


@dataclass(frozen=True)
class Made:
    """A table and what is wanted of it."""

    path: Path
    rows: int
    size: int
    """Bytes of the file."""
    since: date
    """Wanted are the rows that were enabled on this day, or later: one of a hundred."""

    def wanted(self) -> Iterator[int]:
        """Their ids, in the table's order."""
        return (n + 1 for n in range(self.rows) if _day(n) >= _DAYS - _LAST)


def make(folder: Path, rows: int, seed: int = 1) -> Made:
    """Write ``Competitions.csv`` with so many rows (at least 100 give one that is wanted) into a
    folder; some 660 bytes a row."""
    dice = random.Random(seed)
    tails = [_tail(dice) for _ in range(_TAILS)]
    days = [
        f'{_FIRST_DAY + timedelta(n):%m/%d/%Y} 07:57:43","'
        f"{_FIRST_DAY + timedelta(n + 90):%m/%d/%Y} 23:59:00"
        for n in range(_DAYS)
    ]
    path = folder / "Competitions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(f'"{name}"' for name in COLUMNS) + "\n")
        for first in range(0, rows, _BLOCK):
            file.write(
                "".join(
                    f'"{n + 1}","competition-{n + 1}","Competition {n + 1}","Predict, no. {n + 1}",'
                    f'"Community","{n}.0","","{days[_day(n)]}",{tails[n % _TAILS]}'
                    for n in range(first, min(rows, first + _BLOCK))
                )
            )
    return Made(path, rows, path.stat().st_size, _FIRST_DAY + timedelta(_DAYS - _LAST))


def _day(n: int) -> int:
    return n * _STEP % _DAYS


def _tail(dice: random.Random) -> str:
    """The cells from the tenth on, and the line's end."""
    long = dice.random() < 1 / 16
    cells = dict.fromkeys(COLUMNS[9:], "") | {
        "FinalLeaderboardHasBeenVerified": "True",
        "HasKernels": "True",
        "OnlyAllowKernelSubmissions": "False",
        "HasLeaderboard": str(dice.random() < 0.9),
        "LeaderboardPercentage": "30",
        "EvaluationAlgorithmIsMax": "True",
        "MaxDailySubmissions": "5",
        "TotalTeams": str(dice.randrange(5000)),
        "Overview": f"# Overview\n\n## Description\n\n{_page(dice, 8 if long else 1)}\n\n"
        f"## Evaluation\n\n{_page(dice, 4 if long else 0)}",
        "Rules": f"# Competition Rules\n\n\r\n\t<!-- Begin -->{_words(dice, 6)}",
        "DatasetDescription": f"# Dataset Description\n\n<p><b>Files</b> {_words(dice, 5)}</p>",
        "TotalCompressedBytes": f"{dice.randrange(10**9)}.0",
    }
    return ",".join('"{}"'.format(text.replace('"', '""')) for text in cells.values()) + "\n"


def _page(dice: random.Random, paragraphs: int) -> str:
    parts = [_words(dice, 8)]
    for _ in range(paragraphs):
        parts.append(
            dice.choice(
                (
                    '<p>{} <a href="/c/some">"here"</a>, {}</p>\r\n',
                    "### {}\n\n- {}\n- `id,score`\n",
                    "{} **bold** {}",
                    "```\nid,score\n1,0.5\n```\n{}\n\n| a | b |\n|---|---|\n| 1 | {} |\n",
                    "<h2>Submission File</h2>\n<pre>{}<br />1,2</pre><div>{}",
                )
            ).format(_words(dice, 8), _words(dice, 24 * min(paragraphs, 2)))
        )
    return "\n\n".join(parts)


def _words(dice: random.Random, most: int) -> str:
    return " ".join(dice.choices(_WORDS, k=dice.randrange(1, most + 1)))
