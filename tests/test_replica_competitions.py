"""`competitions.CompetitionApiService` over HTTP: what is listed, told, brought, refused."""

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.replica_client import Answer, call, fetch, named

SERVICE = "competitions.CompetitionApiService"
EVERYTHING = {"group": "COMPETITION_LIST_TAB_EVERYTHING"}
WORLD = World(scale=None, competition_count=60)


@pytest.fixture(scope="module")
def shared() -> Iterator[Replica]:
    with Replica(WORLD) as replica:
        yield replica


@pytest.fixture
def replica(shared: Replica) -> Replica:
    shared.reset_stats()
    return shared


def ask(replica: Replica, method: str, body: object = None, **more: Any) -> Answer:
    return call(replica, method, body, service=SERVICE, **more)


def of(contest: CompetitionTruth) -> dict[str, str]:
    return {"competitionName": contest.slug}


def slugs(answer: Answer) -> list[str]:
    """The slugs of a list's rows, whose `ref` is an address."""
    assert answer.status == 200, answer.body
    return [row["ref"].rpartition("/")[2] for row in answer.json.get("competitions", [])]


def listed(replica: Replica, **query: object) -> list[str]:
    """The slugs of all pages of a list, page by page."""
    found: list[str] = []
    for page in range(1, 10):
        rows = slugs(ask(replica, "ListCompetitions", {**EVERYTHING, **query, "page": page}))
        found += rows
        if len(rows) < 20:
            return found
    raise AssertionError("the list has no end")


