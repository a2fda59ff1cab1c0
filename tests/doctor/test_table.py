"""``scrapy doctor``: whether its table is true, and who uses what it found."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl import findings
from kagglecrawl.doctor.probes import LIMIT, planned
from kagglecrawl.doctor.questions import QUESTIONS
from kagglecrawl.kaggle.paging import Cursor
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Crawl, Run, by_ref, record
from tests.doctor.conftest import (
    AGREES,
    COMPLETE,
    CREDENTIALS,
    DATASETS,
    DIFFERS,
    FILES,
    PAGE,
    ROWS,
    TOKEN,
    TOKENS,
    UNKNOWN,
    WRONG,
    Doctor,
    config_of,
    fits,
    saved,
    sent,
    table,
    total,
)

# -- both paging modes, with a right, a wrong and no token -----------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "rows", "token", "found", "says"),
    [
        (
            Behaviour(),
            ("20 rows", DIFFERS),
            ("none, though there are more rows", DIFFERS),
            {"tokens": False, "page_size": None, "page_rows": 20},
            "by page number from the start, 20 rows a request",
        ),
        (
            TOKENS,
            ("100 rows", DIFFERS),
            ("given; next page: 100 new rows", AGREES),
            {"tokens": True, "page_size": 100, "page_rows": 20},
            "by token, 100 rows a request",
        ),
        (
            Behaviour(paging="token"),
            ("200 rows", AGREES),
            ("given; next page: 40 new rows", AGREES),
            {"tokens": True, "page_size": 200, "page_rows": 20},
            "by token, 200 rows a request",
        ),
    ],
)
def test_with_a_right_token_the_table_tells_the_truth(
    doctor: Doctor,
    workspace: Path,
    behaviour: Behaviour,
    rows: tuple[str, str],
    token: tuple[str, str],
    found: dict[str, Any],
    says: str,
) -> None:
    with Replica(World(seed=1), behaviour=behaviour) as replica:
        done = doctor(replica)
        requests, violations = total(replica), replica.stats()["retry_after_violations"]
        agents = replica.stats()["user_agents"]
    assert done.code == COMPLETE, done.log
    assert requests == sent(done) <= planned(official=False) < LIMIT
    assert violations == 0
    assert all(agent.startswith("kagglecrawl/") for agent in agents)
    facts = table(done)
    assert list(facts) == [question.topic for question in QUESTIONS]
    assert facts["Credentials"] == ("accepted", AGREES)
    assert facts[ROWS] == rows
    assert facts[TOKEN] == token
    assert facts[PAGE] == ("20 rows, no token", AGREES)
    slice_token = "a token" if behaviour.paging == "token" else "no token"
    assert facts["ListDatasets, CSV only, pageSize 20"] == (f"20 rows, {slice_token}", AGREES)
    assert facts["ListDatasets, beyond row 10,000"] == ("page 501: 200, no rows", AGREES)
    assert facts["ListDatasets: rows carry"] == ("all of these", AGREES)
    assert facts["ListDatasets: descriptions"] == ("none", AGREES)
    assert facts["GetDatasetMetadata carries"] == ("all of these", AGREES)
    assert facts[FILES][1] == AGREES
    assert facts["DownloadDataset"] == ("302 to 127.0.0.1, signed", DIFFERS)
    assert facts["Error: no such dataset"] == ("404 {code, message}", AGREES)
    told, verdict = facts["The site's own leaderboard (Halite)"]
    assert (told, verdict) == ("24 teams, 24 with a submission", AGREES), told
    assert facts["ListCompetitions, pageSize 200"] == ("6 rows, no token", UNKNOWN)
    assert facts["DownloadLeaderboard"] == ("120 teams", AGREES)
    assert saved(workspace) == {
        "api_url": replica.api_url,
        "lists": {DATASETS: found},
        "metadata_files": None,
    }
    assert says in " ".join(done.log.split())
    assert fits(done)
    assert "ok     credentials      from KAGGLE_API_TOKEN" in done.log
    assert "WRONG" not in done.log
    assert_no_secret(done, workspace, replica.token)


def assert_no_secret(done: Crawl, workspace: Path, *secrets: str) -> None:
    file = workspace / "doctor-loopback.json"
    if file.exists():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    texts = [done.log, file.read_text(encoding="utf-8") if file.exists() else ""]
    for secret in (*secrets, "X-Goog", "Signature="):
        assert not any(secret in each for each in texts)


@pytest.mark.parametrize("behaviour", [Behaviour(), TOKENS])
def test_a_wrong_token_is_said_in_one_sentence(
    doctor: Doctor, workspace: Path, behaviour: Behaviour
) -> None:
    with Replica(World(seed=1), behaviour=behaviour) as replica:
        done = doctor(replica, env={"KAGGLE_API_TOKEN": WRONG})
        requests = replica.stats()["requests"]
    assert done.code == CREDENTIALS
    assert requests == {"ListDatasets": {"401": 1}}
    facts = table(done)
    assert facts.pop("Credentials") == ("refused: 401 {error: {code, message}}", DIFFERS)
    assert {verdict for _, verdict in facts.values()} == {UNKNOWN}
    assert "Kaggle refuses the credentials from KAGGLE_API_TOKEN" in done.log
    assert not (workspace / "doctor-loopback.json").exists()
    assert_no_secret(done, workspace, WRONG)


@pytest.mark.parametrize("behaviour", [Behaviour(), TOKENS])
def test_nobody_in_particular_learns_what_can_be_had(
    doctor: Doctor, workspace: Path, behaviour: Behaviour
) -> None:
    with Replica(World(seed=1), behaviour=behaviour) as replica:
        done = doctor(replica, env={"KAGGLE_API_TOKEN": ""})
        requests, auth = total(replica), replica.stats()["auth"]
        by_method = replica.stats()["requests"]
    assert done.code == CREDENTIALS, "a crawl would end so"
    assert requests == sent(done) <= LIMIT
    assert set(auth) == {"anonymous"}
    assert by_method["GetDatasetMetadata"] == {"403": 2}, "a dataset, and one that is not there"
    assert by_method["ListDatasetFiles"] == {"403": 1}
    facts = table(done)
    assert facts["Credentials"] == ("none found: asked anonymously", UNKNOWN)
    access, verdict = facts["What anonymous users get"]
    assert access == (
        "answered: ListDatasets, DownloadDataset; "
        "refused: GetDatasetMetadata, ListDatasetFiles, ListCompetitions"
    )
    assert verdict == AGREES
    assert facts[FILES] == facts["GetDatasetMetadata carries"] == ("refused (403)", UNKNOWN)
    assert facts[PAGE] == ("20 rows, no token", AGREES)
    assert "It refuses GetDatasetMetadata, ListDatasetFiles" in " ".join(done.log.split())
    assert saved(workspace)["lists"][DATASETS]["tokens"] is (behaviour is TOKENS)
    assert saved(workspace)["metadata_files"] is None


# -- the crawler uses what was found ---------------------------------------------------------------


def test_after_tokens_were_found_the_crawl_asks_the_fewest_pages(
    doctor: Doctor, crawl: Run, workspace: Path
) -> None:
    world = World(seed=3)
    some = next(dataset for dataset in world.public(0.8))
    with Replica(world, behaviour=TOKENS) as replica:
        alone = ("-a", f"user={some.owner}")
        crawl(replica, *alone)
        without = replica.stats()["requests"]["ListDatasets"]
        assert doctor(replica).code == COMPLETE
        replica.reset_stats()
        everything = crawl(replica)
        of_everything = replica.stats()["requests"]["ListDatasets"]
        replica.reset_stats()
        crawl(replica, *alone)
        of_one_owner = replica.stats()["requests"]["ListDatasets"]
        replica.reset_stats()
        crawl(replica, "-a", "pages=3-7", "-a", "min_usability=1")
        of_five_pages = replica.stats()["requests"]["ListDatasets"]
    assert by_ref(everything.rows).keys() == {dataset.ref for dataset in world.public(0.8)}
    assert of_everything == {"200": 3}, "240 rows by 100"
    assert without == {"200": 2}
    assert of_one_owner == {"200": 1}, "a list without a token is over"
    assert of_five_pages == {"200": 2}, "and not one for each of the seeds' pages"
    assert "Using what `scrapy doctor` found" in everything.log


def test_after_page_mode_was_found_the_crawl_begins_in_it(
    doctor: Doctor, crawl: Run, workspace: Path
) -> None:
    world = World(seed=3)
    with Replica(world) as replica:
        assert doctor(replica).code == COMPLETE
        replica.reset_stats()
        done = crawl(replica, "-a", "min_usability=1")
        pages = replica.stats()["requests"]["ListDatasets"]
        found = findings.load(config_of(workspace, replica.api_url)).of(DATASETS)
    assert Cursor.begin(200, found).fields() == {"page": 1, "page_size": 20}
    assert pages == {"200": 12 + 1}
    assert done.stat("kaggle/datasets/discovered") == len(world.datasets)


def test_after_truncated_metadata_was_found_every_file_is_stored(
    doctor: Doctor, crawl: Run, workspace: Path
) -> None:
    world = World(seed=1)
    with Replica(world, behaviour=Behaviour(metadata_files=2)) as replica:
        done = doctor(replica)
        assert saved(workspace)["metadata_files"] == 2
        replica.reset_stats()
        stored = crawl(replica)
        asked = replica.stats()["requests"]["ListDatasetFiles"]
    found, verdict = table(done)[FILES]
    assert re.fullmatch(r"2 of [3-7]", found)
    assert verdict == DIFFERS
    public = world.public(0.8)
    assert by_ref(stored.rows) == {dataset.ref: record(dataset) for dataset in public}
    assert asked == {"200": sum(len(dataset.files) >= 2 for dataset in public)}


def test_metadata_without_files_is_told(doctor: Doctor, workspace: Path) -> None:
    with Replica(World(seed=1), behaviour=Behaviour(metadata_files=0)) as replica:
        done = doctor(replica)
        requests = total(replica)
    assert requests == sent(done) <= planned(official=False)
    assert re.fullmatch(r"0 of \d(; 0 of \d)+", table(done)[FILES][0]), "one may be an exception"
    assert saved(workspace)["metadata_files"] == 0
    assert "as metadata names none" in " ".join(done.log.split())
