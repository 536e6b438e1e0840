from __future__ import annotations

import re
import unicodedata
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.protocol.disposition import content_disposition, read_disposition, safe_filename

NAMES = {
    "plain": ("film.mp4", "film.mp4"),
    "last segment of a key": ("films/2026/film.mp4", "film.mp4"),
    "last segment of a Windows path": ("C:\\films\\film.mp4", "film.mp4"),
    "traversal": ("../../etc/passwd", "passwd"),
    "mixed separators": ("..\\../film.mp4", "film.mp4"),
    "blanks around": ("  film.mp4 ", "film.mp4"),
    "blanks inside": ("my film.mp4", "my film.mp4"),
    "CR, LF and NUL": ("fi\r\nlm\x00.mp4", "film.mp4"),
    "C1 controls and DEL": ("fi\x7f\x85lm.mp4", "film.mp4"),
    "line separators": ("fi\u2028\u2029lm.mp4", "film.mp4"),
    "reading direction": ("film\u202e4pm.exe", "film4pm.exe"),
    "isolates": ("\u2066film\u2069.mp4", "film.mp4"),
    "lone surrogate": ("fi\udc80lm.mp4", "film.mp4"),
    "Cyrillic": ("фильм.mp4", "фильм.mp4"),
    "beyond the basic plane": ("🎬.mp4", "🎬.mp4"),
    "dot file": (".profile", ".profile"),
    "three dots": ("...", "..."),
    "nothing": ("", ""),
    "trailing slash": ("films/", ""),
    "dot": ("a/.", ""),
    "dot dot": ("a/..", ""),
    "dot dot behind controls": (".\x00.", ""),
    "dot dot between blanks": (" .. ", ""),
    "blanks only": ("   ", ""),
    "controls only": ("\r\n\t", ""),
    "255 bytes": ("a" * 251 + ".mp4", "a" * 251 + ".mp4"),
    "256 bytes keep the extension": ("a" * 252 + ".mp4", "a" * 251 + ".mp4"),
    "cut between characters": ("я" * 200 + ".mp4", "я" * 125 + ".mp4"),
    "no extension": ("a" * 300, "a" * 255),
    "extension of 16": ("a" * 300 + "." + "b" * 16, "a" * 238 + "." + "b" * 16),
    "extension of 17": ("a" * 300 + "." + "b" * 17, "a" * 255),
    "too long an extension": ("a." + "b" * 300, "a." + "b" * 253),
    "cut before a blank": ("." + " " * 254 + "a" * 9, ""),
    "long hidden name": ("." + "b" * 300, "." + "b" * 254),
}


@pytest.mark.parametrize(("name", "expected"), NAMES.values(), ids=NAMES)
def test_safe_filename(name: str, expected: str) -> None:
    assert safe_filename(name) == expected


WRITTEN = {
    "plain": ("film.mp4", 'attachment; filename="film.mp4"'),
    "no name": ("", "attachment"),
    "blanks and separators": ("a b;c,d'.mp4", 'attachment; filename="a b;c,d\'.mp4"'),
    "non-ASCII": (
        "naïve.mp4",
        "attachment; filename=\"na_ve.mp4\"; filename*=UTF-8''na%C3%AFve.mp4",
    ),
    "beyond the basic plane": (
        "🎬.mp4",
        "attachment; filename=\"_.mp4\"; filename*=UTF-8''%F0%9F%8E%AC.mp4",
    ),
    "quote": ('a"b', "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"),
    "percent, which some decode": (
        "a%20b",
        "attachment; filename=\"a_20b\"; filename*=UTF-8''a%2520b",
    ),
    "what attr-char has and has not": (
        "é!#$&+-.^_`|~ *'()@,;:",
        'attachment; filename="_!#$&+-.^_`|~ *\'()@,;:"; '
        "filename*=UTF-8''%C3%A9!#$&+-.^_`|~%20%2A%27%28%29%40%2C%3B%3A",
    ),
}


