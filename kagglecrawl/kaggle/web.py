"""Calls of Kaggle's site that are no official API: lists of episodes, and their replays.

Nobody has to be known for them, and no credentials are ever sent. Which of them still answer is for
the caller to find out: the service has moved twice (kaggle-facts 4). What is said of each is what
was verified in real replies, or reported on the day that is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scrapy import Request

from kagglecrawl.kaggle.call import Addresses, Rpc, Where


@dataclass(frozen=True)
class WebCall(Rpc):
    """One of them.

    ``path`` is what stands behind the address, with fields in braces; the other fields of a POST
    are its JSON body. ``names`` has each field's name here (as kagglesdk would spell it), its name
    in JSON, and its type; of a list, that of its members is ``int``. ``always`` is in every body.
    ``holds`` names the fields of a reply, lists all of them, of which it has some unless it is
    empty.
    """

    path: str = ""
    http: Literal["GET", "POST"] = "POST"
    host: Literal["web", "content"] = "web"
    names: tuple[tuple[str, str, type], ...] = ()
    always: tuple[tuple[str, str], ...] = ()
    holds: frozenset[str] = frozenset()

    @property
    def where(self) -> Where:
        """Whom it asks."""
        return self.host

    def address(self, addresses: Addresses) -> str:
        """The first argument of ``request``: that of these addresses at which it asks."""
        return addresses.web_url if self.host == "web" else addresses.content_url

    def is_reply(self, payload: Mapping[str, Any]) -> bool:
        """Does this JSON object have the shape of this call's reply? In 2020 it was inside of
        ``{"result": …, "wasSuccessful": true}``; since then fields that are empty are left out."""
        if self.replay:
            return super().is_reply(payload)
        wrapped = payload.keys() & {"result", "wasSuccessful"}
        found = payload.get("result") or {} if wrapped else payload
        if not isinstance(found, dict):
            return False
        if found and not found.keys() & self.holds:
            return False  # {} is a list without rows; {"status": "ok"} is something else
        return all(isinstance(found.get(name) or [], list) for name in self.holds)

    def body(self, **fields: Any) -> dict[str, Any]:
        """The JSON body for these fields; what is in the path is not in it.

        Raises ``ValueError`` for a field or a type that the call does not have.
        """
        body = dict[str, Any](self.always)
        for name, value in self._checked(fields).items():
            if f"{{{name}}}" not in self.path:
                body[self._named[name][0]] = value
        return body

    @property
    def _named(self) -> dict[str, tuple[str, type]]:
        return {name: (written, kind) for name, written, kind in self.names}

    def _checked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        for name, value in given.items():
            if name not in self._named:
                raise ValueError(f"{self.name} has no field {name!r}")
            kind = self._named[name][1]
            members = value if kind is list and type(value) is list else []
            if type(value) is not kind or any(type(each) is not int for each in members):
                kinds = "list of int" if kind is list else kind.__name__
                raise ValueError(f"{self.name}: {name}={value!r} is not of type {kinds}")
        return given

    def request(self, address: str, *, meta: Mapping[str, Any], **kwargs: Any) -> Request:
        """As ``Rpc.request``. Raises ``ValueError`` also where a field of the path is missing."""
        fields = self._checked(kwargs.pop("fields"))
        try:
            url = f"{address}/{self.path.format_map(fields)}"
        except KeyError as error:
            raise ValueError(f"{self.name} needs the field {error}") from None
        headers, body = {"Accept": "application/json"}, b""
        if self.http == "POST":
            headers["Content-Type"] = "application/json"
            body = json.dumps(self.body(**fields)).encode()
        return Request(
            url,
            method=self.http,
            headers=headers,
            body=body,
            meta=self._meta(meta, fields),
            **kwargs,
        )


_EPISODES = frozenset({"episodes", "teams", "submissions"})

#: Of one submission, newest first, at most 1,000; by team it answers 400 (reported, 2026-09).
LIST_EPISODES = WebCall(
    "web",
    "ListEpisodes",
    "",
    "item",
    family="episodes",
    part=True,
    path="api/i/competitions.EpisodeService/ListEpisodes",
    names=(("submission_id", "submissionId", int), ("ids", "ids", list)),
    holds=_EPISODES,
)
#: Also of a team. It answers 400 since 2026-06 (reported); Kaggle's own helper still asks so
#: (verified: kaggle-environments, 2026-08).
LIST_EPISODES_2020 = WebCall(
    "web",
    "ListEpisodes2020",
    "",
    "item",
    family="episodes",
    part=True,
    path="requests/EpisodeService/ListEpisodes?datatype=json",
    names=(
        ("team_id", "TeamId", int),
        ("submission_id", "SubmissionId", int),
        ("ids", "Ids", list),
    ),
    holds=_EPISODES,
)
#: The whole board, with each team's submission (reported, 2026).
WEB_LEADERBOARD = WebCall(
    "web",
    "WebLeaderboard",
    "",
    "item",
    family="episodes",
    part=True,
    path="api/i/competitions.LeaderboardService/GetLeaderboard",
    names=(("competition_id", "competitionId", int), ("leaderboard_mode", "leaderboardMode", str)),
    always=(("leaderboardMode", "LEADERBOARD_MODE_DEFAULT"),),
    holds=frozenset({"teams", "publicLeaderboard", "privateLeaderboard"}),
)
#: 404 where the game is not over yet (reported, 2026-09).
REPLAY_WEB = WebCall(
    "web",
    "ReplayWeb",
    "",
    "item",
    family="replay",
    needs=("replay", dict),
    part=True,
    replay=True,
    path="competitions/episodes/{episode_id}/replay.json",
    http="GET",
    names=(("episode_id", "episodeId", int),),
)
#: A content network, which redirects once (reported, 2026-09).
REPLAY_CONTENT = WebCall(
    "content",
    "ReplayContent",
    "",
    "item",
    family="replay",
    needs=("replay", dict),
    part=True,
    replay=True,
    path="episodes/{episode_id}.json",
    http="GET",
    host="content",
    names=(("episode_id", "episodeId", int),),
)
#: The replay is a text inside of its reply (verified: a real one of 2020).
REPLAY_2020 = WebCall(
    "web",
    "Replay2020",
    "",
    "item",
    family="replay",
    needs=("replay", dict),
    part=True,
    replay=True,
    path="requests/EpisodeService/GetEpisodeReplay",
    names=(("episode_id", "EpisodeId", int),),
)

WEB_CALLS = (
    LIST_EPISODES,
    LIST_EPISODES_2020,
    WEB_LEADERBOARD,
    REPLAY_WEB,
    REPLAY_CONTENT,
    REPLAY_2020,
)
