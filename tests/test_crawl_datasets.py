"""``scrapy crawl datasets`` over the replica: what is stored, what it costs, how it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import NO_FILES, Run, by_ref, record

MINIMUM = 0.8
TOKENS = Behaviour(paging="token")


def expected(world: World, minimum: float = MINIMUM) -> dict[str, dict[str, Any]]:
    return {dataset.ref: record(dataset) for dataset in world.public(minimum)}


def listed_in_order(replica: Replica) -> list[str]:
    """The refs of the plain list, in the replica's order."""
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

    from kagglecrawl.replica.listing import listing

    return [dataset.ref for dataset in listing(replica.world, ApiListDatasetsRequest())]


@pytest.mark.parametrize(("behaviour", "list_pages"), [(Behaviour(), 12 + 1), (TOKENS, 2)])
def test_every_usable_dataset_once_and_right_for_the_least_requests(
    crawl: Run, behaviour: Behaviour, list_pages: int
) -> None:
    world = World(seed=3)
    with Replica(world, behaviour=behaviour) as replica:
        done = crawl(replica)
        stats = replica.stats()
    assert done.code == 0, done.log
    assert by_ref(done.rows) == expected(world)
    # Page mode has one page more than rows: only an empty page is its end.
    usable = [dataset for dataset in world.datasets if dataset.usability >= MINIMUM]
    assert {name: sum(by.values()) for name, by in stats["requests"].items()} == {
        "ListDatasets": list_pages,
        "GetDatasetMetadata": len(usable),
    }
    assert set(stats["delivered_by_key"]["GetDatasetMetadata"].values()) == {1}
    states = Counter(dataset.state for dataset in usable)
    assert done.stats("kaggle/datasets/") == {
        "discovered": len(world.datasets),
        "stored": states["public"],
        "skipped": len(world.datasets) - states["public"],
        "skipped/usability": len(world.datasets) - len(usable),
        "skipped/not_found": states["deleted"],
        "skipped/forbidden": states["forbidden"],
        "failed": 0,
        "pending": 0,
    }
    assert "requests; 1." in done.log or "requests; 2." in done.log, "requests per record are told"


@pytest.mark.parametrize("behaviour", [Behaviour(), TOKENS])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_harsh_kaggle_costs_no_row(crawl: Run, behaviour: Behaviour, seed: int) -> None:
    world = World(seed=seed)
    faults = Faults.harsh(seed, drip_seconds=0.5)
    with Replica(world, faults=faults, behaviour=behaviour) as replica:
        done = crawl(replica)
        stats = replica.stats()
    assert by_ref(done.rows) == expected(world)
    counts = done.stats("kaggle/datasets/")
    assert counts["discovered"] == sum(
        counts.get(name, 0) for name in ("stored", "skipped", "failed", "pending")
    )
    truth = {dataset.ref for dataset in world.datasets}
    assert counts["discovered"] >= len(truth)
    assert counts.get("failed", 0) == 0, done.log
    assert done.code == 0, done.log
    assert sum(stats["faults"].values()) > 20, "the replica was harsh indeed"
    assert done.stats("kaggle/retries/"), "what was asked again is counted"


def test_pages_mean_the_same_rows_whatever_the_page_size(crawl: Run) -> None:
    with Replica(World(seed=5)) as replica:
        order = listed_in_order(replica)
        by_number = crawl(replica, "-a", "pages=2-4", "-a", "min_usability=0")
        requests = replica.stats()["requests"]
    with Replica(World(seed=5), behaviour=TOKENS) as replica:
        first = crawl(replica, "-a", "pages=1-4", "-a", "min_usability=0")
        by_token = replica.stats()["requests"]
    public = {dataset.ref for dataset in World(seed=5).public()}
    assert set(by_ref(by_number.rows)) == set(order[20:80]) & public
    assert by_number.stat("kaggle/datasets/discovered") == 60
    assert requests["ListDatasets"] == {"200": 3}
    assert set(by_ref(first.rows)) == set(order[:80]) & public
    assert by_token["ListDatasets"] == {"200": 1}


