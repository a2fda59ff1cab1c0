"""Scrapy's CSV, with lists that can be read again."""

from __future__ import annotations

import json
from typing import Any

from scrapy.exporters import CsvItemExporter


class CsvExporter(CsvItemExporter):
    """Cells that hold a list or an object are JSON; Scrapy writes Python's repr of them."""

    def serialize_field(self, field: Any, name: str, value: Any) -> Any:
        """The cell's text, or a plain value."""
        if isinstance(value, list | tuple | dict):
            return json.dumps(value, ensure_ascii=False)
        return super().serialize_field(field, name, value)