@pytest.mark.parametrize(("name", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_written_disposition(name: str, expected: str) -> None:
    assert content_disposition("attachment", name) == expected


def test_kind_is_written_as_given() -> None:
    assert content_disposition("inline", "a.mp4") == 'inline; filename="a.mp4"'


STORED = {
    "kind alone": ("attachment", ("attachment", "")),
    "inline": ("inline", ("inline", "")),
    "kind in upper case": ("ATTACHMENT", ("attachment", "")),
    "semicolon at the end": ("inline;", ("inline", "")),
    "quoted": ('attachment; filename="film.mp4"', ("attachment", "film.mp4")),
    "token": ("attachment; filename=film.mp4", ("attachment", "film.mp4")),
    "no blank": ("attachment;filename=film.mp4", ("attachment", "film.mp4")),
    "blanks everywhere": (' attachment ; filename = "film.mp4" ; x ', ("attachment", "film.mp4")),
    "name with blanks and no quotes": (
        "attachment; filename=my film.mp4",
        ("attachment", "my film.mp4"),
    ),
    "parameter in upper case": ('attachment; FILENAME="film.mp4"', ("attachment", "film.mp4")),
    "semicolon and escaped quote": (
        r'attachment; filename="a;\"b\".mp4"',
        ("attachment", 'a;"b".mp4'),
    ),
    "escaped backslash": (r'attachment; filename="a\\b.mp4"', ("attachment", "b.mp4")),
    "Windows path": (r'attachment; filename="C:\dir\film.mp4"', ("attachment", "film.mp4")),
    "traversal": ('attachment; filename="../../x"', ("attachment", "x")),
    "raw UTF-8": ('attachment; filename="фильм.mp4"', ("attachment", "фильм.mp4")),
    "header injection": ('attachment; filename="a\r\nX: y"', ("attachment", "aX: y")),
    "extended": ("attachment; filename*=UTF-8''na%C3%AFve.mp4", ("attachment", "naïve.mp4")),
    "extended wins, last": (
        "attachment; filename=\"na_ve.mp4\"; filename*=UTF-8''na%C3%AFve.mp4",
        ("attachment", "naïve.mp4"),
    ),
    "extended wins, first": (
        "attachment; filename*=utf-8'en'na%C3%AFve.mp4; filename=na_ve.mp4",
        ("attachment", "naïve.mp4"),
    ),
    "extended in Latin-1": ("inline; filename*=ISO-8859-1''na%EFve.mp4", ("inline", "naïve.mp4")),
    "extended, not UTF-8": (
        "attachment; filename*=UTF-8''na%EFve.mp4; filename=b.mp4",
        ("attachment", "b.mp4"),
    ),
    "extended, controls": ("attachment; filename*=UTF-8''a%0D%0A%00b", ("attachment", "ab")),
    "extended, path": ("attachment; filename*=UTF-8''..%2F..%5Cb", ("attachment", "b")),
    "extended, no charset": ("attachment; filename*=b.mp4", ("attachment", "")),
    "charset that is a codec of Python": (
        "attachment; filename*=idna''a..b; filename=c",
        ("attachment", "c"),
    ),
    "charset that always fails": ("attachment; filename*=undefined''x", ("attachment", "")),
    "continuation": ("attachment; filename*=UTF-8''a; filename*0=b", ("attachment", "a")),
    "continuation with 5000 digits": (f"attachment; filename*{'9' * 5000}=b", ("attachment", "")),
    "first of two names": ("attachment; filename=a; filename=b", ("attachment", "a")),
    "other parameters": ('attachment; size=5; x="a;b"; filename=c', ("attachment", "c")),
    "empty parameters": ("attachment;; ;filename=a", ("attachment", "a")),
    "quote that stays open": ('attachment; filename="film.mp4', ("attachment", "")),
    "text behind a quoted name": ('attachment; filename="a"b; filename=c', ("attachment", "")),
    "malformed parameter": ("attachment; a b; filename=c", ("attachment", "")),
    "no kind": ("filename=film.mp4", None),
    "other kind": ('form-data; name="x"; filename="y"', None),
    "kind and a word": ("attachment film.mp4", None),
    "kind as a prefix": ("attachments; filename=a", None),
    "kind with a dotless i": ("\u0131nline", None),
    "nothing": ("", None),
    "semicolon alone": (";", None),
}


@pytest.mark.parametrize(("stored", "expected"), STORED.values(), ids=STORED)
def test_read_disposition(stored: str, expected: tuple[str, str] | None) -> None:
    assert read_disposition(stored) == expected


names = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.text("a/\\.\"%;' \r\n\x00é🎬\u202e", max_size=40),
    st.text("aé🎬.", min_size=100, max_size=300),
)


@given(name=names)
def test_safe_name_has_nothing_unsafe_and_is_its_own_safe_name(name: str) -> None:
    safe = safe_filename(name)
    assert len(safe.encode()) <= 255
    assert not set(safe) & set("/\\")
    assert safe not in {".", ".."}
    assert all(unicodedata.category(c) not in {"Cc", "Cs", "Zl", "Zp"} for c in safe)
    assert all(unicodedata.bidirectional(c) not in {"RLO", "LRO", "RLE", "LRE"} for c in safe)
    assert safe_filename(safe) == safe


@given(name=names)
def test_written_value_is_printable_ascii_and_other_parsers_read_the_name(name: str) -> None:
    safe = safe_filename(name)
    value = content_disposition("attachment", safe)
    assert all(" " <= character <= "~" for character in value)
    message = Message()
    message["Content-Disposition"] = value
    assert message.get_content_disposition() == "attachment"
    extended = re.search(r"; filename\*=UTF-8''([!#$&+.^_`|~0-9A-Za-z%-]+)$", value)
    if extended is not None:
        assert unquote(extended[1], errors="strict") == safe
        assert len(message.get_filename() or "") == len(safe)
    else:
        assert (message.get_filename() or "") == safe


@given(kind=st.sampled_from(["attachment", "inline"]), name=names)
def test_what_was_written_is_read_back(kind: str, name: str) -> None:
    safe = safe_filename(name)
    assert read_disposition(content_disposition(kind, safe)) == (kind, safe)


fragments = st.sampled_from(
    [
        *["attachment", "inline", "filename", "filename*", "*0", "=", ";", '"', "\\", " ", "\t"],
        *["UTF-8''", "idna''", "%C3", "%A9", "%zz", "a.b", "é", "\udc80", "\r\n"],
    ]
)


@given(st.one_of(st.text(st.characters(codec=None)), st.lists(fragments, max_size=20).map("".join)))
def test_any_stored_text_is_rewritten_safely_or_dropped(stored: str) -> None:
    read = read_disposition(stored)
    if read is None:
        return
    kind, name = read
    assert kind in {"attachment", "inline"}
    assert safe_filename(name) == name
    assert all(" " <= character <= "~" for character in content_disposition(kind, name))
