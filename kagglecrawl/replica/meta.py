"""Meta Kaggle: tables of a world's competitions, as the dataset `kaggle/meta-kaggle` has them."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, Literal

from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.league import League, LeagueAgent, LeagueEpisode
from kagglecrawl.replica.made import LICENCES, TAGS
from kagglecrawl.replica.truth import DatasetTruth

OWNER, SLUG = "kaggle", "meta-kaggle"
ID = 9
"""The dataset's; all others begin at 1000."""
FIRST_VERSION = 1819
"""Of the world that has not moved; one more for each step."""
Schema = Literal["2025", "2022"]

_HEAD = "Id Slug Title Subtitle HostSegmentTitle ForumId OrganizationId"
_DATES = (
    "EnabledDate DeadlineDate ProhibitNewEntrantsDeadlineDate TeamMergerDeadlineDate "
    "TeamModelDeadlineDate ModelSubmissionDeadlineDate FinalLeaderboardHasBeenVerified HasKernels "
    "OnlyAllowKernelSubmissions HasLeaderboard LeaderboardPercentage"
)
_METRIC = (
    "EvaluationAlgorithmAbbreviation EvaluationAlgorithmName EvaluationAlgorithmDescription "
    "EvaluationAlgorithmIsMax"
)
_LIMITS = "MaxDailySubmissions NumScoredSubmissions MaxTeamSize BanTeamMergers EnableTeamModels"
_HASHES = "EnableSubmissionModelHashes EnableSubmissionModelAttachments"
_PRIZE = "RewardType RewardQuantity NumPrizes UserRankMultiplier CanQualifyTiers"
_TOTALS = "TotalTeams TotalCompetitors TotalSubmissions"
_VALIDATION = "ValidationSetName ValidationSetValue"
_TEXTS = "LicenseName Overview Rules DatasetDescription TotalCompressedBytes TotalUncompressedBytes"

COMPETITIONS: dict[Schema, tuple[str, ...]] = {
    "2025": tuple(
        f"{_HEAD} {_DATES} ScoreTruncationNumDecimals {_METRIC} {_LIMITS} {_PRIZE} {_TOTALS} "
        f"{_TEXTS} {_VALIDATION} {_HASHES} HostName CompetitionTypeId".split()
    ),
    "2022": tuple(
        f"{_HEAD} CompetitionTypeId HostName {_DATES} LeaderboardDisplayFormat {_METRIC} "
        f"{_VALIDATION} {_LIMITS} {_HASHES} {_PRIZE} {_TOTALS}".split()
    ),
}
"""The columns of Competitions.csv in each dump's own order (real-data-quirks 1)."""

_TEAMS = (
    "Id CompetitionId TeamLeaderId TeamName ScoreFirstSubmittedDate LastSubmissionDate "
    "PublicLeaderboardSubmissionId PrivateLeaderboardSubmissionId IsBenchmark Medal MedalAwardDate "
    "PublicLeaderboardRank PrivateLeaderboardRank WriteUpForumTopicId"
)
_SUBMISSIONS = (
    "Id SubmittedUserId TeamId SourceKernelVersionId SubmissionDate ScoreDate IsAfterDeadline "
    "IsSelected PublicScoreLeaderboardDisplay PublicScoreFullPrecision "
    "PrivateScoreLeaderboardDisplay PrivateScoreFullPrecision"
)
_TAGS = "Id ParentTagId Name Slug FullPath Description DatasetCount CompetitionCount KernelCount"
_EPISODES = "Id Type CompetitionId CreateTime EndTime"
_AGENTS = (
    "Id EpisodeId Index Reward State SubmissionId InitialConfidence InitialScore UpdatedConfidence "
    "UpdatedScore"
)
_STRANGERS = 17_592
"""The competition whose episodes lie between a league's: ConnectX, of two players."""
_STRANGE_IDS = 90_000_000
_BLOCK = 16
"""Of so many episodes the first agents come, then the second ones, and so on."""

Row = Sequence[object]


def competitions_csv(
    contests: Iterable[CompetitionTruth], *, schema: Schema = "2025", quoted: bool = True
) -> bytes:
    """Competitions.csv: every value quoted, or only those that must be."""
    columns = COMPETITIONS[schema]
    rows = (_competition(contest) for contest in contests)
    return _table(columns, ([row[name] for name in columns] for row in rows), quoted)


