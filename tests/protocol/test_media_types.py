from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rangeserver.config import AccessConfig
from rangeserver.protocol.media_types import FALLBACK, essence, may_show_inline, media_type

INLINE = AccessConfig().inline_types

TYPES: dict[str, tuple[str, str | None, str]] = {
    "stored": ("film.mp4", "video/webm", "video/webm"),
    "stored with parameters": ("a", 'video/mp4; codecs="avc1"', 'video/mp4; codecs="avc1"'),
    "stored and unknown": ("film.mp4", "x/y", "x/y"),
    "not stored": ("film.mp4", None, "video/mp4"),
    "stored empty": ("film.mp4", "", "video/mp4"),
    "S3's default": ("film.mp4", "binary/octet-stream", "video/mp4"),
    "default in upper case": ("film.mp4", "Application/Octet-Stream", "video/mp4"),
    "default with a parameter": ("film.mp4", "binary/octet-stream; x=y", "video/mp4"),
    "extension in upper case": ("FILM.MP4", None, "video/mp4"),
    "last extension counts": ("film.mp4.html", None, "text/html"),
    "playlist": ("live/index.m3u8", None, "application/vnd.apple.mpegurl"),
    "segment": ("live/1.ts", None, "video/mp2t"),
    "subtitles": ("film.vtt", None, "text/vtt; charset=utf-8"),
    "hidden file": (".mp4", None, "video/mp4"),
    "unknown extension": ("film.xyz", None, FALLBACK),
    "no extension": ("film", None, FALLBACK),
    "name of an extension without its dot": ("mp4", None, FALLBACK),
    "dot at the end": ("film.", None, FALLBACK),
    "dot in a folder": ("v1.mp4/film", None, FALLBACK),
    "empty key": ("", None, FALLBACK),
}


@pytest.mark.parametrize(("key", "stored", "expected"), TYPES.values(), ids=TYPES)
def test_media_type(key: str, stored: str | None, expected: str) -> None:
    assert media_type(key, stored) == expected


def test_essence_has_no_parameters_blanks_or_capitals() -> None:
    assert essence(" Text/HTML ; charset=utf-8") == "text/html"


SHOWN = [
    "video/mp4",
    "VIDEO/MP4",
    'video/mp4; codecs="avc1.42E01E, mp4a.40.2"',
    "video/mp4 ; codecs=avc1;",
    "audio/mpeg",
    "image/png",
    "text/plain; charset=utf-8",
    "text/vtt",
    "application/json",
    "application/vnd.apple.mpegurl",
    "application/dash+xml",
]

DOWNLOADED = [
    "text/html",
    "Text/HTML; charset=utf-8",
    "image/svg+xml",
    "IMAGE/SVG+XML",
    "image/svg+xml; charset=utf-8",
    "image/x-anything+xml",
    "application/xml",
    "text/xml",
    "application/xhtml+xml",
    "text/css",
    "text/javascript",
    "application/pdf",
    "application/octet-stream",
    "multipart/x-mixed-replace",
    "message/rfc822",
    "image/png, text/html",
    "image/png;, text/html",
    'image/png; x="a", text/html',
    'image/png; x="a, text/html',
    "image/png text/html",
    "image/png; charset",
    "image/",
    "image",
    "/png",
    "*/*",
    "",
]


@pytest.mark.parametrize("content_type", SHOWN)
def test_passive_types_show_inline(content_type: str) -> None:
    assert may_show_inline(content_type, INLINE)


@pytest.mark.parametrize("content_type", DOWNLOADED)
def test_types_that_may_carry_script_or_are_malformed_do_not_show(content_type: str) -> None:
    assert not may_show_inline(content_type, INLINE)


def test_type_shows_only_where_it_is_listed() -> None:
    assert not may_show_inline("video/mp4", ["audio/*"])
    assert may_show_inline("video/mp4", ["video/mp4"])
    assert not may_show_inline("video/webm", ["video/mp4"])
    assert may_show_inline("image/svg+xml", ["image/svg+xml"])
    assert not may_show_inline("video/mp4", [])


def type_browsers_see(content_type: str) -> str | None:
    """WHATWG Fetch, "extract a MIME type": of several values the last that can be read."""
    values = re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", content_type.replace('\\"', ""))
    seen = None
    for value in values:
        kind = value.split(";")[0].strip(" \t").lower()
        if re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+/[a-z0-9!#$%&'*+.^_`|~-]+", kind):
            seen = kind if kind != "*/*" else seen
    return seen


fragments = st.sampled_from(
    ["image/png", "text/html", "image/svg+xml", "video/mp4", "a=b", "x=", ",", ";", '"', "\\", " "]
)


@given(st.lists(fragments, max_size=10).map("".join))
@example("image/png,text/html")
@example('image/png;x="\\",text/html"')
def test_no_browser_sees_an_active_type_in_what_may_show(content_type: str) -> None:
    if may_show_inline(content_type, INLINE):
        assert type_browsers_see(content_type) in {"image/png", "video/mp4"}
