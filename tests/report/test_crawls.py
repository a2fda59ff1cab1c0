"""The report of a real crawl, as JSON and in a real browser."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.report import shape
from kagglecrawl.report.page import page as page_of
from kagglecrawl.units import amount
from tests.conftest import QUICK, ROOT, clean_env
from tests.report.test_document import wrong
from tests.report.test_page import hostile
from tests.test_browser import CHROMIUM

in_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
WORLD = World(seed=1)
#: One of those whose metadata is asked for.
WANTED = next(each for each in WORLD.public() if (each.usability or 0) >= 0.8)
#: One 429; each download fails at first, and breaks off in the middle.
TROUBLE = [
    Rule(Fault("status", 429, retry_after=1), "GetDatasetMetadata", WANTED.ref, arrivals=(1,)),
    Rule(Fault("status", 503), "DownloadDataset", arrivals=(1,)),
    Rule(Fault("cut", part=0.5), "storage", arrivals=(1,)),
]


@dataclass
class Crawled:
    """What a crawl has left, and what the replica has counted."""

    code: int
    log: str
    folder: Path
    report: Any
    answers: Counter[str]
    methods: Counter[str]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Crawled:
    """Some datasets with their files; a budget ends it."""
    home = tmp_path_factory.mktemp("report")
    workspace = home / "work space"
    with Replica(WORLD, faults=Faults.script(TROUBLE)) as replica:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "scrapy", "crawl", "datasets", *QUICK),
                *("-O", str(home / "out.jsonl"), "-s", f"WORKSPACE={workspace}"),
                *("-a", "only=*.csv", "-s", "KAGGLE_QUOTAS=api=50/second, 70/day; download="),
                *("-s", "STATS_DUMP=True"),
            ],
            cwd=ROOT,
            env=clean_env(home, **replica.crawler_env()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        tables = replica.stats()["requests"]
    return Crawled(
        done.returncode,
        done.stdout,
        workspace,
        json.loads((workspace / "report.json").read_text(encoding="utf-8")),
        sum((Counter(table) for table in tables.values()), Counter()),
        Counter({method: sum(table.values()) for method, table in tables.items()}),
    )


def test_it_is_what_is_documented(crawled: Crawled) -> None:
    assert list(wrong(crawled.report, shape.Report)) == []
    assert crawled.code == crawled.report["run"]["exit_code"] == 4, crawled.log
    assert crawled.report["run"]["reason"] == "kaggle_quota"
    assert crawled.report["run"]["stopped_because"] in crawled.log
    assert [path.name for path in crawled.folder.glob("report*")] != []
    for name in ("report.json", "report.html"):
        assert stat.S_ISREG((crawled.folder / name).lstat().st_mode)
    assert not list(crawled.folder.glob(".report*"))


def test_its_numbers_are_those_of_kaggle_and_of_the_log(crawled: Crawled) -> None:
    report, requests = crawled.report, crawled.report["requests"]
    assert requests["sent"] == crawled.methods.total()
    assert requests["by_method"] == crawled.methods
    answers = crawled.answers
    # a download is redirected, which is nobody's answer to judge
    assert requests["answers_by_status"].get("429") == answers["429"] > 0
    assert requests["answers_by_status"].get("503") == answers["503"] > 0
    counts = report["counts"]
    names = ("discovered", "stored", "skipped", "failed", "pending")
    said = re.search(
        r"datasets: (\d+) disc\D*(\d+) stored\D*(\d+) sk\D*(\d+) f\D*(\d+)", crawled.log
    )
    assert said is not None
    assert [counts[name] for name in names] == [int(number) for number in said.groups()]
    assert counts["balanced"]
    assert all(counts[name] for name in ("stored", "skipped", "pending"))
    for verdict in ("skipped", "failed"):
        assert sum(row["count"] for row in counts[f"{verdict}_by_reason"]) == counts[verdict]


def test_what_happened_when_is_all_that_happened(crawled: Crawled) -> None:
    report, series = crawled.report, crawled.report["series"]
    assert len({len(values) for values in (series["records"], series["bytes"])}) == 1
    assert sum(series["records"]) == pytest.approx(report["counts"]["stored"], abs=0.1)
    assert sum(series["bytes"]) == pytest.approx(report["files"]["received"], abs=0.1)
    assert sum(series["retries"]) == pytest.approx(report["requests"]["retries"], abs=0.1)
    for quota in report["quotas"]:
        assert sum(series["requests"][quota["family"]]) == pytest.approx(quota["sent"], abs=0.1)
    assert sum(quota["sent"] for quota in report["quotas"]) == report["requests"]["sent"]
    assert sum(series["held"]["api"]) > 0.5, "a 429 asked to wait a second"
    (budget,) = report["quotas"][0]["budgets"]
    assert (budget["used"], budget["left"]) == (70, 0)


def test_what_is_on_disk_is_in_it(crawled: Crawled) -> None:
    report = crawled.report
    files = [path for path in (crawled.folder / "output").rglob("*.csv") if path.is_file()]
    largest = report["largest_downloads"]
    assert report["files"]["files"] >= sum(row["files"] for row in largest) > 0
    assert len(files) >= report["files"]["files"]
    assert largest == sorted(largest, key=lambda row: -row["bytes"])
    assert [row["count"] for row in report["files"]["again"] if row["reason"] == "cut"]
    assert {row["reason"] for row in report["files"]["left_out"]} == {"only"}
    assert {row["method"] for row in report["slowest_requests"]} <= crawled.methods.keys()
    for name in ("report.json", "report.html"):
        text = (crawled.folder / name).read_text(encoding="utf-8")
        assert not re.search(r"X-Goog|KGAT|Bearer|/storage/|Signature", text)


# -- in a browser ----------------------------------------------------------------------------------


@dataclass
class Shown:
    """A page in a browser, with what it has said and asked for."""

    page: Page
    said: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def show(browser: Browser, path: Path, width: int = 1100, scheme: Any = "light") -> Shown:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = Shown(page, [], [])
    page.on("console", lambda message: shown.said.append(message.text))
    page.on("pageerror", lambda error: shown.said.append(str(error)))
    page.on("request", lambda request: shown.asked.append(request.url))
    page.goto(path.as_uri())
    return shown


@pytest.fixture
def shown(chromium: Browser, crawled: Crawled) -> Iterator[Shown]:
    made = show(chromium, crawled.folder / "report.html")
    yield made
    made.page.close()


@in_browser
def test_a_browser_asks_for_nothing_and_complains_of_nothing(
    shown: Shown, crawled: Crawled
) -> None:
    assert shown.said == []
    assert shown.asked == [(crawled.folder / "report.html").as_uri()]


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (360, "dark")])
def test_plots_have_a_size_and_bars_in_them(
    chromium: Browser, crawled: Crawled, width: int, scheme: str
) -> None:
    shown = show(chromium, crawled.folder / "report.html", width, scheme)
    page = shown.page
    names = page.eval_on_selector_all(
        "svg.plot", "all => all.map(e => e.querySelector('title').id)"
    )
    assert names == ["t-rate-api", "t-rate-download", "t-records", "t-bytes", "t-retries"]
    for plot in page.locator("svg.plot").all():
        box = plot.bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 100
        heights = plot.evaluate(
            "p => [...p.querySelectorAll('.bar')].map(b => b.getBoundingClientRect().height)"
        )
        assert max(heights) > box["height"] / 4
    assert page.locator(".plot .limit").count() == 1
    assert page.locator(".plot .held").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert abs(_brightness(ink) - _brightness(paper)) > 200
    page.close()


def _brightness(colour: str) -> float:
    parts = [int(part) for part in re.findall(r"\d+", colour)[:3]]
    return sum(parts) / 3


@in_browser
def test_its_numbers_are_those_of_the_json(shown: Shown, crawled: Crawled) -> None:
    report, page = crawled.report, shown.page
    for name in ("discovered", "stored", "skipped", "failed", "pending"):
        assert page.locator(f"[data-count={name}]").inner_text() == f"{report['counts'][name]:,}"
    for place, number in (
        ("requests", f"{report['requests']['sent']:,}"),
        ("per-record", f"{report['requests']['per_record']:.2f}"),
        ("files", f"{report['files']['files']:,}"),
        ("received", amount(report["files"]["received"])),
        ("retries", f"{report['requests']['retries']:,}"),
    ):
        assert page.locator(f"#{place} b").inner_text() == number
    rows = page.locator("#largest-downloads tbody tr td:first-child").all_inner_texts()
    assert rows == [row["key"] for row in report["largest_downloads"]]
    words = page.locator("body").inner_text()
    reasons = report["counts"]["skipped_by_reason"] + report["requests"]["retries_by_reason"]
    assert all(row["words"] in words for row in reasons)
    widths = page.eval_on_selector_all(
        "svg.total rect", "all => all.map(e => e.getBoundingClientRect().width)"
    )
    counts = report["counts"]
    parts = [counts[name] for name in ("stored", "skipped", "failed", "pending") if counts[name]]
    assert [width / sum(widths) for width in widths] == pytest.approx(
        [part / counts["discovered"] for part in parts], abs=0.01
    )


@in_browser
def test_a_bar_says_what_it_is_to_a_pointer_and_to_keys(shown: Shown) -> None:
    page, plot = shown.page, shown.page.locator("svg.plot").first
    tip = page.locator("#tip")
    assert not tip.is_visible()
    plot.hover(position={"x": 5, "y": 80})
    first = tip.inner_text()
    assert re.fullmatch(r"\d\d:\d\d:\d\d to \d\d:\d\d:\d\d: \d+\.\d\d a second.*", first)
    page.mouse.move(0, 0)
    assert not tip.is_visible()
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == first
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    page.keyboard.press("Escape")
    assert not tip.is_visible()


@in_browser
def test_hostile_names_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(hostile(tmp_path)), encoding="utf-8")
    shown = show(chromium, path)
    assert shown.said == []
    assert shown.asked == [path.as_uri()]
    assert shown.page.evaluate("typeof window.hit") == "undefined"
    assert shown.page.locator("img").count() == 0
    shown.page.close()


@in_browser
def test_the_policy_stops_what_would_get_in_all_the_same(chromium: Browser, tmp_path: Path) -> None:
    """Were a text ever to become a tag."""
    path = tmp_path / "report.html"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        injected = (
            "<script>window.hit = 1</script><style>body { color: red }</style>"
            f"<img src='http://127.0.0.1:{server.getsockname()[1]}/' onerror='window.hit = 2'>"
        )
        text = page_of(hostile(tmp_path)).replace("</main>", f"{injected}</main>")
        path.write_text(text, encoding="utf-8")
        shown = show(chromium, path)
        shown.page.wait_for_function("document.images[0].complete")
        assert shown.page.evaluate("typeof window.hit") == "undefined"
        with pytest.raises(BlockingIOError):
            server.accept()
    for kind in ("script", "style", "loading the image"):
        assert [each for each in shown.said if kind in each.lower() and "Security Policy" in each]
    shown.page.close()


@in_browser
@pytest.mark.parametrize("minutes", [0, 10])
def test_a_page_that_is_not_written_any_more_says_so(
    chromium: Browser, tmp_path: Path, minutes: int
) -> None:
    report = hostile(tmp_path, None)
    written = datetime.now(UTC) - timedelta(minutes=minutes)
    report["written"] = written.isoformat(timespec="seconds")
    path = tmp_path / "report.html"
    path.write_text(page_of(report), encoding="utf-8")
    shown = show(chromium, path)
    assert shown.page.locator("#stale").is_visible() == (minutes > 0)
    shown.page.close()
