"""The tables of the status page, as text."""

from __future__ import annotations

import re
from html import unescape


def rows(page: str) -> list[dict[str, str]]:
    """Every row of every table: the cells' text by the names of their columns."""
    return [
        {name: _text(html) for name, html in _CELL.findall(row)}
        for row in page.split("<tr>")
        if _CELL.search(row)
    ]


_CELL = re.compile(r'<td(?: class="[a-z]+")? data-name="([^"]+)">(.*?)</td>')


def _text(html: str) -> str:
    return unescape(re.sub("<[^>]*>", "", html)).replace("\xa0", " ")
