"""Datasets made from a seed: their titles, owners, tags, files and how they fare."""

import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from kagglecrawl.replica import prose
from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.scales import SCALES
from kagglecrawl.replica.truth import DatasetTruth, GeneratedFile, Licence, State, Tag

LICENCES = (
    Licence("CC0-1.0", "CC0: Public Domain", "CC"),
    Licence("CC-BY-4.0", "Attribution 4.0 International (CC BY 4.0)", "CC"),
    Licence("CC-BY-SA-4.0", "CC BY-SA 4.0", "CC"),
    Licence("CC-BY-NC-SA-4.0", "CC BY-NC-SA 4.0", "CC"),
    Licence("GPL-2.0", "GPL 2", "GPL"),
    Licence("ODbL-1.0", "Database: Open Database, Contents: © Original Authors", "ODB"),
    Licence("DbCL-1.0", "Database: Open Database, Contents: Database Contents", "ODB"),
    Licence("Apache 2.0", "Apache 2.0", "OTHER"),
    Licence("MIT", "MIT", "OTHER"),
    Licence("copyright-authors", "Data files © Original Authors", "OTHER"),
    Licence("other", "Other (specified in description)", "OTHER"),
    Licence("unknown", "Unknown", "OTHER"),
)

_TAG_TREE = {
    "subject": "business earth-and-nature education health law music sports weather",
    "technique": "classification clustering deep-learning nlp regression time-series-analysis",
    "data type": "audio image tabular text video",
    "geography and places": "africa asia brazil europe india united-states",
    "task": "exploratory-data-analysis feature-engineering",
}
TAGS = tuple(
    Tag(
        id=11_000 + 100 * group + number,
        slug=slug,
        name=slug.replace("-", " "),
        full_path=f"{path} > {slug.replace('-', ' ')}",
        description=f"Everything about {slug.replace('-', ' ')}.",
    )
    for group, (path, slugs) in enumerate(_TAG_TREE.items())
    for number, slug in enumerate(slugs.split())
)

_KINDS = [
    "Hourly",
    "Daily",
    "Cleaned",
    "Raw",
    "Historic",
    "Synthetic",
    "Labelled",
    "Compact",
    "Big",
    "Open",
]
_TOPICS = [
    "Rainfall",
    "House Prices",
    "Bird Songs",
    "Chess Games",
    "Air Quality",
    "Taxi Rides",
    "Coffee Reviews",
    "Football Results",
    "Leaf Images",
    "Job Adverts",
    "River Levels",
    "Street Signs",
    "Heart Rates",
    "Recipes",
]
_PLACES = [
    "Lisbon",
    "Nairobi",
    "Osaka",
    "Peru",
    "Bergen",
    "Hanoi",
    "Texas",
    "Mumbai",
    "Zürich",
    "São Paulo",
    "東京",
    "Київ",
    "the Andes",
    "Iceland 🌋",
    "Québec",
]
_FIRST = [
    "ada",
    "ben",
    "chi",
    "dmitri",
    "eva",
    "farid",
    "grace",
    "hugo",
    "ines",
    "jun",
    "kofi",
    "lena",
    "mei",
    "nils",
    "olga",
]
_LAST = [
    "lovelace",
    "okafor",
    "tanaka",
    "silva",
    "ivanova",
    "haddad",
    "hopper",
    "weber",
    "costa",
    "park",
]

_FILE_NAMES = (
    "data.csv",
    "train.csv",
    "test.csv",
    "labels.json",
    "README.md",
    "notes with spaces.txt",
    "données brutes.csv",
    "日本語.csv",
    "data/train/part-00.csv",
    "data/train/part-01.csv",
    "data/valid/part-00.csv",
    "images/фото 1.bin",
    "images/thumb.bin",
    "database.sqlite",
    "table.parquet",
    "a & b (copy) #2 100%.csv",
)
_USABILITY_EDGES = (0.8, 0.79, 0.7999, 0.0)
FIRST_DAY = datetime(2016, 1, 4, tzinfo=UTC)
"""The earliest day on which one was updated; the latest is ten years after it."""


def slugify(text: str) -> str:
    """Lower-case ASCII letters, digits and single hyphens, as in Kaggle's slugs; may be empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "-".join("".join(c if c.isalnum() else " " for c in ascii_text).split())


def make(seed: int, index: int, count: int, gated: bool) -> DatasetTruth:
    """The dataset of this index in a world that begins with `count` of them; see World."""
    dice = Dice("dataset", seed, index)
    title = f"{dice.pick(_KINDS)} {dice.pick(_TOPICS)} of {dice.pick(_PLACES)}"
    owner = f"{dice.pick(_FIRST)}{dice.pick(_LAST)}"
    votes = int(3000 * dice.unit() ** 4)
    downloads = votes * dice.between(2, 40) + dice.below(50)
    step = 1000 if dice.chance(0.15) else 1  # some times have no fraction of a second
    age = dice.below(10 * 365 * 86_400) * 1000 + dice.below(1000) // step * step
    return DatasetTruth(
        id=1_000 + index,
        owner=owner,
        slug=f"{slugify(title)}-{index + 1}",
        title=title,
        subtitle="" if dice.chance(0.1) else f"{title}, as measured: {dice.between(2, 99)} columns",
        usability=_usability(dice, index),
        last_updated=FIRST_DAY + timedelta(milliseconds=age),
        version=1 if dice.chance(0.6) else dice.between(2, 60),
        licence=dice.pick(LICENCES),
        tags=tuple(dice.sample(TAGS, dice.below(5))),
        files=tuple(_files(dice, seed, index, count)),
        state=_state(index, gated),
        hotness=dice.unit(),
        votes=votes,
        downloads=downloads,
        views=downloads * dice.between(3, 9),
        notebooks=dice.below(votes // 20 + 1),
        topics=dice.below(votes // 50 + 1),
        collaborators=_collaborators(dice),
        write=partial(prose.write, seed, index),
    )


def _collaborators(dice: Dice) -> tuple[tuple[str, str], ...]:
    if dice.chance(0.9):
        return ()
    return ((dice.pick(_FIRST), dice.pick(("READER", "WRITER"))),)


def _usability(dice: Dice, index: int) -> float:
    """Multiples of 1/17 as Kaggle's are, about 60 % at or above 0.8, and the edges by index."""
    if index % 16 == 3:
        return _USABILITY_EDGES[index // 16 % len(_USABILITY_EDGES)]
    seventeenths = dice.between(14, 17) if dice.chance(0.62) else dice.between(3, 13)
    return round(seventeenths / 17, 7)


def _state(index: int, gated: bool) -> State:
    """3 % deleted, 3 % forbidden, and perhaps 3 % gated, in every stretch of the world."""
    place = index % 33
    if place == 7:
        return "deleted"
    if place == 19:
        return "forbidden"
    return "gated" if gated and place == 29 else "public"


def _files(dice: Dice, seed: int, index: int, count: int) -> Iterable[GeneratedFile]:
    key = f"file\0{seed}\0{index}"
    if index == 5 and count >= SCALES["medium"]:
        for number in range(1, 252):
            yield GeneratedFile(key, f"images/img_{number:04}.bin", dice.between(20, 400))
        return
    for name in dice.sample(_FILE_NAMES, dice.between(1, 6)):
        large = name.endswith(".bin") and dice.chance(0.15)
        yield GeneratedFile(
            key, name, dice.between(*((200_000, 2_000_000) if large else (120, 9_000)))
        )
    if dice.chance(0.08):
        yield GeneratedFile(key, "empty.txt", 0)
