"""What is checked of settings before a command does anything: Scrapy's own, and the places to
write to. Our own settings are read and checked in config.py."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings, default_settings
from scrapy.utils.misc import load_object
from w3lib.url import file_uri_to_path

import kagglecrawl.settings as project_settings
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.redaction import clean


def check_types(settings: BaseSettings) -> None:
    """Refuse settings of Scrapy's with which it would fail by a traceback, or never end.

    Raises ``SettingError``. Only what was set by this project or by its user is looked at.
    """
    _check_names(settings)
    for name, default in vars(default_settings).items():
        priority = settings.getpriority(name) if name.isupper() else None
        if priority is not None and priority >= SETTINGS_PRIORITIES["project"]:
            _check_type(settings, name, default)
    level = settings.get("LOG_LEVEL")
    if not isinstance(logging.getLevelName(str(level).upper()), int):
        raise SettingError(f"LOG_LEVEL={level} is wrong: write DEBUG, INFO, WARNING or ERROR")
    if file := settings.get("LOG_FILE"):
        _writable_file(Path(file), f"LOG_FILE={file}")


def _check_names(settings: BaseSettings) -> None:
    """A setting of ours that nobody reads is a slip of the pen."""
    ours = ("KAGGLE_", "WORKSPACE", "S3_", "CLOUD_", "OUTPUT_")
    known = [name for name in vars(project_settings) if name.startswith(ours)]
    for name in settings:
        if str(name).startswith(ours) and name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise SettingError(f"the setting {name} is not known: {hint}")


def _check_type(settings: BaseSettings, name: str, default: Any) -> None:
    value, kind = settings.get(name), type(default)
    if name.endswith("_ENABLED"):
        kind = bool  # some defaults are 1
    elif kind is int and name.endswith(("_DELAY", "_TIMEOUT", "_INTERVAL")):
        kind = float  # seconds, though the default is a whole number
    least = 1 if name.startswith("CONCURRENT_") else 0
    words = {
        bool: "True or False",
        int: f"a whole number from {least} up",
        float: f"a number from {least} up",
    }
    readers: dict[type, Callable[[str], Any]] = {
        bool: settings.getbool,
        int: settings.getint,
        float: settings.getfloat,
    }
    if kind is str and re.fullmatch(r"[\w.]+\.[A-Z]\w+", default) and "." in str(value):
        try:
            load_object(value)
        except (ImportError, NameError, TypeError, ValueError) as error:
            raise SettingError(f"{name}={value} cannot be loaded: {error}") from None
    if kind not in readers:
        return
    try:
        if readers[kind](name) < least and name.startswith(("CONCURRENT", "DOWNLOAD", "AUTO")):
            raise ValueError
    except (ValueError, TypeError):
        raise SettingError(f"{name}={value} is wrong: write {words[kind]}") from None


def check_folders(settings: BaseSettings) -> None:
    """Every folder that will be written to can be made and written; nothing is created.

    Raises ``SettingError``.
    """
    feeds = settings.getdict("FEEDS")
    if jobdir := job_dir_of(settings):
        writable(jobdir, f"JOBDIR={jobdir}")
        for uri, options in feeds.items():
            if isinstance(options, dict) and options.get("format") in {"json", "xml"}:
                raise SettingError(
                    f"the feed {clean(str(uri))} is {options['format']}, which cannot be gone on "
                    "with after a stop, so it cannot go with JOBDIR: use jsonlines or csv"
                )
    workspace = KaggleConfig.from_settings(settings).workspace
    writable(workspace, f"WORKSPACE={workspace}")
    for uri in map(str, feeds):
        path = _local_path(uri)
        if path is not None and "%(" not in str(path):
            _writable_file(path, f"the feed {clean(uri)}")


def job_dir_of(settings: BaseSettings) -> Path | None:
    """The job directory, or None; Scrapy's own reader would create it."""
    value = settings.get("JOBDIR")
    return Path(value) if value else None


def _local_path(uri: str) -> Path | None:
    if uri.startswith("file:"):
        return Path(file_uri_to_path(uri))
    return None if "://" in uri or uri in {"-", "stdout:"} else Path(uri)


def _writable_file(path: Path, what: str) -> None:
    if path.is_dir():
        raise SettingError(f"{what} is a folder: name a file")
    writable(path.parent, what)
    if path.exists() and not os.access(path, os.W_OK):
        raise SettingError(f"{what} cannot be written: check who owns it")


def writable(folder: Path, what: str) -> None:
    """The folder, or the nearest one above it that exists, is a folder and can be written.

    Raises ``SettingError``, which calls it ``what``.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise SettingError(f"{what}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingError(f"{what}: {there} cannot be written: check who owns it")
