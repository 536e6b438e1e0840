from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rangeserver.protocol.mounts import MountTable

TABLE = MountTable((path, path) for path in ("/x/", "/x/y/", "/z/deep/down/", "/ф/"))

FOUND = {
    "below": ("x/a.mp4", ("/x/", "a.mp4")),
    "the path itself": ("x/", ("/x/", "")),
    "without its slash": ("x", None),
    "a name that begins like it": ("xa/b", None),
    "the longer one": ("x/y/a", ("/x/y/", "a")),
    "the longer one without its slash": ("x/y", ("/x/", "y")),
    "beside the longer one": ("x/z/a", ("/x/", "z/a")),
    "not all the way": ("z/deep/a", None),
    "all the way": ("z/deep/down/a/b", ("/z/deep/down/", "a/b")),
    "two slashes": ("x//a", ("/x/", "/a")),
    "a leading slash": ("/x/a", None),
    "other letters": ("ф/a", ("/ф/", "a")),
    "other case": ("X/a", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("key", "expected"), FOUND.values(), ids=FOUND)
def test_find(key: str, expected: tuple[str, str] | None) -> None:
    assert TABLE.find(key) == expected


def test_the_root_has_what_no_other_has() -> None:
    table = MountTable([("/", 0), ("/x/", 1)])
    assert table.find("a") == (0, "a")
    assert table.find("x") == (0, "x")
    assert table.find("") == (0, "")
    assert table.find("/x/a") == (0, "/x/a")
    assert table.find("x/a") == (1, "a")


def test_any_value_can_be_mounted() -> None:
    assert MountTable([("/x/", None)]).find("x/a") == (None, "a")


def test_an_empty_table_has_nothing() -> None:
    assert MountTable[int]([]).find("a/b") is None


@pytest.mark.parametrize("path", ["", "x", "x/", "/x"])
def test_a_path_has_a_slash_at_both_ends(path: str) -> None:
    with pytest.raises(ValueError, match="expected a slash at both ends"):
        MountTable([(path, 1)])


@pytest.mark.parametrize("path", ["/", "/x/"])
def test_a_path_is_there_once(path: str) -> None:
    with pytest.raises(ValueError, match="there are two of it"):
        MountTable([(path, 1), ("/y/", 2), (path, 3)])


texts = st.one_of(st.text("ab/", max_size=12), st.text(max_size=6))
paths = texts.map(lambda text: f"/{text}/" if text else "/")


@given(paths=st.lists(paths, unique=True, max_size=8), key=texts, data=st.data())
@example(paths=["//", "/"], key="/", data=None)
def test_the_longest_path_that_the_key_begins_with(
    paths: list[str], key: str, data: st.DataObject | None
) -> None:
    if paths and data is not None and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(paths))[1:] + key
    expected = None
    for path in sorted(paths, key=len):  # naively, one by one
        if ("/" + key).startswith(path):
            expected = (path, ("/" + key)[len(path) :])
    assert MountTable((path, path) for path in paths).find(key) == expected


class _Counted(str):
    """A key that counts how often it is cut."""

    cuts = 0

    def __getitem__(self, where: object) -> str:
        self.cuts += 1
        return super().__getitem__(where)  # type: ignore[index]


def test_the_cost_is_that_of_the_deepest_path_not_of_the_number() -> None:
    table = MountTable((f"/{number}/x/", number) for number in range(10_000))
    key = _Counted("9999/x/" + "y/" * 500)
    assert table.find(key) == (9999, "y/" * 500)
    assert key.cuts == 4  # two segments, the one that leads nowhere, and the rest