def test_a_sample_is_exactly_as_large_as_asked(crawl: Run) -> None:
    world = World(seed=1)
    with Replica(world) as replica:
        done = crawl(replica, "-a", "sample=45")
        stats = replica.stats()
        usable = [
            ref for ref in listed_in_order(replica)
            if (truth := world.get(*ref.split("/"))) and truth.usability >= MINIMUM
        ]  # fmt: skip
    assert len(done.rows) == 45
    assert done.code == 0, done.log
    lost = sum(stats["requests"]["GetDatasetMetadata"].get(code, 0) for code in ("403", "404"))
    assert lost >= 1, "this world has some to replace"
    assert sum(stats["requests"]["GetDatasetMetadata"].values()) == 45 + lost
    assert set(by_ref(done.rows)) <= set(usable[: 45 + lost])
    assert sum(stats["requests"]["ListDatasets"].values()) < 12, "no page beyond what is needed"
    counts = done.stats("kaggle/datasets/")
    assert counts["discovered"] == counts["stored"] + counts["skipped"]


def test_exactly_these_refs(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=1)
    good = world.public(MINIMUM)[:3]
    gone = next(d for d in world.datasets if d.state == "deleted")
    file = tmp_path / "refs.txt"
    lines = [good[0].ref, "", "# a comment", f"https://www.kaggle.com/datasets/{good[1].ref}"]
    file.write_text("\n".join([*lines, gone.ref, good[0].ref]), encoding="utf-8")
    with Replica(world) as replica:
        from_file = crawl(replica, "-a", f"refs={file}")
        requests = replica.stats()["requests"]
        from_list = crawl(replica, "-a", f"refs={good[2].ref}, {good[0].ref}")
    assert by_ref(from_file.rows) == {d.ref: record(d) for d in good[:2]}
    assert from_file.stats("kaggle/datasets/")["skipped/not_found"] == 1
    assert requests == {
        "GetDataset": {"200": 2, "404": 1},
        "GetDatasetMetadata": {"200": 2},
    }
    assert by_ref(from_list.rows) == {d.ref: record(d) for d in (good[0], good[2])}


def test_filters_reach_kaggle(crawl: Run) -> None:
    world = World(seed=1)
    some = world.public(MINIMUM)[0]
    word = some.title.split()[0]
    with Replica(world) as replica:
        by_user = crawl(replica, "-a", f"user={some.owner}")
        by_size = crawl(
            replica,
            *("-a", "min_size=10KB", "-a", "max_size=20000", "-a", f"search={word}"),
            *("-a", "sort_by=votes"),
        )
    public = world.public(MINIMUM)
    assert set(by_ref(by_user.rows)) == {d.ref for d in public if d.owner == some.owner}
    wanted = [
        d for d in public
        if 10_000 <= d.total_bytes <= 20_000 and word.lower() in d.title.lower()
    ]  # fmt: skip
    assert wanted
    assert set(by_ref(by_size.rows)) == {d.ref for d in wanted}
    votes = [next(d for d in public if d.ref == row["Ref"]).votes for row in by_size.rows]
    # eight requests are under way at once, so rows may be a few places out of order
    assert votes[0] >= votes[-1]


def test_no_minimum_stores_everything_that_can_be_read(crawl: Run) -> None:
    world = World(seed=4)
    with Replica(world) as replica:
        done = crawl(replica, "-a", "min_usability=0")
    assert by_ref(done.rows) == expected(world, 0.0)
    assert any(row["usabilityRating"] == 0.0 for row in done.rows)


def test_kaggles_cap_is_reported_as_the_cap(crawl: Run) -> None:
    with Replica(World(seed=1, scale="large")) as replica:
        done = crawl(replica, "-a", "min_usability=1")
        pages = replica.stats()["requests"]["ListDatasets"]
    assert pages == {"200": 501}
    assert done.stat("kaggle/datasets/discovered") == 10_000
    assert done.stat("kaggle/lists/ListDatasets/ended/cap") == 1
    assert "Kaggle's cap, not its end" in done.log


