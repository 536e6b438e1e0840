from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.protocol.preconditions import (
    Conditions,
    Values,
    Verdict,
    evaluate,
    range_applies,
)
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.validators import format_http_date

NOW = 1_795_348_800
MODIFIED = NOW - 3600
FACTS = ObjectFacts(ObjectKey("film.mp4"), 1000, '"v1"', MODIFIED)
WEAK_FACTS = replace(FACTS, etag='W/"v1"')
UNDATED_FACTS = replace(FACTS, last_modified=None)

PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED

SAME = format_http_date(MODIFIED)
BEFORE = format_http_date(MODIFIED - 1)
AFTER = format_http_date(MODIFIED + 1)
FUTURE = format_http_date(NOW + 86_400)
RFC_850 = f"{datetime.fromtimestamp(MODIFIED, UTC):%A, %d-%b-%y %H:%M:%S GMT}"
ASCTIME = datetime.fromtimestamp(MODIFIED, UTC).ctime()


def verdict(facts: ObjectFacts = FACTS, /, **lines: str | Values) -> Verdict:
    values = {name: (line,) if isinstance(line, str) else line for name, line in lines.items()}
    return evaluate(Conditions(**values), facts, now=NOW)


IF_NONE_MATCH: dict[str, tuple[str | Values, Verdict]] = {
    "equal": ('"v1"', NOT_MODIFIED),
    "other": ('"v2"', PROCEED),
    "in a list": ('"v0", "v1"', NOT_MODIFIED),
    "not in a list": ('"v0", "v2"', PROCEED),
    "weak": ('W/"v1"', NOT_MODIFIED),
    "weak in a list": ('"v0",W/"v1"', NOT_MODIFIED),
    "star": ("*", NOT_MODIFIED),
    "star with blanks": (" * ", NOT_MODIFIED),
    "star in quotes is a tag": ('"*"', PROCEED),
    "comma inside a tag is data": ('"v0,v1"', PROCEED),
    "comma inside a tag before it": ('"a,b", "v1"', NOT_MODIFIED),
    "second line": (('"v0"', '"v1"'), NOT_MODIFIED),
    "first line": (('"v1"', '"v0"'), NOT_MODIFIED),
    "neither line": (('"v0"', '"v2"'), PROCEED),
    "no quotes": ("v1", PROCEED),
    "case differs": ('"V1"', PROCEED),
    "part of the tag": ('"v"', PROCEED),
    "nothing": ("", PROCEED),
    "malformed after it": ('"v1", v2', NOT_MODIFIED),
    "malformed before it": ('v2, "v1"', PROCEED),
}


@pytest.mark.parametrize(("lines", "expected"), IF_NONE_MATCH.values(), ids=IF_NONE_MATCH)
def test_if_none_match(lines: str | Values, expected: Verdict) -> None:
    assert verdict(if_none_match=lines) is expected


IF_MATCH: dict[str, tuple[str | Values, Verdict]] = {
    "equal": ('"v1"', PROCEED),
    "other": ('"v2"', FAILED),
    "in a list": ('"v0", "v1"', PROCEED),
    "not in a list": ('"v0", "v2"', FAILED),
    "weak": ('W/"v1"', FAILED),
    "star": ("*", PROCEED),
    "second line": (('"v0"', '"v1"'), PROCEED),
    "neither line": (('"v0"', '"v2"'), FAILED),
    "comma inside a tag is data": ('"v0,v1"', FAILED),
    "no quotes": ("v1", FAILED),
    "nothing": ("", FAILED),
    "malformed after it": ('"v1", v2', PROCEED),
    "malformed before it": ('v2, "v1"', FAILED),
}


@pytest.mark.parametrize(("lines", "expected"), IF_MATCH.values(), ids=IF_MATCH)
def test_if_match(lines: str | Values, expected: Verdict) -> None:
    assert verdict(if_match=lines) is expected


IF_MODIFIED_SINCE: dict[str, tuple[str | Values, Verdict]] = {
    "equal": (SAME, NOT_MODIFIED),
    "later": (AFTER, NOT_MODIFIED),
    "in the future": (FUTURE, NOT_MODIFIED),
    "earlier": (BEFORE, PROCEED),
    "RFC 850": (RFC_850, NOT_MODIFIED),
    "asctime": (ASCTIME, NOT_MODIFIED),
    "garbage": ("yesterday", PROCEED),
    "offset -0000": (SAME.replace("GMT", "-0000"), PROCEED),
    "nothing": ("", PROCEED),
    "two lines": ((SAME, SAME), PROCEED),
}


@pytest.mark.parametrize(("lines", "expected"), IF_MODIFIED_SINCE.values(), ids=IF_MODIFIED_SINCE)
def test_if_modified_since(lines: str | Values, expected: Verdict) -> None:
    assert verdict(if_modified_since=lines) is expected


