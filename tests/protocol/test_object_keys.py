from __future__ import annotations

import string
import unicodedata
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rangeserver.errors import BadRequest, KeyTooLong
from rangeserver.protocol.object_keys import (
    MAX_KEY_BYTES,
    check_length,
    named_by,
    object_key,
    split_target,
)

TARGETS = {
    "origin form": ("/a/b", ("/a/b", "")),
    "query": ("/a?x=y&z", ("/a", "x=y&z")),
    "second question mark": ("/a?x?y", ("/a", "x?y")),
    "empty query": ("/a?", ("/a", "")),
    "root": ("/", ("/", "")),
    "escapes stay": ("/a%2Fb%3f?%20", ("/a%2Fb%3f", "%20")),
    "two slashes are no authority": ("//host/a", ("//host/a", "")),
    "absolute form": ("http://host:80/a?x", ("/a", "x")),
    "absolute form, other host": ("https://user@[::1]/a", ("/a", "")),
    "absolute form in upper case": ("HTTP://HOST/a", ("/a", "")),
    "absolute form without a path": ("http://host", ("/", "")),
    "absolute form with only a query": ("http://host?x", ("/", "x")),
    "a URL inside the path": ("/http://host/a", ("/http://host/a", "")),
}


@pytest.mark.parametrize(("target", "expected"), TARGETS.values(), ids=TARGETS)
def test_split_target(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "a",
        "?x",
        "host:443",
        "ftp://host/a",
        "http:/a",
        "http\u017f://h/a",
        "/a#b",
        "/a?b#c",
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        split_target(target)


KEYS = {
    "plain": ("/films/a.mp4", "films/a.mp4"),
    "space": ("/a%20b", "a b"),
    "raw space": ("/a b", "a b"),
    "plus": ("/a+b", "a+b"),
    "escaped plus": ("/a%2Bb", "a+b"),
    "semicolon": ("/a;b=c", "a;b=c"),
    "escaped number sign": ("/a%23b", "a#b"),
    "escaped question mark": ("/a%3Fb", "a?b"),
    "percent": ("/100%25", "100%"),
    "UTF-8": ("/%D1%84.mp4", "ф.mp4"),
    "UTF-8 in lower case": ("/%d1%84.mp4", "ф.mp4"),
    "raw UTF-8": ("/ф.mp4", "ф.mp4"),
    "raw UTF-8 as aiohttp hands it over": ("/\udcd1\udc84.mp4", "ф.mp4"),
    "beyond the basic plane": ("/%F0%9F%8E%AC", "🎬"),
    "not normalised": ("/e%CC%81", "e\u0301"),
    "unreserved characters escaped": ("/%61%2Emp4", "a.mp4"),
    "escaped slash": ("/a%2Fb", "a/b"),
    "decoded once": ("/a%252Fb", "a%2Fb"),
    "decoded once, control": ("/a%2500b", "a%00b"),
    "decoded once, not UTF-8": ("/a%25ffb", "a%ffb"),
    "two slashes": ("/a//b", "a//b"),
    "leading slash": ("//a", "/a"),
    "leading slash, escaped": ("/%2Fa", "/a"),
    "trailing slash": ("/a/", "a/"),
    "empty": ("/", ""),
    "dots in names": ("/.a/b./..c/d../...", ".a/b./..c/d../..."),
    "1024 bytes": ("/" + "a" * 1024, "a" * 1024),
    "1024 bytes, escaped": ("/" + "%61" * 1024, "a" * 1024),
    "1024 bytes of UTF-8": ("/" + "%D1%84" * 512, "ф" * 512),
}


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/a/b.mp4", "a/b.mp4"),
        ("/a?token=secret", "a"),
        ("/a#secret", "a"),
        ("//x/a@b", "/x/a@b"),
        ("http://user:secret@host/a?token=secret", "a"),
        ("HTTPS://user:secret@host", ""),
        ("ftp://user:secret@host/a", "a"),
        ("user:secret@host:443", "host:443"),
        ("*", "*"),
        ("/" + 600 * "x", 511 * "x"),
    ],
)
def test_what_the_log_is_told_has_no_secret(target: str, logged: str) -> None:
    assert named_by(target) == logged


@pytest.mark.parametrize(("path", "expected"), KEYS.values(), ids=KEYS)
def test_object_key(path: str, expected: str) -> None:
    assert object_key(path) == expected


