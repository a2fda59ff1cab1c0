"""Identities of Kaggle's resources: frozen values that parse, print and give their URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
_HOSTS = {"kaggle.com", "www.kaggle.com"}
#: First parts of a page's path that are no owner of a dataset.
_OTHER_PAGES = frozenset(
    ("c", "code", "competitions", "docs", "discussions", "kernels", "learn", "models")
)


@dataclass(frozen=True, order=True)
class DatasetRef:
    """``owner/slug`` of a dataset. ``str()`` gives it back."""

    owner: str
    slug: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``owner/slug``, or the dataset's page address on www.kaggle.com.

        Kaggle's lists give either (reported 2026-10 for competitions, kaggle-facts 2.1).
        Raises ``ValueError``: nothing from the wire is put into a path or a URL unread.
        """
        parts = text.strip().strip("/").split("/")
        if "://" in text:
            parts = _path_of_page(text.strip())
        if len(parts) != 2 or not _OWNER.fullmatch(parts[0]) or not _SLUG.fullmatch(parts[1]):
            raise ValueError(f"{text!r} is not a dataset: write owner/slug")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.owner}/{self.slug}"

    @property
    def url(self) -> str:
        """The dataset's page for people."""
        return f"https://www.kaggle.com/datasets/{self}"


def competition_slug(text: str) -> str:
    """A competition's slug, or its page's address, as its slug.

    Lists of the API give the address as ``ref`` (reported 2026-10, kaggle-facts 2.1).
    Raises ``ValueError``.
    """
    slug = text.strip()
    if "://" in text:
        parts = _parts_of(slug)
        slug = parts[1] if len(parts) > 1 and parts[0] in {"c", "competitions"} else ""
    if not _SLUG.fullmatch(slug):
        raise ValueError(f"{text!r} is not a competition: write its slug, such as titanic")
    return slug


def _path_of_page(address: str) -> list[str]:
    """Owner and slug of a dataset's page, www.kaggle.com/datasets/owner/slug; older ones have no
    ``datasets``. Empty for any other address."""
    parts = _parts_of(address)
    if parts and parts[0] in _OTHER_PAGES:
        return []
    return parts[1:3] if parts[:1] in (["datasets"], ["d"]) else parts


def _parts_of(address: str) -> list[str]:
    """The parts of the path of one of Kaggle's pages; empty for any other address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return []
    return [part for part in parts.path.split("/") if part] if parts.hostname in _HOSTS else []
