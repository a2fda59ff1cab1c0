"""Episodes from Meta Kaggle's tables, without a request: Episodes joined with EpisodeAgents.

The agents of an episode do not lie together in their table, and a competition may have millions of
episodes. So what is wanted is gathered in the job's file, stretch by stretch (state/gather.py),
weighed when both tables are over, and handed on best first, piece by piece. Each step is a request
that asks nobody, and counts as every request does: kill and resume lose and double nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scrapy import Request
from scrapy.http import Response

from kagglecrawl.kaggle import lenient
from kagglecrawl.kaggle.episodes import Agent, EpisodeRow, agent_state, episode_type
from kagglecrawl.metakaggle import cells
from kagglecrawl.metakaggle.ids import Ids
from kagglecrawl.metakaggle.table import Row, TableRefused
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.remembering import LEDGER_SLOT
from kagglecrawl.spiders.tables import TableSpider
from kagglecrawl.state.gather import Part, Whole

#: Rows of a stretch: they are small, and a request for 500 costs as much as reading them.
STRETCH = 5000
#: Episodes that one request weighs, hands on, or drops, at the most.
WEIGHED, HANDED, FORGOTTEN = 5000, 500, 50_000
#: What is kept of a row as it is, in this order; ids, index and score have columns of their own.
_OF_EPISODE = ("Type", "CreateTime", "EndTime")
_OF_AGENT = (
    *("Reward", "State", "SubmissionId"),
    *("InitialConfidence", "InitialScore", "UpdatedConfidence"),
)
_TAB = "\t"
_ASKS_NOBODY = {
    "family": "",
    "download_slot": LEDGER_SLOT,
    "autothrottle_dont_adjust_delay": True,
    "dont_cache": True,
}


class EpisodeTables(TableSpider):
    """A spider that finds a competition's episodes in Meta Kaggle.

    Stats: ``kaggle/meta/episodes`` that the competition has, of them ``…/below_watermark``,
    ``…/beyond_most`` and ``…/listed``; ``…/unread/Episodes`` and ``…/unread/EpisodeAgents``, rows
    that make no sense. The account has the same as notes ``meta/…``, over all runs of the job.
    """

    tables = ("Episodes", "EpisodeAgents")
    _slug = _digits = ""
    _competition = 0
    _ids: Ids | None = None

    def episode_tables(
        self,
        number: int | None,
        watermark: float = 0.0,
        *,
        most: int | None = None,
        slug: str = "",
    ) -> Request:
        """The request with which it begins. When the tables are read, ``listed_by_meta`` gets the
        competition's episodes of a priority of at least ``watermark``, best first, ``most`` of them
        (None: all), and then ``meta_is_over`` is called.

        A competition has its ``number``; where that is None, the one with this ``slug`` is looked
        for in the table Competitions. A job gathers the episodes of one competition: raises
        ``ValueError`` if it has begun with another.
        """
        before = self.accounts.gathering.what
        if number is None and before.get("slug") == slug:
            number = before.get("number")
        if before.get("number") not in {None, number}:
            raise ValueError(f"this job gathers the episodes of competition {before['number']}")
        plan = {"number": number, "slug": slug, "watermark": watermark, "most": most}
        self.accounts.gathering.begin(plan)
        if number is not None:
            return self._episodes()
        return self.table(
            "Competitions",
            each="competition_row",
            columns=("Id", "Slug"),
            needs=("Id", "Slug"),
            keep="is_the_competition",
            key="Slug",
            before="before_rows",
            then="competitions_over",
        )

    # -- what the spider does with them -----------------------------------------------------------

    def listed_by_meta(self, rows: list[EpisodeRow]) -> Output:
        """The next best episodes, 500 at the most. Meta Kaggle knows no state of an episode, and of
        its agents no team."""
        raise NotImplementedError

    def meta_is_over(self) -> Output:
        """All were handed on."""
        yield from ()

    def not_in_meta(self, slug: str) -> Output:
        """There is no such competition: that ends the crawl, unless the spider knows better."""
        raise TableRefused(
            f"Meta Kaggle's Competitions.csv has no competition {slug}: correct the name, or fetch "
            "a newer copy"
        )

    # -- which rows are wanted (``is_…`` is called in another thread) ------------------------------

    def before_rows(self) -> None:
        """Note which competition's rows are wanted."""
        plan = self.accounts.gathering.what
        self._slug, self._competition = plan["slug"].casefold(), plan["number"] or 0
        self._digits = str(self._competition)

    def is_the_competition(self, text: str) -> bool:
        """Is this the Slug in its row of Competitions?"""
        return text.strip().casefold() == self._slug

    def is_its_episode(self, text: str) -> bool:
        """Is this the CompetitionId of an episode of its, or one of which nobody can tell?"""
        if text == self._digits:
            return True
        return not text.isdecimal() and cells.integer(text) in {None, self._competition}

    def before_agents(self) -> None:
        """Note whose agents are wanted; they are all known by then."""
        if self._ids is None:  # the first stretch of this run
            self._ids = Ids(self.accounts.gathering.ids())

    def is_its_agent(self, text: str) -> bool:
        """Is this the EpisodeId of an agent of such an episode, or of one of which nobody knows?"""
        plain = len(text) < 19 and text.isdecimal()
        number = int(text) if plain else cells.integer(text)
        assert self._ids is not None
        return number is None or number in self._ids

    # -- gathering --------------------------------------------------------------------------------

    def competition_row(self, row: Row) -> Iterable[Any]:
        """The competition's row of its table."""
        number = cells.integer(row.cells["Id"])
        if number is not None and row.broken != "cells":
            gathering = self.accounts.gathering
            gathering.begin({**gathering.what, "number": number})
        return ()

    def competitions_over(self) -> Output:
        """Its number is known now, or will not be."""
        plan = self.accounts.gathering.what
        if plan["number"] is None:
            yield from self.not_in_meta(plan["slug"])
        else:
            yield self._episodes()

    def _episodes(self) -> Request:
        return self.table(
            "Episodes",
            each="episode_row",
            columns=("Id", "CompetitionId", *_OF_EPISODE),
            needs=("Id", "CompetitionId"),
            keep="is_its_episode",
            key="CompetitionId",
            before="before_rows",
            then="episodes_over",
            most=STRETCH,
        )

    def episode_row(self, row: Row) -> Iterable[Any]:
        """An episode of the competition's, of which there may be more to come."""
        found = row.cells
        number, of = cells.integer(found["Id"]), cells.integer(found["CompetitionId"])
        data = _kept(found, _OF_EPISODE)
        if not number or number < 0 or of is None or data is None or row.broken == "cells":
            self._note("unread/Episodes")
        else:
            self.accounts.gathering.said().wholes.append((number, data))
        return ()

    def episodes_over(self) -> Output:
        """All episodes are known; if there are any, their agents are looked for."""
        gathering = self.accounts.gathering
        if not gathering.said().wholes and next(gathering.ids(), None) is None:
            self.logger.warning(
                "Meta Kaggle's Episodes.csv has no episode of competition %d", self._number()
            )
            yield from self.meta_is_over()
            return
        yield self.table(
            "EpisodeAgents",
            each="agent_row",
            columns=("Id", "EpisodeId", "Index", "UpdatedScore", *_OF_AGENT),
            needs=("Id", "EpisodeId", "Index", "UpdatedScore"),
            keep="is_its_agent",
            key="EpisodeId",
            before="before_agents",
            then="agents_over",
            most=STRETCH,
        )

    def agent_row(self, row: Row) -> Iterable[Any]:
        """An agent of such an episode."""
        found = row.cells
        episode, own = cells.integer(found["EpisodeId"]), cells.integer(found["Id"])
        index, data = cells.integer(found["Index"]), _kept(found, _OF_AGENT)
        if episode is None or own is None or index is None or data is None or row.broken == "cells":
            self._note("unread/EpisodeAgents")
        else:
            score = lenient.number(found, "UpdatedScore")
            part = Part(episode, index, own, score, data)
            self.accounts.gathering.said().parts.append(part)
        return ()

    def agents_over(self) -> Output:
        """Everything is gathered."""
        self._ids = None
        yield self._step("weigh_episodes", last=0)

    # -- handing on -------------------------------------------------------------------------------

    def weigh_episodes(self, response: Response, last: int) -> Output:
        """Give the next episodes their priorities, and drop those that are not wanted."""
        with self.remembering():
            gathering = self.accounts.gathering
            watermark: float = gathering.what["watermark"]
            found, said = gathering.values(last, WEIGHED), gathering.said()
            for number, scores in found.items():
                # as EpisodeRow.priority has it, to the last bit
                priority = sum(scores) / len(scores) if scores else 0.0
                if priority >= watermark:
                    said.weights.append((priority, number))
                else:
                    said.dropped.append(number)
            self._note("episodes", len(found))
            self._note("below_watermark", len(said.dropped))
            if len(found) == WEIGHED:
                yield self._step("weigh_episodes", last=max(found))
            else:
                yield self._step("hand_on", left=gathering.what["most"])

    def hand_on(self, response: Response, left: int | None) -> Output:
        """The best that are left, to the spider."""
        with self.remembering():
            gathering = self.accounts.gathering
            if not self.accounts.count("meta/listed"):
                self._tell()
            limit = HANDED if left is None else min(left, HANDED)
            wholes, said = gathering.heaviest(limit), gathering.said()
            said.dropped.extend(whole.id for whole in wholes)
            self._note("listed", len(wholes))
            if wholes:
                number = self._number()
                yield from self.listed_by_meta([_episode(whole, number) for whole in wholes])
            left = None if left is None else left - len(wholes)
            if len(wholes) == limit and left != 0:
                yield self._step("hand_on", left=left)
                return
            if rest := gathering.count() - len(wholes):
                self._note("beyond_most", rest)
                yield self._step("forget_rest")
            yield from self.meta_is_over()

    def forget_rest(self, response: Response) -> Output:
        """Drop the next of those that are beyond ``most``."""
        last = self.accounts.gathering.last_of(FORGOTTEN)
        if last is not None:
            self.accounts.gathering.said().dropped_to = last
            yield self._step("forget_rest")

    def _tell(self) -> None:
        episodes, below = (self._noted(name) for name in ("episodes", "below_watermark"))
        self.logger.info(
            "Meta Kaggle has %d episodes of competition %d, %d of them of a score of %g or more",
            *(
                episodes,
                self._number(),
                episodes - below,
                self.accounts.gathering.what["watermark"],
            ),
        )

    def _step(self, method: str, **kwargs: Any) -> Request:
        return Request(
            f"data:,{method}",
            callback=getattr(self, method),
            errback=self.failed,
            dont_filter=True,
            meta=dict(_ASKS_NOBODY),
            cb_kwargs=kwargs,
        )

    def _number(self) -> int:
        number: int = self.accounts.gathering.what["number"]
        return number

    def _note(self, name: str, by: int = 1) -> None:
        if by:
            self.accounts.note(f"meta/{name}", by)
            self._count(f"kaggle/meta/{name}", by)

    def _noted(self, name: str) -> int:
        return self.accounts.count(f"meta/{name}")


def _kept(row: dict[str, str], names: tuple[str, ...]) -> str | None:
    """These cells as one text; None where one of them is no cell of such a table."""
    text = _TAB.join([row[name] for name in names])
    return text if text.count(_TAB) == len(names) - 1 else None


def _episode(whole: Whole, competition: int) -> EpisodeRow:
    kind, created, ended = whole.data.split(_TAB)
    return EpisodeRow(
        id=whole.id,
        competition_id=competition,
        type=episode_type(cells.integer(kind)),
        state="",
        create_time=cells.moment(created),
        end_time=cells.moment(ended),
        agents=[_agent(part) for part in whole.parts],
    )


def _agent(part: Part) -> Agent:
    row = dict(zip(_OF_AGENT, part.data.split(_TAB), strict=True))
    return Agent(
        index=part.place,
        submissionId=cells.integer(row["SubmissionId"]) or None,
        teamId=None,
        teamName="",
        reward=lenient.number(row, "Reward"),
        state=agent_state(cells.integer(row["State"])),
        initialScore=lenient.number(row, "InitialScore"),
        initialConfidence=lenient.number(row, "InitialConfidence"),
        updatedScore=part.value,
        updatedConfidence=lenient.number(row, "UpdatedConfidence"),
    )