def _competition(contest: CompetitionTruth) -> dict[str, object]:
    kind, amount = contest.reward
    metric = contest.metric
    value: dict[str, object] = dict.fromkeys((*COMPETITIONS["2025"], *COMPETITIONS["2022"]), "")
    value |= {
        "Id": contest.id,
        "Slug": contest.slug,
        "Title": contest.title,
        "Subtitle": contest.subtitle,
        "HostSegmentTitle": contest.category,
        "ForumId": "" if contest.id % 3 else contest.id + 50_000,
        "CompetitionTypeId": 1,
        "EnabledDate": _date(contest.enabled),
        "DeadlineDate": _date(contest.deadline),
        "FinalLeaderboardHasBeenVerified": contest.verified,
        "HasKernels": True,
        "OnlyAllowKernelSubmissions": False,
        "HasLeaderboard": contest.has_leaderboard,
        "LeaderboardPercentage": 30,
        "ScoreTruncationNumDecimals": 5,
        "LeaderboardDisplayFormat": "0.00000",
        "EvaluationAlgorithmAbbreviation": metric.short,
        "EvaluationAlgorithmName": metric.name,
        "EvaluationAlgorithmDescription": f'The "{metric.name}".' if metric.name else "",
        "EvaluationAlgorithmIsMax": "" if metric.is_max is None else metric.is_max,
        "MaxDailySubmissions": 5,
        "NumScoredSubmissions": 2,
        "MaxTeamSize": 5,
        "BanTeamMergers": False,
        "EnableTeamModels": False,
        "EnableSubmissionModelHashes": False,
        "EnableSubmissionModelAttachments": False,
        "RewardType": kind,
        "RewardQuantity": f"{amount}.0000" if amount else "",
        "NumPrizes": 1 if amount else 0,
        "UserRankMultiplier": 1,
        "CanQualifyTiers": False,
        "TotalTeams": contest.teams,
        "TotalCompetitors": contest.teams * 2,
        "TotalSubmissions": contest.submissions,
        "LicenseName": LICENCES[0].listed,
        "Overview": contest.overview,
        "Rules": contest.texts.rules,
        "DatasetDescription": contest.dataset_description,
        "TotalCompressedBytes": contest.id * 1_000,
        "TotalUncompressedBytes": contest.id * 2_000,
    }
    return value


def _date(moment: datetime) -> str:
    return f"{moment:%m/%d/%Y %H:%M:%S}"


def _table(columns: Sequence[str], rows: Iterable[Row], quoted: bool) -> bytes:
    text = io.StringIO(newline="")
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, quoting=quoting, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _competition_tags(contests: Iterable[CompetitionTruth]) -> Iterator[Row]:
    for contest in contests:
        for number, tag in enumerate(contest.tags):
            yield contest.id * 10 + number, contest.id, tag.id


def _tags() -> Iterator[Row]:
    for tag in TAGS:
        counts = (tag.id % 1000, tag.id % 7, tag.id % 5000)
        yield tag.id, "", tag.name, tag.slug, tag.full_path, tag.description, *counts


def _teams(contests: Iterable[CompetitionTruth]) -> Iterator[Row]:
    for contest in contests:
        number = contest.id * 100_000  # of the first submission
        ranked = {team.id: rank for rank, team in enumerate(contest.board.ranked, 1)}
        for team in contest.board.teams:
            number += len(team.tries)
            rank = ranked[team.id]
            first, last = f"{team.tries[0].moment:%m/%d/%Y}", f"{team.last:%m/%d/%Y}"
            best = number - 1
            head = (team.id, contest.id, team.id + 1, team.name, first, last, best, best)
            yield *head, False, "", "", rank, rank, ""


def _submissions(contests: Iterable[CompetitionTruth]) -> Iterator[Row]:
    for contest in contests:
        number = contest.id * 100_000
        for team in contest.board.teams:
            for each in team.tries:
                date = f"{each.moment:%m/%d/%Y}"
                best = each is team.tries[-1]
                scores = (each.score,) * 4
                yield number, team.id + 1, team.id, "", date, "", False, best, *scores
                number += 1


def _episodes(leagues: Iterable[League]) -> Iterator[Row]:
    """Every episode, and after every third one of another competition.

    Whether the real table has those that never started, or have not ended, is unknown.
    """
    for league in leagues:
        for number, each in enumerate(league.episodes.values()):
            end = _date(each.ended) if each.ended else ""
            yield each.id, each.type, each.competition_id, _date(each.created), end
            if number % 3 == 2:
                date = _date(each.created)
                yield _STRANGE_IDS + number, 1, _STRANGERS, date, date