def test_files_are_asked_for_where_the_metadata_does_not_name_them(crawl: Run) -> None:
    world = World(seed=1, scale="medium")
    many = max(world.public(MINIMUM), key=lambda dataset: len(dataset.files))
    assert len(many.files) > 200
    with Replica(world, behaviour=Behaviour(metadata_files=0)) as replica:
        done = crawl(replica, "-a", f"refs={many.ref}")
        requests = replica.stats()["requests"]
    assert by_ref(done.rows) == {many.ref: record(many)}
    assert requests["ListDatasetFiles"] == {"200": 2}


def test_files_are_asked_for_where_those_named_are_smaller_than_the_dataset(crawl: Run) -> None:
    """Without a doctor's finding: every file is in the record all the same."""
    world = World(seed=1)
    with Replica(world, behaviour=Behaviour(metadata_files=2)) as replica:
        done = crawl(replica, "-a", "pages=1-4")
    truth = expected(world)
    assert len(done.rows) > 20
    assert by_ref(done.rows).items() <= truth.items()


def test_a_sample_that_cannot_be_had_is_told(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "sample=50", "-a", "pages=1")
        nothing = crawl(replica, "-a", "search=no such thing")
    assert f"Only {len(done.rows)} of the 50 asked for" in done.log
    assert "Nothing matches: the list is empty." in nothing.log


def test_the_official_transport_stores_the_same(crawl: Run) -> None:
    world = World(seed=6)
    with Replica(world) as replica:
        done = crawl(replica, "-s", "KAGGLE_TRANSPORT=official", "-a", "sample=20")
        agents = replica.stats()["user_agents"]
    assert done.code == 0, done.log
    truth = expected(world)
    assert {row["Ref"]: row for row in done.rows}.items() <= truth.items()
    assert len(done.rows) == 20
    assert not any(agent.startswith("kagglecrawl") for agent in agents)


def test_one_that_always_fails_is_counted_as_failed(crawl: Run) -> None:
    world = World(seed=1)
    bad = world.public(MINIMUM)[5]
    rule = Rule(Fault("status", status=500), method="GetDatasetMetadata", key=bad.ref)
    with Replica(world, faults=Faults.script([rule])) as replica:
        done = crawl(replica, "-s", "KAGGLE_MAX_ATTEMPTS=3")
        asked = replica.stats()["requests"]["GetDatasetMetadata"]["500"]
    assert done.code == 1
    assert asked == 3
    assert set(by_ref(done.rows)) == set(expected(world)) - {bad.ref}
    assert done.stats("kaggle/datasets/")["failed/server_error"] == 1


def test_a_list_page_that_always_fails_costs_its_own_rows_alone(crawl: Run) -> None:
    rule = Rule(Fault("status", status=503), method="ListDatasets", key="page=4")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = crawl(replica, "-s", "KAGGLE_MAX_ATTEMPTS=2")
        missing = set(listed_in_order(replica)[60:80])
    assert done.code == 1
    assert "1 page of lists was given up" in done.log
    assert done.stat("kaggle/datasets/discovered") == 220
    assert set(by_ref(done.rows)) == set(expected(World(seed=1))) - missing


def test_a_list_that_fails_from_some_page_on_is_given_up_there(crawl: Run) -> None:
    rules = [
        Rule(Fault("status", status=503), method="ListDatasets", key=f"page={page}")
        for page in range(4, 14)
    ]
    with Replica(World(seed=1), faults=Faults.script(rules)) as replica:
        done = crawl(replica, "-s", "KAGGLE_MAX_ATTEMPTS=2")
        asked = replica.stats()["requests"]["ListDatasets"]
    assert done.code == 1
    assert "3 pages of lists were given up" in done.log
    assert asked == {"200": 3, "503": 6}


def test_a_retry_after_is_never_shortened(crawl: Run) -> None:
    world = World(seed=1)
    refs = [dataset.ref for dataset in world.public(MINIMUM)[:4]]
    rules = [
        Rule(Fault("status", status=429, retry_after=1), key=refs[1], arrivals=(1, 2)),
        Rule(Fault("status", status=503, retry_after=1), key=refs[2], arrivals=(1,)),
    ]
    with Replica(world, faults=Faults.script(rules)) as replica:
        done = crawl(
            replica,
            *("-a", f"refs={','.join(refs)}", "-s", "CONCURRENT_REQUESTS=1"),
            *("-s", "KAGGLE_MAX_ATTEMPTS=2"),
        )
    assert done.code == 0, done.log
    assert len(done.rows) == 4
    assert done.stat("kaggle/throttled") >= 2, "a 429 costs no attempt"