IF_UNMODIFIED_SINCE: dict[str, tuple[str | Values, Verdict]] = {
    "equal": (SAME, PROCEED),
    "later": (AFTER, PROCEED),
    "earlier": (BEFORE, FAILED),
    "RFC 850": (RFC_850, PROCEED),
    "asctime": (ASCTIME, PROCEED),
    "asctime, earlier": (datetime.fromtimestamp(MODIFIED - 1, UTC).ctime(), FAILED),
    "garbage": ("yesterday", PROCEED),
    "nothing": ("", PROCEED),
    "two lines": ((BEFORE, BEFORE), PROCEED),
}


@pytest.mark.parametrize(
    ("lines", "expected"), IF_UNMODIFIED_SINCE.values(), ids=IF_UNMODIFIED_SINCE
)
def test_if_unmodified_since(lines: str | Values, expected: Verdict) -> None:
    assert verdict(if_unmodified_since=lines) is expected


def test_without_conditions_the_request_proceeds() -> None:
    assert verdict() is PROCEED


def test_true_if_match_hides_false_if_unmodified_since() -> None:
    assert verdict(if_match='"v1"', if_unmodified_since=BEFORE) is PROCEED


def test_false_if_match_is_not_saved_by_if_unmodified_since() -> None:
    assert verdict(if_match='"v2"', if_unmodified_since=AFTER) is FAILED


def test_if_none_match_without_match_hides_if_modified_since() -> None:
    assert verdict(if_none_match='"v2"', if_modified_since=AFTER) is PROCEED


def test_empty_if_none_match_hides_if_modified_since() -> None:
    assert verdict(if_none_match="", if_modified_since=AFTER) is PROCEED


def test_if_none_match_with_match_is_not_saved_by_if_modified_since() -> None:
    assert verdict(if_none_match='"v1"', if_modified_since=BEFORE) is NOT_MODIFIED


@pytest.mark.parametrize("failing", [{"if_match": '"v2"'}, {"if_unmodified_since": BEFORE}])
@pytest.mark.parametrize("unchanged", [{"if_none_match": '"v1"'}, {"if_modified_since": SAME}])
def test_failed_beats_not_modified(failing: dict[str, str], unchanged: dict[str, str]) -> None:
    assert verdict(**failing, **unchanged) is FAILED


def test_true_if_match_goes_on_to_if_none_match() -> None:
    assert verdict(if_match='"v1"', if_none_match='"v1"') is NOT_MODIFIED


def test_weak_object_never_matches_strongly() -> None:
    assert verdict(WEAK_FACTS, if_match='"v1"') is FAILED
    assert verdict(WEAK_FACTS, if_match='W/"v1"') is FAILED
    assert verdict(WEAK_FACTS, if_match="*") is PROCEED
    assert verdict(WEAK_FACTS, if_none_match='"v1"') is NOT_MODIFIED


def test_dates_count_for_nothing_when_the_object_has_none() -> None:
    assert verdict(UNDATED_FACTS, if_modified_since=AFTER) is PROCEED
    assert verdict(UNDATED_FACTS, if_unmodified_since=BEFORE) is PROCEED


IF_RANGE: dict[str, tuple[Values, bool]] = {
    "absent": ((), True),
    "equal tag": (('"v1"',), True),
    "other tag": (('"v2"',), False),
    "weak tag": (('W/"v1"',), False),
    "bare tag": (("v1",), False),
    "star": (("*",), False),
    "list": (('"v1", "v2"',), False),
    "list with the tag twice": (('"v1", "v1"',), False),
    "two lines": (('"v1"', '"v1"'), False),
    "nothing": (("",), False),
    "garbage": (("yesterday",), False),
    "equal date": ((SAME,), True),
    "equal date, RFC 850": ((RFC_850,), True),
    "equal date, asctime": ((ASCTIME,), True),
    "later date": ((AFTER,), False),
    "earlier date": ((BEFORE,), False),
    "future date": ((FUTURE,), False),
}


@pytest.mark.parametrize(("lines", "expected"), IF_RANGE.values(), ids=IF_RANGE)
def test_if_range(lines: Values, expected: bool) -> None:
    assert range_applies(Conditions(if_range=lines), FACTS, now=NOW) is expected


@pytest.mark.parametrize(("age", "expected"), [(-1, False), (0, False), (1, True), (60, True)])
def test_date_is_a_strong_validator_only_after_a_second(age: int, expected: bool) -> None:
    conditions = Conditions(if_range=(SAME,))
    assert range_applies(conditions, FACTS, now=MODIFIED + age) is expected


