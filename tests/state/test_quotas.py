"""Quotas: what may be sent when, over restarts and beside other processes."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from kagglecrawl.rates import Rate, rates_of
from kagglecrawl.state.quotas import Quotas, QuotasRefused
from tests.conftest import ROOT

START = 1_800_000_000.0
DAY = 86_400


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "quotas.sqlite"


Make = Callable[..., Quotas]


@pytest.fixture
def make(path: Path, now: Now) -> Make:
    def quotas(rates: str, account: str = "me") -> Quotas:
        return Quotas(path, account, {"api": rates_of(rates)}, now)

    return quotas


def sent(quotas: Quotas, now: Now, count: int, *, late: float = 0.0) -> list[float]:
    """When so many requests were let through, by one who asks again when he is told to."""
    moments: list[float] = []
    while len(moments) < count:
        due = quotas.take("api")
        if due:
            assert due > now.at
            now.at = due + late
        else:
            moments.append(now.at)
    return moments


def most_in(moments: list[float], seconds: float) -> int:
    """The most of these that fall into any window of so many seconds."""
    return max(sum(at <= other < at + seconds for other in moments) for at in moments)


# -- pace and budgets ------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "unit"), [(5, "second"), (1, "second"), (60, "minute")])
@pytest.mark.parametrize("late", [0.0, 0.003, 0.4])
def test_a_pace_is_even_and_never_above_its_rate(
    make: Make, now: Now, count: int, unit: str, late: float
) -> None:
    rate = rates_of(f"{count}/{unit}")[0]
    moments = sent(make(str(rate)), now, 10 * count, late=late)
    assert most_in(moments, rate.seconds) <= count
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    assert min(gaps) > 0.8 * rate.seconds / count
    if not late:
        assert moments[-1] - moments[0] <= 1.06 * rate.seconds * (10 - 1 / count)


def test_one_that_was_late_does_not_slow_down_the_rest(make: Make, now: Now) -> None:
    """Where a clock is a bit late each time, the rate is used all the same."""
    moments = sent(make("10/second"), now, 200, late=0.004)
    assert len(moments) / (moments[-1] - moments[0]) > 0.9 * 10


def test_a_budget_may_be_spent_at_once(make: Make, now: Now) -> None:
    quotas = make("100/day")
    moments = sent(quotas, now, 100)
    assert set(moments) == {START}
    due = quotas.take("api")
    assert START + DAY <= due <= START + DAY + 2
    now.at = due
    assert quotas.take("api") == 0.0


def test_a_day_is_any_24_hours(make: Make, now: Now) -> None:
    quotas, dice, moments = make("50/day"), random.Random(5), []
    while now.at < START + 5 * DAY:
        if not quotas.take("api"):
            moments.append(now.at)
        now.at += dice.expovariate(1 / 900)
    assert most_in(moments, DAY) == 50
    assert len(moments) > 4 * 50


def test_nested_rates_all_hold(make: Make, now: Now) -> None:
    moments = sent(make("2/second, 30/minute, 100/hour"), now, 250)
    assert most_in(moments, 1) <= 2
    assert most_in(moments, 60) <= 30
    assert most_in(moments, 3_600) <= 100
    assert moments[-1] - START < 2.1 * 3_600


def test_no_rates_and_another_family_are_no_limit(make: Make, now: Now, path: Path) -> None:
    quotas = make("")
    assert [quotas.take(family) for family in ("api", "web") * 50] == [0.0] * 100
    quotas.give_back("api")
    quotas.late("api")
    assert not path.exists()
    assert make("1/day").take("web") == 0.0


def test_what_was_not_sent_is_given_back(make: Make, now: Now) -> None:
    quotas = make("1/second, 3/day")
    assert quotas.take("api") == 0.0
    assert quotas.take("api") > START
    quotas.give_back("api")
    assert quotas.take("api") == 0.0
    for _ in range(2):
        now.at += 10
        assert quotas.take("api") == 0.0
    now.at += 10
    assert quotas.take("api") > START + DAY


def test_one_that_goes_out_late(make: Make, now: Now) -> None:
    quotas = make("1/second, 2/day")
    assert quotas.take("api") == 0.0
    now.at += 30
    quotas.late("api")
    assert now.at + 1 < quotas.take("api") < now.at + 1.1
    now.at += 2
    assert quotas.take("api") == 0.0
    assert quotas.take("api") == pytest.approx(START + 30 + DAY + 1)


# -- what lasts, and whose it is -------------------------------------------------------------------


def test_a_restart_forgets_nothing(make: Make, now: Now, path: Path) -> None:
    total = 0
    for _ in range(20):
        quotas = make("1000/day")
        while total < 1000 and not quotas.take("api"):
            total += 1
            if total % 50 == 0:
                break
        quotas.close()
        now.at += 600
    assert total == 1000
    assert make("1000/day").take("api") > now.at
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_accounts_do_not_share(make: Make) -> None:
    assert make("1/day").take("api") == 0.0
    assert make("1/day").take("api") > 0
    assert make("1/day", "another").take("api") == 0.0


def test_a_hold_is_everybodys_and_never_shortened(make: Make, now: Now) -> None:
    ours, other = make("5/second"), make("")
    assert ours.take("api") == 0.0
    ours.hold("api", START + 60)
    ours.hold("api", START + 30)
    assert other.take("api") == START + 60
    assert other.holds() == {"api": START + 60}
    assert make("", "another").take("api") == 0.0
    now.at = START + 60
    assert other.take("api") == 0.0
    assert other.holds() == {}


def test_what_was_learnt_is_kept(make: Make, now: Now) -> None:
    ours = make("10/second")
    assert ours.interval("api") == ours.own_interval("api") == pytest.approx(0.105)
    ours.learn("api", 2.0)
    again = make("10/second")
    assert again.interval("api") == 2.0
    assert again.own_interval("api") == pytest.approx(0.105)
    moments = sent(again, now, 5)
    assert min(later - sooner for sooner, later in pairwise(moments)) >= 1.9
    again.learn("api", 0.0)
    assert make("10/second").interval("api") == pytest.approx(0.105)


def test_what_is_left(make: Make, now: Now) -> None:
    quotas = make("2/second, 10/day")
    (left,) = quotas.left()
    assert (left.name, left.held, left.learnt) == ("api", 0.0, 0.0)
    assert left.used == ((Rate(10, DAY), 0, 0.0),)
    sent(quotas, now, 3)
    assert quotas.left()[0].next == pytest.approx(now.at + 0.525)
    quotas.hold("api", now.at + 5)
    (left,) = quotas.left()
    assert left.held == left.next == now.at + 5
    assert left.used == ((Rate(10, DAY), 3, START + DAY + 1),)
    now.at += 2 * DAY
    (left,) = quotas.left()
    assert (left.held, left.used) == (0.0, ((Rate(10, DAY), 0, 0.0),))


def test_a_clock_that_was_set_back(make: Make, now: Now) -> None:
    """It costs no more than the rates do."""
    quotas = make("1/minute, 5/hour")
    sent(quotas, now, 5)
    now.at -= 10 * DAY
    assert quotas.take("api") <= now.at + 3_700


def test_old_ones_are_forgotten(make: Make, now: Now, path: Path) -> None:
    quotas = make("1000/hour")
    for _ in range(5):
        sent(quotas, now, 500)
        now.at += 2 * DAY
    quotas.close()
    file = sqlite3.connect(path)
    (kept,) = file.execute("SELECT count(*) FROM sent").fetchone()
    file.close()
    assert kept <= 700


_TAKE = """
import sys
from pathlib import Path
from kagglecrawl.rates import quotas_of
from kagglecrawl.state.quotas import Quotas
quotas = Quotas(Path(sys.argv[1]), "me", quotas_of("api=700/day; api+download=1000/day"))
taken = {"api": 0, "download": 0}
for number in range(int(sys.argv[2])):
    family = "download" if number % 3 == 0 else "api"
    taken[family] += not quotas.take(family)
