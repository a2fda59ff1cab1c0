"""A world moves on: in a step of a week some datasets change, go and come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.made import TAGS
from kagglecrawl.replica.truth import DatasetTruth, FileTruth, GeneratedFile, Prose

_SHARES = {"changed": 0.10, "edited": 0.03, "edited_unseen": 0.01, "removed": 0.03, "new": 0.03}
"""Of the datasets that can be read, how many each kind of move meets in one step."""
_ENOUGH = 20  # datasets, from which on there is at least one of each kind
_FIRST_WEEK = datetime(2026, 1, 5, tzinfo=UTC)  # just after all that is made at the beginning
_WEEK = 7 * 86_400_000  # milliseconds
_LEAST = 120  # bytes; text cannot be made much shorter


@dataclass(frozen=True)
class Moves:
    """What a later world has otherwise. `removed` is as it was before, all else as it is later.

    - `new`: were not there before
    - `changed`: have another version, and so other files
    - `edited`: have the same version, and something else in their list row
    - `edited_unseen`: have the same version and row, and another description
    - `removed`: are no longer there

    Votes, downloads and views are no difference.
    """

    new: tuple[DatasetTruth, ...]
    changed: tuple[DatasetTruth, ...]
    edited: tuple[DatasetTruth, ...]
    edited_unseen: tuple[DatasetTruth, ...]
    removed: tuple[DatasetTruth, ...]

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class Stage:
    """The datasets of a world at one moment."""

    datasets: tuple[DatasetTruth, ...]
    removed: tuple[DatasetTruth, ...] = ()
    """Those that were there once, as they were then but for their state, `deleted`."""
    born: int = 0
    """How many have come since the beginning."""


def compare(before: Iterable[DatasetTruth], after: Iterable[DatasetTruth]) -> Moves:
    """What the datasets of `after` have otherwise."""
    found: dict[str, list[DatasetTruth]] = {kind: [] for kind in _SHARES}
    gone = {dataset.ref: dataset for dataset in before}
    for dataset in after:
        old = gone.pop(dataset.ref, None)
        if old is None:
            found["new"].append(dataset)
        elif old.version != dataset.version:
            found["changed"].append(dataset)
        elif _in_a_row(old) != _in_a_row(dataset):
            found["edited"].append(dataset)
        elif old.write is not dataset.write and old.description != dataset.description:
            found["edited_unseen"].append(dataset)
    found["removed"] = list(gone.values())
    return Moves(**{kind: tuple(datasets) for kind, datasets in found.items()})


def check(before: Iterable[DatasetTruth], by_id: Callable[[int], DatasetTruth | None]) -> None:
    """Raise ValueError if a dataset of `before` has other files there at the same version."""
    for dataset in before:
        later = by_id(dataset.id)
        other = later and later.at(dataset.version)
        if other is None or other.version != dataset.version:
            continue
        if (other.ref, other.files, other.archive) != (
            dataset.ref,
            dataset.files,
            dataset.archive,
        ):
            raise ValueError(
                f"Version {dataset.version} of {dataset.ref} would have other files than before; "
                "give what changes a new version."
            )


def _in_a_row(dataset: DatasetTruth) -> tuple[object, ...]:
    """What a list row says of it, but for counts of what people do with it."""
    return (
        dataset.title,
        dataset.subtitle,
        dataset.usability,
        dataset.licence,
        dataset.tags,
        dataset.last_updated,
        dataset.total_bytes,
    )


def step(now: Stage, seed: int, number: int, make: Callable[[int], DatasetTruth]) -> Stage:
    """The datasets a week later; `number` is that of the step, from 1.

    `make` gives the newcomer of a serial number. Those that cannot be read stay as they are.
    Everywhere else people vote, look and download, so those numbers grow.
    """
    dice = {each.id: Dice("move", seed, number, each.id) for each in now.datasets}
    readable = [each for each in now.datasets if each.state in {"public", "gated"}]
    drawn = sorted(readable, key=lambda dataset: (dice[dataset.id].unit(), dataset.id))
    least = 1 if len(now.datasets) >= _ENOUGH else 0
    counts = {kind: max(least, round(share * len(readable))) for kind, share in _SHARES.items()}
    born = counts.pop("new")
    rest = iter(drawn)
    kinds = {each.id: kind for kind, count in counts.items() for each in islice(rest, count)}
    datasets, removed = [], list(now.removed)
    for dataset in now.datasets:
        kind = kinds.get(dataset.id, "")
        if kind == "removed":
            removed.append(replace(dataset, state="deleted"))
        else:
            datasets.append(_moved(dataset, kind, dice[dataset.id], seed, number))
    for serial in range(now.born, now.born + born):
        datasets.append(_newcomer(make(serial), seed, number, first=serial == now.born))
    return Stage(tuple(datasets), tuple(removed), now.born + born)


def _moved(dataset: DatasetTruth, kind: str, dice: Dice, seed: int, number: int) -> DatasetTruth:
    seen = dice.below(1 + dataset.downloads // 50)
    dataset = replace(
        dataset,
        votes=dataset.votes + dice.below(1 + dataset.votes // 50),
        downloads=dataset.downloads + seen,
        views=dataset.views + seen * dice.between(3, 9),
    )
    match kind:
        case "changed":
            return _new_version(dataset, dice, seed, number)
        case "edited":
            return _edited(dataset, dice, number)
        case "edited_unseen":
            return replace(dataset, write=partial(_revise, dataset.ref, number))
    return dataset


def _newcomer(made: DatasetTruth, seed: int, number: int, *, first: bool) -> DatasetTruth:
    """It can be read; the first of each step is also one that crawls take."""
    dice = Dice("newcomer", seed, number, made.id)
    return replace(
        made,
        state="gated" if made.state == "gated" else "public",
        usability=max(made.usability, 0.8823529) if first else made.usability,
        last_updated=_moment(dice, number),
        version=1,
    )


def _moment(dice: Dice, number: int, after: datetime | None = None) -> datetime:
    """A moment of that week, or one less than a week after the one given if that is later."""
    week = _FIRST_WEEK + (number - 1) * timedelta(milliseconds=_WEEK)
    return max(week, after or week) + timedelta(milliseconds=dice.between(1, _WEEK - 1))


def _new_version(dataset: DatasetTruth, dice: Dice, seed: int, number: int) -> DatasetTruth:
    """At least one file is another one or new; an archive that was given gives way to a zip."""
    version = dataset.version + 1
    key = f"move\0{seed}\0{dataset.id}\0{version}"
    files = list(dataset.files)
    others = list(range(len(files)))
    if files:
        for place in dice.sample(others, dice.between(1, (len(files) + 2) // 3)):
            files[place] = _rewritten(files[place], key, dice)
            others.remove(place)
    if others and dice.chance(0.4):
        del files[dice.pick(others)]
    if not files or dice.chance(0.4):
        files.append(GeneratedFile(key, f"updates/v{version}.csv", dice.between(_LEAST, 9_000)))
    return replace(
        dataset,
        version=version,
        last_updated=_moment(dice, number, dataset.last_updated),
        files=tuple(files),
        archive=None,
        hotness=dice.unit(),
        write=partial(_revise, dataset.ref, number) if dice.chance(0.3) else dataset.write,
        older=dataset,
    )


def _rewritten(file: FileTruth, key: str, dice: Dice) -> FileTruth:
    """A file of the same name with other content; one in four has the same size."""
    size = dice.between(_LEAST, 9_000)
    if file.size >= _LEAST and dice.chance(0.25):
        size = file.size
    return GeneratedFile(key, file.name, size)


def _revise(ref: str, number: int) -> Prose:
    text = f"## Update {number}\n\nWhat was said of {ref} is **no longer** so."
    return Prose(text, text)


def _edited(dataset: DatasetTruth, dice: Dice, number: int) -> DatasetTruth:
    match dice.below(3):
        case 0:
            return replace(dataset, title=f"{dataset.title} (edition {number})")
        case 1:
            others = [tag for tag in TAGS if tag not in dataset.tags]
            return replace(dataset, tags=(*dataset.tags[1:], dice.pick(others)))
    ratings = [round(n / 17, 7) for n in range(3, 18)]
    return replace(dataset, usability=dice.pick([r for r in ratings if r != dataset.usability]))