def test_if_range_never_matches_a_weak_object_by_tag() -> None:
    assert not range_applies(Conditions(if_range=('W/"v1"',)), WEAK_FACTS, now=NOW)
    assert not range_applies(Conditions(if_range=('"v1"',)), WEAK_FACTS, now=NOW)


def test_if_range_date_is_false_when_the_object_has_none() -> None:
    assert not range_applies(Conditions(if_range=(SAME,)), UNDATED_FACTS, now=NOW)


# An oracle that works on what the fields mean and follows RFC 9110 §13.2.2 word by word.


@dataclass(frozen=True)
class Tags:
    """What If-Match or If-None-Match says: ``None`` for ``*``, else (opaque, weak) pairs."""

    members: tuple[tuple[str, bool], ...] | None

    def lines(self, split: int) -> Values:
        if self.members is None:
            return ("*",)
        texts = [("W/" if weak else "") + f'"{opaque}"' for opaque, weak in self.members]
        groups = [texts[:split], texts[split:]]
        return tuple(", ".join(group) for group in groups if group) or ("",)


@dataclass(frozen=True)
class Request:
    if_match: Tags | None
    if_unmodified_since: int | None
    if_none_match: Tags | None
    if_modified_since: int | None


def expected_verdict(request: Request, opaque: str, *, weak: bool, modified: int | None) -> Verdict:
    # 1. When If-Match is present, evaluate it: if false, respond 412.
    if request.if_match is not None:
        members = request.if_match.members
        if members is not None and (weak or (opaque, False) not in members):
            return FAILED
    # 2. When it is not and If-Unmodified-Since is, evaluate that: if false, respond 412.
    since = request.if_unmodified_since
    if request.if_match is None and since is not None and modified is not None and modified > since:
        return FAILED
    # 3. When If-None-Match is present, evaluate it: if false for GET or HEAD, respond 304.
    if request.if_none_match is not None:
        members = request.if_none_match.members
        if members is None or opaque in {tag for tag, _ in members}:
            return NOT_MODIFIED
    # 4. When it is not and If-Modified-Since is, evaluate that: if false, respond 304.
    since = request.if_modified_since
    if request.if_none_match is None and since is not None and modified is not None:
        return NOT_MODIFIED if modified <= since else PROCEED
    return PROCEED


opaques = st.sampled_from(["v1", "v2", "v1,v2", ""])
tag_fields = st.one_of(
    st.none(),
    st.just(Tags(None)),
    st.builds(Tags, st.lists(st.tuples(opaques, st.booleans()), max_size=3).map(tuple)),
)
dates = st.one_of(st.none(), st.integers(MODIFIED - 2, MODIFIED + 2))


def date_lines(seconds: int | None, form: int) -> Values:
    if seconds is None:
        return () if form else ("no date",)
    moment = datetime.fromtimestamp(seconds, UTC)
    forms = (format_http_date(seconds), f"{moment:%A, %d-%b-%y %H:%M:%S GMT}", moment.ctime())
    return (forms[form],)


@given(
    request=st.builds(Request, tag_fields, dates, tag_fields, dates),
    opaque=opaques,
    weak=st.booleans(),
    modified=st.one_of(st.none(), st.just(MODIFIED)),
    split=st.integers(0, 3),
    form=st.integers(0, 2),
)
def test_verdict_is_what_the_rfc_says_step_by_step(
    request: Request, opaque: str, weak: bool, modified: int | None, split: int, form: int
) -> None:
    etag = ("W/" if weak else "") + f'"{opaque}"'
    facts = ObjectFacts(ObjectKey("film.mp4"), 1000, etag, modified)
    conditions = Conditions(
        if_match=request.if_match.lines(split) if request.if_match else (),
        if_unmodified_since=date_lines(request.if_unmodified_since, form),
        if_none_match=request.if_none_match.lines(split) if request.if_none_match else (),
        if_modified_since=date_lines(request.if_modified_since, form),
    )
    expected = expected_verdict(request, opaque, weak=weak, modified=modified)
    assert evaluate(conditions, facts, now=NOW) is expected


anything = st.lists(
    st.one_of(st.text(max_size=20), st.sampled_from(["*", '"v1"', SAME])), max_size=3
)


@given(anything, anything, anything, anything, anything)
def test_any_text_is_decided(
    match: list[str],
    none_match: list[str],
    since: list[str],
    unmodified: list[str],
    if_range: list[str],
) -> None:
    conditions = Conditions(
        if_match=tuple(match),
        if_none_match=tuple(none_match),
        if_modified_since=tuple(since),
        if_unmodified_since=tuple(unmodified),
        if_range=tuple(if_range),
    )
    assert isinstance(evaluate(conditions, FACTS, now=NOW), Verdict)
    applies = range_applies(conditions, FACTS, now=NOW)
    assert applies is (if_range in ([], ['"v1"'], [SAME]))
