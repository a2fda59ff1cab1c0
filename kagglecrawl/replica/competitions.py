"""`competitions.CompetitionApiService`: lists, pages and leaderboards of competitions."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

from kagglesdk.competitions.types.competition_api_service import (
    ApiCategory,
    ApiCompetition,
    ApiCompetitionPage,
    ApiDownloadLeaderboardRequest,
    ApiGetCompetitionRequest,
    ApiGetLeaderboardRequest,
    ApiGetLeaderboardResponse,
    ApiLeaderboardSubmission,
    ApiListCompetitionPagesRequest,
    ApiListCompetitionPagesResponse,
    ApiListCompetitionsRequest,
    ApiListCompetitionsResponse,
)

from kagglecrawl.replica.boards import Standing
from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.datasets import category
from kagglecrawl.replica.paging import PAGE_SIZE, list_key, list_page, token_page
from kagglecrawl.replica.rpc import Method, Site
from kagglecrawl.replica.wire import Refusal, Reply, encode, wire_time
from kagglecrawl.replica.world import World

SERVICE = "competitions.CompetitionApiService"
ZIP = "application/zip"

Order = Callable[[CompetitionTruth], Any]
_ORDERS: dict[str, Order] = {
    "GROUPED": lambda contest: (contest.open, contest.deadline),
    "BEST": lambda contest: (contest.open, contest.teams),
    "PRIZE": lambda contest: contest.reward[1],
    "EARLIEST_DEADLINE": lambda contest: -contest.deadline.timestamp(),
    "LATEST_DEADLINE": lambda contest: contest.deadline,
    "NUMBER_OF_TEAMS": lambda contest: contest.teams,
    "RELEVANCE": lambda contest: -len(contest.title),
    "RECENTLY_CREATED": lambda contest: contest.enabled,
}


def chosen(world: World, request: ApiListCompetitionsRequest) -> list[CompetitionTruth]:
    """All competitions that the request asks for, in its order, equals by descending id.

    GENERAL are the open ones (reported 2026-10, kaggle-facts 2.1). Nobody has entered, hosted or
    prepared one, so those groups have no rows.
    """
    order = _ORDERS[request.sort_by.name.removeprefix("COMPETITION_SORT_BY_")]
    rows = [each for each in world.public_competitions() if _wanted(each, request)]
    return sorted(rows, key=lambda each: (order(each), each.id), reverse=True)


def _wanted(contest: CompetitionTruth, request: ApiListCompetitionsRequest) -> bool:
    group = request.group.name.removeprefix("COMPETITION_LIST_TAB_")
    in_group = {
        "GENERAL": contest.open,
        "COMMUNITY": contest.category == "Community",
        "EVERYTHING": True,
    }
    segment = request.category.name.removeprefix("HOST_SEGMENT_")
    own = contest.category.upper().replace(" ", "_")
    return (
        in_group.get(group, False)
        and segment in {"UNSPECIFIED", own}
        and request.search.lower() in f"{contest.title} {contest.slug}".lower()
    )


def _list_competitions(site: Site, request: ApiListCompetitionsRequest) -> Reply:
    reply = ApiListCompetitionsResponse()
    rows, reply.next_page_token = list_page(site, chosen(site.world, request), request)
    reply.competitions = [_row(contest) for contest in rows]
    return encode(reply)


def _row(contest: CompetitionTruth) -> ApiCompetition:
    """A row as lists have it, and GetCompetition; `description` is the subtitle."""
    kind, amount = contest.reward
    row = ApiCompetition()
    row.id = contest.id
    row.ref = row.url = contest.ref
    row.title = contest.title
    row.description = contest.subtitle
    row.organization_name = row.host_name = contest.host
    row.category = contest.category
    row.reward = f"{amount:,} Usd" if amount else kind
    row.tags = [category(ApiCategory, tag) for tag in contest.tags]
    row.deadline = wire_time(contest.deadline)
    row.enabled_date = row.date_created = wire_time(contest.enabled)
    row.kernel_count = contest.teams // 3
    row.team_count = contest.teams
    row.max_daily_submissions = 5
    row.max_team_size = 5
    row.evaluation_metric = contest.metric.name
    row.submissions_disabled = not contest.open
    return row


def _readable(site: Site, slug: str) -> CompetitionTruth:
    contest = site.world.competition(slug)
    if contest is None or contest.state == "deleted":
        raise Refusal(404, f"Not found: competition {slug}")
    return contest


def _get_competition(site: Site, request: ApiGetCompetitionRequest) -> Reply:
    return encode(_row(_readable(site, request.competition_name)))


def _list_pages(site: Site, request: ApiListCompetitionPagesRequest) -> Reply:
    """Every published page, or the one that `pageName` names."""
    contest = _readable(site, request.competition_name)
    wanted = request.page_name.lower()
    reply = ApiListCompetitionPagesResponse()
    reply.pages = [
        _page(page.name, page.content, page.mime_type, page.title)
        for page in contest.pages
        if wanted in {"", page.name.lower()}
    ]
    return encode(reply)


def _page(name: str, content: str, mime_type: str, title: str) -> ApiCompetitionPage:
    page = ApiCompetitionPage()
    page.name = name
    page.content = content
    page.mime_type = mime_type
    page.post_title = title
    page.is_published = True
    return page


def _with_board(site: Site, slug: str) -> CompetitionTruth:
    contest = _readable(site, slug)
    match contest.answer:
        case 401:
            raise Refusal(401, "Unauthorized")
        case 403:
            raise Refusal(403, "Permission 'competitions.getLeaderboard' was denied")
        case 404:
            raise Refusal(404, f"Not found: leaderboard of competition {slug}")
    return contest


def _get_leaderboard(site: Site, request: ApiGetLeaderboardRequest) -> Reply:
    """The board by pages of 20, or of `pageSize`: neither ranks nor counts of submissions."""
    contest = _with_board(site, request.competition_name)
    rows = list(contest.board.standings) if contest.answer == "board" else []
    reply = ApiGetLeaderboardResponse()
    of_page, reply.next_page_token = token_page(
        site, rows, contest.slug, request.page_token, request.page_size or PAGE_SIZE
    )
    reply.submissions = [_submission(standing) for standing in of_page]
    return encode(reply)


def _submission(standing: Standing) -> ApiLeaderboardSubmission:
    submission = ApiLeaderboardSubmission()
    submission.team_id = standing.team_id
    submission.team_name = standing.team
    submission.submission_date = wire_time(standing.moment.replace(tzinfo=UTC))
    submission.score = standing.score
    return submission


def _download_leaderboard(site: Site, request: ApiDownloadLeaderboardRequest) -> Reply:
    """The zip itself; or 302 to a signed URL of it, as other downloads have."""
    contest = _with_board(site, request.competition_name)
    if site.behaviour.leaderboard == "redirect":
        location = site.signer.sign(contest.stored_board, None)
        return Reply(302, b"", "text/html; charset=utf-8", {"Location": location})
    name = f"attachment; filename={contest.slug}.zip"
    return Reply(200, contest.content, ZIP, {"Content-Disposition": name})


def _name_key(request: Any) -> str:
    name: str = request.competition_name
    return name


def _pages_key(request: ApiListCompetitionPagesRequest) -> str:
    return "/".join(filter(None, (_name_key(request), request.page_name)))


def _board_key(request: ApiGetLeaderboardRequest) -> str:
    token = f"?token={request.page_token}" if request.page_token else ""
    return f"{_name_key(request)}{token}"


METHODS = (
    Method(
        SERVICE,
        "ListCompetitions",
        ApiListCompetitionsRequest,
        _list_competitions,
        list_key,
        without_credentials=401,
    ),
    *(
        Method(SERVICE, name, request, handle, key, without_credentials=401)
        for name, request, handle, key in (
            ("GetCompetition", ApiGetCompetitionRequest, _get_competition, _name_key),
            ("ListCompetitionPages", ApiListCompetitionPagesRequest, _list_pages, _pages_key),
            ("GetLeaderboard", ApiGetLeaderboardRequest, _get_leaderboard, _board_key),
        )
    ),
    Method(
        SERVICE,
        "DownloadLeaderboard",
        ApiDownloadLeaderboardRequest,
        _download_leaderboard,
        _name_key,
        without_credentials=401,
        family="download",
        stable=False,  # a redirect carries the time, and a whole board is not worth keeping
    ),
)