def unzipped(data: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = archive.namelist()
        return name, archive.read(name)


# -- lists -----------------------------------------------------------------------------------------


def test_every_competition_is_listed_once_in_twenties(replica: Replica) -> None:
    found = listed(replica)
    assert sorted(found) == sorted(each.slug for each in WORLD.public_competitions())
    assert len(found) == 59  # one is deleted
    by_size = ask(replica, "ListCompetitions", {**EVERYTHING, "page": 1, "pageSize": 100})
    assert slugs(by_size) == found[:20]
    assert "nextPageToken" not in by_size.json
    assert ask(replica, "ListCompetitions", {**EVERYTHING, "page": 4}).json == {}


def test_the_general_list_has_the_open_ones(replica: Replica) -> None:
    expected = {each.slug for each in WORLD.public_competitions() if each.open}
    assert set(slugs(ask(replica, "ListCompetitions"))) == expected
    assert 5 <= len(expected) < 20
    community = slugs(ask(replica, "ListCompetitions", {"group": 2}))
    assert set(community) <= {c.slug for c in WORLD.competitions if c.category == "Community"}
    assert community
    assert ask(replica, "ListCompetitions", {"group": "COMPETITION_LIST_TAB_ENTERED"}).json == {}


def test_a_row_says_what_is_true(replica: Replica) -> None:
    rows = ask(replica, "ListCompetitions", EVERYTHING).json["competitions"]
    for row in rows:
        contest = WORLD.competition(row["ref"].rpartition("/")[2])
        assert contest is not None
        assert row["ref"] == row["url"] == f"https://www.kaggle.com/competitions/{contest.slug}"
        assert (row["id"], row["title"]) == (contest.id, contest.title)
        assert row.get("description", "") == contest.subtitle
        assert row["category"] == contest.category
        assert datetime.fromisoformat(row["deadline"]) == contest.deadline
        assert datetime.fromisoformat(row["enabledDate"]) == contest.enabled
        assert row.get("teamCount", 0) == contest.teams
        alone = ask(replica, "GetCompetition", of(contest))
        assert alone.json == row


def test_lists_are_sorted_and_filtered(replica: Replica) -> None:
    public = WORLD.public_competitions()
    by_teams = listed(replica, sortBy="COMPETITION_SORT_BY_NUMBER_OF_TEAMS")
    expected = sorted(public, key=lambda each: (each.teams, each.id), reverse=True)
    assert by_teams == [each.slug for each in expected]
    early = listed(replica, sortBy="COMPETITION_SORT_BY_EARLIEST_DEADLINE")
    assert early[0] == min(public, key=lambda each: each.deadline).slug
    found = listed(replica, search="WHALE")
    assert found
    assert set(found) == {each.slug for each in public if "whale" in each.title.lower()}
    started = listed(replica, category="HOST_SEGMENT_GETTING_STARTED")
    assert started == [each.slug for each in public if each.category == "Getting Started"]


def test_lists_page_by_token_where_that_is_the_behaviour() -> None:
    with Replica(WORLD, behaviour=Behaviour("token", max_page_size=50)) as replica:
        first = ask(replica, "ListCompetitions", {**EVERYTHING, "pageSize": 100})
        token = first.json["nextPageToken"]
        rest = ask(replica, "ListCompetitions", {**EVERYTHING, "pageSize": 100, "pageToken": token})
        other = ask(replica, "ListCompetitions", {"pageToken": token})
        assert (len(slugs(first)), len(slugs(rest))) == (50, 9)
        assert sorted(slugs(first) + slugs(rest)) == sorted(listed(replica))
        assert other.status == 400  # a token of another list


@pytest.mark.parametrize(
    "method", ["ListCompetitions", "ListCompetitionPages", "DownloadLeaderboard"]
)
def test_nobody_gets_a_401(replica: Replica, method: str) -> None:
    answer = ask(replica, method, headers={})
    assert (answer.status, answer.json["error"]["code"]) == (401, 401)


# -- pages -----------------------------------------------------------------------------------------


def test_pages_are_told_as_they_were_written(replica: Replica) -> None:
    names = set()
    for contest in WORLD.public_competitions():
        found = ask(replica, "ListCompetitionPages", of(contest)).json.get("pages", [])
        told = [(page["name"], page["content"], page.get("mimeType", "")) for page in found]
        assert told == [(page.name, page.content, page.mime_type) for page in contest.pages]
        by_name = {page["name"].lower(): page["content"] for page in found}
        names |= {page["name"] for page in found}
        if found and contest.description:
            assert by_name["description"] == contest.description.source
        if found and contest.evaluation:
            assert by_name["evaluation"] == contest.evaluation.source
    assert {"description", "Description", "rules", "foundational-rules", "Timeline"} <= names
    assert "draft" not in names
    assert ask(replica, "ListCompetitionPages", of(WORLD.competitions[19])).json == {}


def test_one_page_can_be_asked_for(replica: Replica) -> None:
    contest = WORLD.competitions[0]
    assert contest.evaluation is not None
    body = {**of(contest), "pageName": "evaluation"}
    (page,) = ask(replica, "ListCompetitionPages", body).json["pages"]
    assert page["content"] == contest.evaluation.source
    assert replica.stats()["requests_by_key"]["ListCompetitionPages"] == {
        f"{contest.slug}/evaluation": 1
    }


def test_what_is_deleted_or_unknown_is_not_found(replica: Replica) -> None:
    (deleted,) = (each for each in WORLD.competitions if each.state == "deleted")
    assert deleted in WORLD.meta_competitions()
    for name in (deleted.slug, "no-such-one", WORLD.competitions[1].slug.lower()):
        for method in ("GetCompetition", "ListCompetitionPages", "DownloadLeaderboard"):
            assert ask(replica, method, {"competitionName": name}).status == 404


# -- leaderboards ----------------------------------------------------------------------------------


def test_boards_come_as_zips_or_with_their_errors(replica: Replica) -> None:
    answers: set[object] = set()
    for contest in WORLD.public_competitions():
        answer = ask(replica, "DownloadLeaderboard", of(contest))
        answers.add(contest.answer)
        match contest.answer:
            case "board":
                name, content = unzipped(answer.body)
                assert name.startswith(f"{contest.slug}-publicleaderboard-20")
                assert content == contest.board.csv
                assert answer.headers.get_content_type() == "application/zip"
            case "empty":
                assert (answer.status, answer.body) == (200, b"")
            case status:
                assert answer.status == answer.json["code"] == status
    assert answers == {"board", "empty", 401, 403, 404}
    delivered = replica.stats()["delivered"]["DownloadLeaderboard"]
    assert delivered == sum(c.answer in ("board", "empty") for c in WORLD.public_competitions())


def test_boards_come_from_storage_where_that_is_the_behaviour() -> None:
    contest, empty = WORLD.competitions[8], WORLD.competitions[6]
    with Replica(WORLD, behaviour=Behaviour(leaderboard="redirect")) as replica:
        found = ask(replica, "DownloadLeaderboard", of(contest))
        assert (found.status, found.body) == (302, b"")
        location = found.headers["Location"]
        assert fetch(location).body == contest.content
        half = fetch(location, headers={"Range": "bytes=100-"})
        assert (half.status, half.body) == (206, contest.content[100:])
        assert fetch(location.replace("X-Goog-Expires=2", "X-Goog-Expires=9")).status == 403
        nothing = ask(replica, "DownloadLeaderboard", of(empty)).headers["Location"]
        assert fetch(nothing).body == b""
        assert contest.board_key in replica.stats()["storage_bytes"]
        later = WORLD.moved_on(1)
        moved = later.competition(contest.slug)
        assert moved is not None
        assert moved.board_version == 2
        replica.move(later)
        assert fetch(location).body == contest.content
        now = ask(replica, "DownloadLeaderboard", of(contest)).headers["Location"]
        assert fetch(now).body == moved.content != contest.content


def test_the_paged_board_is_the_same_board_without_ranks(replica: Replica) -> None:
    for contest in (WORLD.competitions[8], WORLD.competitions[15]):
        rows: list[dict[str, Any]] = []
        token = None
        while token != "":
            body = {**of(contest), "pageSize": 500, "pageToken": token}
            answer = ask(replica, "GetLeaderboard", body).json
            rows += answer["submissions"]
            token = answer.get("nextPageToken", "")
        assert [(r["teamId"], r.get("teamName", ""), r["score"]) for r in rows] == [
            (each.team_id, each.team, each.score) for each in contest.board.standings
        ]
        assert all("rank" not in row for row in rows)
    assert len(ask(replica, "GetLeaderboard", of(WORLD.competitions[2])).json["submissions"]) == 20
    assert ask(replica, "GetLeaderboard", of(WORLD.competitions[16])).json == {}
    assert ask(replica, "GetLeaderboard", of(WORLD.competitions[7])).status == 403


def test_faults_meet_boards_as_well() -> None:
    contest = WORLD.competitions[8]
    rules = [
        Rule(Fault("status", 503), "DownloadLeaderboard", contest.slug, (1,)),
        Rule(Fault("damaged"), "DownloadLeaderboard", contest.slug, (1,)),
    ]
    faults = Faults.script(rules)
    faults.odd = "1"  # what is odd but legal is of JSON alone
    with Replica(WORLD, faults=faults) as replica:
        assert ask(replica, "DownloadLeaderboard", of(contest)).status == 503
        damaged = ask(replica, "DownloadLeaderboard", of(contest))
        assert damaged.status == 200
        with pytest.raises(zipfile.BadZipFile):
            unzipped(damaged.body)
        assert ask(replica, "DownloadLeaderboard", of(contest)).body == contest.content
        rows = ask(replica, "ListCompetitions", EVERYTHING).json["competitions"]
        assert len(rows) == 20
        odd = [row["enabledDate"] for row in rows if len(row["enabledDate"]) != 24]
        assert odd  # whole seconds without a fraction
    assert replica.stats()["faults"] == {"503": 1, "damaged": 1}


# -- Meta Kaggle -----------------------------------------------------------------------------------


def _table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_meta_kaggle_is_a_dataset_that_no_list_has(replica: Replica) -> None:
    ref = "kaggle/meta-kaggle"
    told = call(replica, "GetDataset", named(ref)).json
    assert (told["ref"], told["currentVersionNumber"]) == (ref, 1819)
    assert call(replica, "ListDatasets").json == {}
    body = {**named(ref), "fileName": "Competitions.csv"}
    location = call(replica, "DownloadDataset", body).headers["Location"]
    stored = fetch(location)
    assert {
        part.partition("=")[0].strip() for part in stored.headers["x-goog-hash"].split(",")
    } == {
        "crc32c",
        "md5",
    }
    assert fetch(location, headers={"Range": "bytes=5000-5999"}).body == stored.body[5000:6000]
    rows = _table(stored.body)
    assert [row["Slug"] for row in rows] == [each.slug for each in WORLD.meta_competitions()]
    empty = {**named(ref), "fileName": "KernelVotes.csv"}
    assert fetch(call(replica, "DownloadDataset", empty).headers["Location"]).body == b""


def test_meta_kaggle_gets_a_version_with_every_step_and_may_come_zipped() -> None:
    later = WORLD.moved_on(2)
    with Replica(later, behaviour=Behaviour(zipped_files=True)) as replica:
        told = call(replica, "GetDataset", named("kaggle/meta-kaggle")).json
        assert told["currentVersionNumber"] == 1821
        for number, world in ((1819, WORLD), (1821, later)):
            body = {
                **named("kaggle/meta-kaggle"),
                "fileName": "Competitions.csv",
                "datasetVersionNumber": number,
            }
            location = call(replica, "DownloadDataset", body).headers["Location"]
            assert location.partition("?")[0].endswith("/Competitions.csv.zip")
            name, content = unzipped(fetch(location).body)
            assert name == "Competitions.csv"
            assert world.meta_kaggle is not None
            file = world.meta_kaggle.file(name)
            assert file is not None
            assert content == file.content()
