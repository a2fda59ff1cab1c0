"""Requests as kagglesdk would make them, compared with kagglesdk's own classes."""

from __future__ import annotations

import enum
import importlib
import json
import pkgutil
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle.paging import Cursor, Findings
from kagglecrawl.kaggle.rpc import GET_DATASET, LIST_DATASETS, TABLE, Rpc

#: Those of the site are none of kagglesdk's: tests/kaggle/test_web.py.
CALLS = [call for call in TABLE.values() if call.where == "api"]
LISTS = [call for call in CALLS if call.rows]
by_method = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.method)
by_list = pytest.mark.parametrize("call", LISTS, ids=lambda call: call.method)


def sdk(call: Rpc) -> Any:
    """kagglesdk's class for a call's requests."""
    return getattr(importlib.import_module(call.module), call.request_class)


def values(kind: Any) -> st.SearchStrategy[Any] | None:
    """Values of a field as a spider has them; None for a kind that a spider has no use for."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(sorted(kind.__members__))
    simple = {str: st.text(max_size=20), int: st.integers(-1, 2**53), bool: st.booleans()}
    return simple.get(kind)


@st.composite
def filled(draw: st.DrawFn) -> tuple[Rpc, dict[str, Any]]:
    """A call with some of its fields."""
    call = draw(st.sampled_from(CALLS))
    known = {field.field_name: values(field.field_type) for field in sdk(call)._fields}
    possible = {name: strategy for name, strategy in known.items() if strategy is not None}
    names = draw(st.sets(st.sampled_from(sorted(possible))))
    # These exclude each other (a oneof): kagglesdk clears the others when one is set.
    for name in [each for each in sorted(names) if each.endswith("s_order_by")]:
        names = {each for each in names if not each.endswith("_order_by")} | {name}
    return call, {name: draw(possible[name]) for name in sorted(names)}


@given(filled())
def test_the_body_is_kagglesdks_own(case: tuple[Rpc, dict[str, Any]]) -> None:
    call, fields = case
    theirs = sdk(call)()
    kinds = {field.field_name: field.field_type for field in sdk(call)._fields}
    for name, value in fields.items():
        is_enum = issubclass(kinds[name], enum.Enum)
        setattr(theirs, name, kinds[name][value] if is_enum else value)
    assert call.body(**fields) == theirs.to_dict()


@by_method
def test_the_address_is_kagglesdks_own(call: Rpc) -> None:
    """``{service}/{method}`` and request class as its clients send them."""
    services = importlib.import_module(f"{call.module.split('.types.')[0]}.services")
    snake = re.sub(r"(?<!^)([A-Z])", r"_\1", call.method).lower()
    sent = []

    class Http:
        def call(self, service: str, method: str, request: Any, response_type: Any) -> None:
            sent.append((f"{service}/{method}", type(request)))

    for module in pkgutil.iter_modules(services.__path__):
        clients = vars(importlib.import_module(f"{services.__name__}.{module.name}"))
        for client in [each for name, each in clients.items() if name.endswith("Client")]:
            if hasattr(client, snake):
                getattr(client(Http()), snake)(sdk(call)())
    assert (call.name, sdk(call)) in sent


def test_what_is_not_given_is_not_sent() -> None:
    assert LIST_DATASETS.body(search=None, page_token=None, page_size=200) == {"pageSize": 200}
    assert LIST_DATASETS.body(sort_by="DATASET_SORT_BY_HOTTEST") == {}, "the default"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"colour": "red"}, "no field 'colour'"),
        ({"pageSize": 200}, "no field 'pageSize'"),
        ({"page_size": "200"}, "not of type int"),
        ({"page_size": 200.0}, "not of type int"),
        ({"page_size": True}, "not of type int"),
        ({"search": 5}, "not of type str"),
        ({"search": ["a"]}, "not of type str"),
        ({"sort_by": "hottest"}, "not a DatasetSortBy"),
        ({"sort_by": 0}, "not a DatasetSortBy"),
        ({"sort_by": ["DATASET_SORT_BY_VOTES"]}, "not a DatasetSortBy"),
        ({"file_type": "DATASET_SORT_BY_VOTES"}, "not a DatasetFileTypeGroup"),
    ],
)
def test_what_kaggle_does_not_have_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LIST_DATASETS.body(**fields)


def test_a_request_is_a_post_without_credentials_that_nobody_else_judges() -> None:
    request = GET_DATASET.request(
        "http://localhost:1/api",
        fields={"owner_slug": "a", "dataset_slug": "b"},
        meta={"key": "a/b"},
        priority=10,
    )
    assert request.method == "POST"
    assert request.url == "http://localhost:1/api/v1/datasets.DatasetApiService/GetDataset"
    assert json.loads(request.body) == {"ownerSlug": "a", "datasetSlug": "b"}
    assert request.headers.get("Content-Type") == b"application/json"
    assert "Authorization" not in request.headers
    assert request.priority == 10
    assert request.meta["key"] == "a/b"
    assert request.meta["rpc"] in TABLE
    # Scrapy's own opinions on statuses are switched off: errors.py has the say.
    for name in ("handle_httpstatus_all", "dont_redirect", "dont_retry"):
        assert request.meta[name] is True


def test_the_table_names_each_call_once() -> None:
    assert {name: call.name for name, call in TABLE.items()} == {name: name for name in TABLE}
    methods = [call.method for call in TABLE.values()]
    assert len(set(methods)) == len(methods), "stats are kept by method"


@by_list
def test_lists_take_the_fields_of_a_walk(call: Rpc) -> None:
    if call.kind == "item" and not hasattr(sdk(call)(), "page_size"):
        return  # all of its rows come at once
    probe = Cursor.begin(call.best_page_size, Findings())
    assert call.body(**probe.fields()) == {"pageSize": call.best_page_size}
    token = probe.advance(20, 20, "t")
    assert isinstance(token, Cursor)
    assert call.body(**token.fields()) == {"pageSize": call.best_page_size, "pageToken": "t"}


@by_list
def test_rows_are_where_kagglesdk_reads_them(call: Rpc) -> None:
    module = importlib.import_module(call.module)
    response = getattr(module, call.request_class.replace("Request", "Response"))
    assert call.rows in {field.json_name for field in response._fields}