def _agents(leagues: Iterable[League]) -> Iterator[Row]:
    """The agents of all these episodes; those of one do not lie together (real-data-quirks 7)."""
    for league in leagues:
        block: list[tuple[int, LeagueEpisode]] = []
        for number, each in enumerate(league.episodes.values()):
            block.append((number, each))
            if len(block) == _BLOCK:
                yield from _agents_of(block)
                block = []
        yield from _agents_of(block)


def _agents_of(block: Sequence[tuple[int, LeagueEpisode]]) -> Iterator[Row]:
    most = max((len(episode.agents) for _, episode in block), default=0)
    for index in range(most):
        for number, episode in block:
            if index < len(episode.agents):
                yield _agent(episode, episode.agents[index])
            if number % 3 == 2 and index < 2:
                strange = _STRANGE_IDS + number
                scores = ("", "", "", "") if number % 30 == 2 else (20.0, 700.5, 20.0, 701.25)
                yield strange * 2 + index, strange, index, float(index), 2, strange + 5, *scores


def _agent(episode: LeagueEpisode, agent: LeagueAgent) -> Row:
    scores = (
        *(agent.initial_confidence, agent.initial_score),
        *(agent.updated_confidence, agent.updated_score),
    )
    row = (agent.id, episode.id, agent.index, agent.reward, agent.state, agent.submission_id)
    return ["" if each is None else each for each in (*row, *scores)]


def _tables(
    contests: Sequence[CompetitionTruth],
    schema: Schema,
    quoted: bool,
    leagues: Sequence[League] = (),
) -> dict[str, Callable[[], bytes]]:
    """What makes each table, by the file's name."""
    boards = [each for each in contests if each.answer != "empty"]
    return {
        "Competitions.csv": partial(competitions_csv, contests, schema=schema, quoted=quoted),
        "CompetitionTags.csv": lambda: _table(
            ("Id", "CompetitionId", "TagId"), _competition_tags(contests), quoted
        ),
        "Tags.csv": lambda: _table(_TAGS.split(), _tags(), quoted),
        "KernelVotes.csv": bytes,  # it is shipped empty (real-data-quirks 5)
        "Teams.csv": lambda: _table(_TEAMS.split(), _teams(boards), quoted),
        "Submissions.csv": lambda: _table(_SUBMISSIONS.split(), _submissions(boards), quoted),
        "Episodes.csv": lambda: _table(_EPISODES.split(), _episodes(leagues), quoted),
        "EpisodeAgents.csv": lambda: _table(_AGENTS.split(), _agents(leagues), quoted),
    }


def write_tables(
    contests: Iterable[CompetitionTruth],
    folder: Path,
    *,
    schema: Schema = "2025",
    quoted: bool = True,
    zipped: bool = False,
    leagues: Sequence[League] = (),
) -> None:
    """Write the tables into a folder, which is made if it is not there.

    The teams and submissions of leagues are in none of them, and neither are their competitions.

    With `zipped`, each as `Competitions.csv.zip`. Files of these names are replaced. Raises OSError
    if that cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = [each for each in contests if each.in_meta]
    for name, make in _tables(known, schema, quoted, leagues).items():
        (folder / f"{name}.zip").unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)
        if zipped:
            (folder / f"{name}.zip").write_bytes(zip_of(name, make()))
        else:
            (folder / name).write_bytes(make())


def zip_of(name: str, content: bytes) -> bytes:
    """A zip of one file, such as single files may arrive in."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return memory.getvalue()


@dataclass(frozen=True, eq=False)
class MadeFile:
    """A file that is made when it is first asked for, also for its size."""

    name: str
    make: Callable[[], bytes]
    path: None = None

    @cached_property
    def _content(self) -> bytes:
        return self.make()

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._content)

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self._content)

    def content(self) -> bytes:
        """The whole content."""
        return self._content


def meta_kaggle(
    contests: Sequence[CompetitionTruth], moved: int, quoted: bool, older: DatasetTruth | None
) -> DatasetTruth:
    """The dataset of a world that has moved so often. It has no table that takes long to make."""
    known = [each for each in contests if each.in_meta]
    made = _tables(known, "2025", quoted)
    names = ("CompetitionTags.csv", "Competitions.csv", "KernelVotes.csv", "Tags.csv")
    return DatasetTruth(
        id=ID,
        owner=OWNER,
        slug=SLUG,
        title="Meta Kaggle",
        subtitle="Kaggle's public data on competitions, datasets, kernels and more",
        usability=0.7647059,
        last_updated=datetime(2026, 1, 5, tzinfo=UTC) + timedelta(weeks=moved),
        version=FIRST_VERSION + moved,
        licence=LICENCES[7],
        tags=(),
        files=tuple(MadeFile(name, made[name]) for name in names),
        older=older,
    )