def test_nothing_is_sent_while_a_retry_after_runs(crawl: Run) -> None:
    """Not even what was handed out before it came, and waits in the downloader."""
    rule = Rule(
        Fault("status", status=429, retry_after=2), method="GetDatasetMetadata", arrivals=(1,)
    )
    world = World(seed=1)
    ref = world.public(MINIMUM)[12].ref
    with Replica(world, faults=Faults.script([replace(rule, key=ref)])) as replica:
        done = crawl(replica, "-s", "DOWNLOAD_DELAY=0.1", "-a", "sample=40")
        stats = replica.stats()
    assert done.code == 0, done.log
    assert stats["requests"]["GetDatasetMetadata"]["429"] == 1
    assert stats["retry_after_violations"] == 0
    assert done.stat("kaggle/held_back") > 0


def test_a_quota_costs_time_and_no_rows(crawl: Run) -> None:
    world = World(seed=1)
    with Replica(world, quotas=Quotas("api=25/second")) as replica:
        done = crawl(replica, "-a", "pages=1-4")
        stats, listed = replica.stats(), set(listed_in_order(replica)[:80])
    assert done.code == 0, done.log
    right = {ref: row for ref, row in expected(world).items() if ref in listed}
    assert by_ref(done.rows) == right
    assert done.stat("kaggle/throttled") > 0, "the quota was met"
    assert stats["retry_after_violations"] == 0
    assert done.stat("kaggle/requests") == sum(
        sum(counts.values()) for counts in stats["requests"].values()
    )


def test_a_retry_after_beyond_the_limit_ends_the_run_with_its_own_code(crawl: Run) -> None:
    rule = Rule(Fault("status", status=429, retry_after=4000), method="GetDatasetMetadata")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = crawl(replica)
    assert done.code == 4
    assert "longer than KAGGLE_MAX_WAIT" in done.log
    counts = done.stats("kaggle/datasets/")
    assert counts["discovered"] == counts["skipped"] + counts["pending"] > 0


def test_rows_have_a_place_when_nobody_names_one(scrapy: Run, tmp_path: Path) -> None:
    with Replica(World(seed=1)) as replica:
        workspace = tmp_path / "work%place"
        done = scrapy(
            *("crawl", "datasets", "-a", "sample=2", "-s", "DOWNLOAD_DELAY=0", *NO_FILES),
            *("-s", f"WORKSPACE={workspace}"),
            env=replica.crawler_env(),
        )
    assert done.code == 0, done.log
    (file,) = (workspace / "output" / "datasets").iterdir()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 2


def test_an_interrupted_job_goes_on_where_it_was(crawl: Run, tmp_path: Path) -> None:
    world, feed = World(seed=2), tmp_path / "out.jsonl"
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(feed))
    with Replica(world, behaviour=TOKENS) as replica:  # its pages leave many pending
        first = crawl(replica, *job, "-s", "CLOSESPIDER_ITEMCOUNT=30")
        second = crawl(replica, *job)
        sent = sum(sum(by.values()) for by in replica.stats()["requests"].values())
        third = crawl(replica, *job)
        assert sum(sum(by.values()) for by in replica.stats()["requests"].values()) == sent
    assert first.code == 3
    assert first.stat("kaggle/datasets/pending") > 0
    assert "Run the same command again" in first.log
    assert second.code == 0, second.log
    assert by_ref(second.rows) == expected(world)
    assert first.stat("kaggle/datasets/stored") >= 30
    assert second.stat("kaggle/datasets/stored") == len(second.rows)
    counts = second.stats("kaggle/datasets/")
    assert counts["discovered"] == counts["stored"] + counts.get("skipped", 0)
    assert third.code == 0
    assert third.rows == second.rows
    assert third.stats("kaggle/datasets/") == counts
    assert "complete: nothing was left to do" in third.log


def test_arguments_of_schedulers_are_let_through(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "_job=4711", "-a", "sample=1")
    assert done.code == 0
    assert len(done.rows) == 1
