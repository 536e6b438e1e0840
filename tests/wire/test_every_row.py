"""Every row of the wire table has a test: the list, from which no row can be lost silently."""

from __future__ import annotations

import importlib
import pkgutil

import tests.wire
from tests.wire.table import COVERED

ROWS = """
1-no-range            the whole object
1-first-last          a range with both ends
1-zero-based          the first byte, the first two
1-open-end            from here on
1-suffix              the last bytes
1-suffix-too-long     more last bytes than there are
1-suffix-zero         the last no bytes
1-start-beyond        begins after the end
1-stop-beyond         ends after the end
1-all-of-it           all of it, asked as a range
1-reversed            ends before it begins
1-garbage             no range at all
1-other-unit          seconds and the like
1-unit-case           bytes in capitals
1-blanks-at-commas    blanks where a list allows them
1-blanks-inside       blanks where it does not
1-empty-members       commas with nothing between
1-huge                numbers beyond 64 bits
1-5000-digits         numbers beyond what int() takes
1-leading-zeros       zeros in front
1-signs               plus signs
1-underscores         what int() takes and HTTP does not
1-unicode-digits      digits of other scripts
1-newline             a line break in the value
1-two-lines           the field twice
1-range-on-head       by HEAD
1-range-on-others     by POST and others

2-two                 two ranges
2-framing             each byte of a multipart answer
2-one-unsatisfiable   one lies outside
2-none-satisfiable    all lie outside
2-one-malformed       one is garbage
2-one-reversed        one is reversed
2-coalesced           overlaps and small gaps
2-descending          not in the object's order
2-sum-beyond          together more than there is
2-many-tiny           many small ones
2-killer              known attacks
2-if-range            with a condition

3-get                 nothing, asked plainly
3-from-zero           nothing, from its first byte
3-suffix              nothing, its last byte
3-inside              nothing, its middle
3-minus-one           nothing, as 0 to size - 1

4-order               which condition goes first
4-if-none-match       not this version
4-if-none-match-lines the same on two lines
4-if-match            only this version
4-if-modified-since   only if newer
4-if-unmodified-since only if not newer
4-date-forms          the three ways to write a date
4-304-fields          what a 304 carries
4-precedence          304, 412, 206 and 416
4-missing             conditions on what is not there
4-if-range-equal      a range of this version
4-if-range-other      of another version
4-if-range-weak       of a version as good as
4-if-range-date       of a date
4-if-range-date-later of a later date
4-if-range-garbage    of nothing sensible
4-if-range-false      of another version, and a bad range
4-if-range-alone      without a range
4-etag                the entity tag as S3 wrote it
4-whole-seconds       no fractions of seconds

5-head                HEAD is GET without a body
5-writing             POST, PUT, DELETE, PATCH
5-other-methods       TRACE, CONNECT, unknown ones
5-options             OPTIONS
5-accept-ranges       ranges are announced
5-206-metadata        a part's fields are the whole's
5-content-range-elsewhere  not where it does not belong
5-cache-control       caching fields
5-dates               Date and Last-Modified
5-content-encoding    a stored coding
5-no-compression      no coding of our own
5-expect              100-continue
5-disposition         names of downloads
5-injection           line breaks and controls where they could do harm
5-query               parameters that S3 would act upon

6-characters          escapes, and characters of all kinds
6-plus                a plus sign
6-escaped-slash       a slash that is escaped, once or twice
6-nul                 NUL
6-undecodable         bad escapes, bytes that are not UTF-8
6-dot-segments        one dot, two dots
6-slashes             slashes together
6-trailing-slash      a slash at the end
6-empty               no key
6-long                more bytes than a key may have
6-long-line           more than a line may have

7-http-1.0            old clients
7-keep-alive          the connection stays
7-pipelining          requests before answers
7-request-body        a body where none is due
7-content-length      a length, never chunks
7-origin-dies         the origin breaks off
7-origin-short        the origin ends early
7-versions            the object is replaced meanwhile
7-client-gone         the client leaves

8-safari              Safari and QuickTime
8-chrome              Chrome, playing and seeking
8-if-match            Chrome and readers of PDF
8-gstreamer           GStreamer
8-resume              curl and wget, going on
8-many-ranges         Adobe Reader
8-naive               those who compute 0 to size - 1
8-part-wise           those who ask for 8 MiB of anything
"""

EVERY_ROW = [line.split()[0] for line in ROWS.splitlines() if line]
ROWS_OF_SECTIONS = [27, 12, 5, 20, 15, 11, 9, 8]


def test_every_row_has_a_test() -> None:
    for module in pkgutil.iter_modules(tests.wire.__path__):
        importlib.import_module(f"tests.wire.{module.name}")
    covered = {row for row in COVERED if not row.startswith("extra-")}
    assert covered == set(EVERY_ROW)


def test_the_list_is_whole() -> None:
    """As many rows as the table has in each of its sections, each once."""
    assert len(set(EVERY_ROW)) == len(EVERY_ROW)
    sections = [int(row[0]) for row in EVERY_ROW]
    assert [sections.count(number) for number in range(1, 9)] == ROWS_OF_SECTIONS