print(*taken.values())
"""


def test_processes_share(path: Path) -> None:
    """Four of them, twenty starts: never more than there is, and all of it."""
    of_api = of_downloads = 0
    for _ in range(5):
        running = [
            subprocess.Popen(
                [sys.executable, "-c", _TAKE, str(path), "90"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in running:
            api, downloads = map(int, process.communicate(timeout=60)[0].split())
            of_api, of_downloads = of_api + api, of_downloads + downloads
            assert process.returncode == 0
    assert of_api + of_downloads == 1000
    assert 600 < of_api <= 700


# -- files that cannot be used ---------------------------------------------------------------------


def test_another_programs_file_is_left_alone(make: Make, path: Path) -> None:
    path.parent.mkdir()
    file = sqlite3.connect(path)
    file.execute("CREATE TABLE mine (x)")
    file.commit()
    file.close()
    before = path.read_bytes()
    with pytest.raises(QuotasRefused, match=r"another program's.*set KAGGLE_QUOTA_FILE"):
        make("1/day").take("api")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello" * 500, b"SQLite format 3\0" + bytes(2_000)])
def test_no_database_at_all(make: Make, path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(QuotasRefused, match="cannot be used"):
        make("1/day").take("api")
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written(make: Make, path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(QuotasRefused, match="cannot be used"):
        make("1/day").take("api")


def test_another_look_in_the_same_process_takes_no_lock_away(path: Path) -> None:
    """The report looks while the crawl counts; what others open and close then is the same file."""
    rates = {"api": (Rate(1000, 86_400),)}
    look = (
        "import sys, pathlib; from kagglecrawl.rates import Rate; "
        "from kagglecrawl.state.quotas import Quotas; "
        "q = Quotas(pathlib.Path(sys.argv[1]), 'me', {'api': (Rate(1000, 86_400),)}); "
        "print(q.left()[0].used[0][1]); q.close()"
    )
    with closing(Quotas(path, "me", rates)) as quotas:
        for number in range(1, 4):
            assert quotas.take("api") == 0
            with closing(Quotas(path, "me", rates)) as report:
                assert report.left()[0].used[0][1] == number
            seen = subprocess.run(
                [sys.executable, "-c", look, str(path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert int(seen.stdout) == number