REFUSED = {
    "NUL": "/a%00",
    "raw NUL": "/a\x00",
    "CR LF": "/a%0d%0aX:y",
    "tab": "/a%09b",
    "DEL": "/a%7F",
    "C1 control": "/a%C2%85b",
    "backslash": "/a%5Cb",
    "raw backslash": "/a\\b",
    "backslash traversal": "/..%5C..%5Ca",
    "not hexadecimal": "/%zz",
    "half an escape": "/a%2",
    "percent at the end": "/a%",
    "escape with a sign": "/a%+1",
    "escape with fullwidth digits": "/a%\uff12\uff10",
    "not UTF-8": "/%ff",
    "half a character": "/%D1",
    "surrogate": "/%ed%a0%80",
    "overlong slash": "/..%c0%af",
    "overlong dot": "/%c0%ae%c0%ae/a",
    "beyond Unicode": "/%f4%90%80%80",
    "raw byte that is not UTF-8": "/a\udcff",
    "surrogate in the text": "/a\ud800",
    "dot dot": "/../a",
    "dot dot inside": "/a/../b",
    "dot dot at the end": "/a/..",
    "dot dot alone": "/..",
    "dot dot, escaped": "/%2e%2E/a",
    "dot dot, half escaped": "/a/.%2e/b",
    "dot dot behind an escaped slash": "/a%2F..%2Fb",
    "dot dot behind two slashes": "//../a",
    "dot": "/./a",
    "dot inside": "/a/./b",
    "dot at the end": "/a/.",
    "dot, escaped": "/a/%2e",
    "dot dot, escaped twice": "/%252e%252e/a",
    "dot dot behind a slash escaped twice": "/a%252F..%252Fb",
    "dot dot behind a backslash escaped twice": "/a%255C..%255Cb",
}


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_differently_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        object_key(path)


@pytest.mark.parametrize(
    "path", ["/" + "a" * 1025, "/" + "%61" * 1025, "/" + "ф" * 513, "/" + "a" * 20_000]
)
def test_key_above_the_limit_is_too_long(path: str) -> None:
    with pytest.raises(KeyTooLong):
        check_length(object_key(path), prefix="")


def test_prefix_counts_towards_the_limit_and_is_no_part_of_the_key() -> None:
    prefix = "фильмы/"
    room = MAX_KEY_BYTES - len(prefix.encode())
    check_length("a" * room, prefix=prefix)
    with pytest.raises(KeyTooLong):
        check_length("a" * (room + 1), prefix=prefix)


def has_dot_segment(text: str) -> bool:
    again = unquote_to_bytes(text).decode("utf-8", "replace")
    padded = [f"/{reading}/".replace("\\", "/") for reading in (text, again)]
    return any(segment in reading for reading in padded for segment in ("/./", "/../"))


def is_legal(key: str) -> bool:
    if any(unicodedata.category(c) in {"Cc", "Cs"} or c == "\\" for c in key):
        return False
    return len(key.encode()) <= MAX_KEY_BYTES and not has_dot_segment(key)


keys = st.one_of(
    st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\\")),
    st.text("a./%2eEfF+ ?#&é🎬", max_size=30),
    st.text("é🎬a", min_size=250, max_size=600),
).filter(is_legal)


@given(key=keys, safe=st.sampled_from(["", "/", "/+;=&@!~", string.punctuation.replace("%", "")]))
@example(key="a+b c%2F;#?", safe="/")
def test_every_spelling_of_a_legal_key_names_it(key: str, safe: str) -> None:
    assert object_key("/" + quote(key, safe=safe)) == key
    assert object_key("/" + "".join(f"%{byte:02x}" for byte in key.encode())) == key
    assert object_key("/" + key.replace("%", "%25")) == key


pieces = st.sampled_from(
    [
        *["a", "/", ".", "..", "%2e", "%2F", "%5c", "\\", "%25", "%00", "%7f", "%c2%85", "%ff"],
        *["%ed%a0%80", "%", "2", "e", "é", "+", "?", "\udce9", "\ud800", "a" * 600],
    ]
)
paths = st.one_of(
    st.text(st.characters(codec=None)),
    st.lists(pieces, max_size=12).map("".join),
    st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.binary(max_size=40).map(lambda raw: "".join(f"%{byte:02X}" for byte in raw)),
).map(lambda text: "/" + text)


@given(path=paths)
def test_any_path_is_a_legal_key_or_refused(path: str) -> None:
    try:
        key = object_key(path)
        check_length(key, prefix="")
    except (BadRequest, KeyTooLong):
        return
    assert is_legal(key)
    # One URL, one key: the bytes are those of the path, decoded once.
    raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    assert raw == b"/" + key.encode()


@given(key=st.text(st.characters(codec=None), max_size=20).filter(lambda key: not is_legal(key)))
def test_any_illegal_key_is_refused(key: str) -> None:
    with pytest.raises(BadRequest):
        object_key("/" + quote(key, errors="surrogatepass"))


@given(st.one_of(st.text(st.characters(codec=None)), st.text("htps:/?#a*", max_size=20)))
def test_any_target_is_split_or_refused(target: str) -> None:
    try:
        path, query = split_target(target)
    except BadRequest:
        return
    assert path.startswith("/")
    assert "?" not in path
    assert "#" not in path + query
