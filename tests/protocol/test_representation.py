from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.protocol.representation import (
    ObjectFacts,
    ObjectKey,
    facts_from_headers,
    stored_coding,
)
from rangeserver.protocol.validators import EntityTag

NOW = 1_795_348_800
KEY = ObjectKey("film.mp4")
BARE = ObjectFacts(KEY, 1000, '"v1"')


def facts(**headers: str) -> ObjectFacts:
    fields = {"etag": '"v1"'} | {name.replace("_", "-"): value for name, value in headers.items()}
    return facts_from_headers(KEY, 1000, fields, now=NOW)


def test_every_field_is_taken_over() -> None:
    result = facts(
        last_modified="Sun, 06 Nov 1994 08:49:37 GMT",
        content_type="video/mp4",
        content_encoding="gzip",
        content_language="de",
        content_disposition="inline",
        cache_control="max-age=60, immutable",
        expires="Sun, 06 Nov 2094 08:49:37 GMT",
        content_length="5",
        content_range="bytes 0-4/1000",
    )
    assert result == ObjectFacts(
        key=KEY,
        size=1000,
        etag='"v1"',
        last_modified=784_111_777,
        content_type="video/mp4",
        content_encoding="gzip",
        content_language="de",
        content_disposition="inline",
        cache_control="max-age=60, immutable",
        expires="Sun, 06 Nov 2094 08:49:37 GMT",
    )


def test_absent_fields_are_none() -> None:
    assert facts() == BARE


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('"v1"', EntityTag("v1")),
        ('"md5-38"', EntityTag("md5-38")),
    ],
)
def test_entity_tag_is_kept_as_it_stands_on_the_wire(etag: str, expected: EntityTag) -> None:
    result = facts(etag=etag)
    assert result.etag == etag
    assert result.entity_tag == expected


@pytest.mark.parametrize(
    "etag", ["", "v1", 'W/"v1"', "*", '"a b"', '"caf\u00e9"', '"v1"\r\nX: y', '"a", "b"']
)
def test_entity_tag_that_cannot_pin_a_version_is_an_error(etag: str) -> None:
    with pytest.raises(ValueError, match="no strong entity tag"):
        facts(etag=etag)


def test_missing_entity_tag_is_an_error() -> None:
    with pytest.raises(ValueError, match="no strong entity tag: None"):
        facts_from_headers(KEY, 1000, {}, now=NOW)


@pytest.mark.parametrize(
    "value", ["", "  ", "a\r\nb", "a\x00b", "a\x1bb", "a\x7fb", "caf\u00e9", "\udcff"]
)
def test_value_that_cannot_be_sent_on_counts_as_absent(value: str) -> None:
    result = facts(
        content_type=value,
        content_encoding=value,
        content_language=value,
        cache_control=value,
        expires=value,
    )
    assert result == BARE


def test_blanks_around_a_value_are_dropped() -> None:
    assert facts(content_type=" video/mp4\t") == replace(BARE, content_type="video/mp4")


def test_disposition_is_kept_for_reading_whatever_it_holds() -> None:
    stored = 'attachment; filename="фильм.mp4"'
    assert facts(content_disposition=stored) == replace(BARE, content_disposition=stored)


@pytest.mark.parametrize("value", ["", "yesterday", "Sun, 06 Nov 1994 08:49:37 +0000"])
def test_modification_date_that_is_none_counts_as_absent(value: str) -> None:
    assert facts(last_modified=value) == BARE


CODINGS = {
    "absent": (None, None),
    "empty": ("", None),
    "gzip": ("gzip", "gzip"),
    "case is kept": ("GZIP", "GZIP"),
    "two": ("gzip, br", "gzip, br"),
    "two without a blank": ("gzip,br", "gzip, br"),
    "aws-chunked alone": ("aws-chunked", None),
    "aws-chunked in capitals": ("AWS-Chunked", None),
    "aws-chunked with a comma, as some clients send it": ("aws-chunked,", None),
    "aws-chunked first": ("aws-chunked,gzip", "gzip"),
    "aws-chunked last": ("gzip, aws-chunked", "gzip"),
    "aws-chunked between": ("gzip,\taws-chunked , br", "gzip, br"),
    "aws-chunked twice": ("aws-chunked, aws-chunked", None),
    "another name that begins so": ("aws-chunked-2", "aws-chunked-2"),
    "unsafe": ("gzip\r\nX: y", None),
}


@pytest.mark.parametrize(("value", "expected"), CODINGS.values(), ids=CODINGS)
def test_stored_coding(value: str | None, expected: str | None) -> None:
    headers = {} if value is None else {"content-encoding": value}
    assert stored_coding(headers) == expected
    read = facts_from_headers(KEY, 1000, headers | {"etag": '"v1"'}, now=NOW)
    assert read.content_encoding == expected


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "content-type",
                "content-encoding",
                "cache-control",
                "expires",
                "last-modified",
                "content-language",
                "content-disposition",
            ]
        ),
        st.text(st.characters(codec=None)),
    )
)
def test_any_header_fields_make_facts_that_can_be_sent(headers: dict[str, str]) -> None:
    read = facts_from_headers(KEY, 1000, headers | {"etag": '"v1"'}, now=NOW)
    for value in (
        read.content_type,
        read.content_encoding,
        read.content_language,
        read.cache_control,
        read.expires,
    ):
        assert value is None or (value and all(c == "\t" or " " <= c <= "~" for c in value))
