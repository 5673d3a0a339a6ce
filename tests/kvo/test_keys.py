"""Which keys a selector is about, and where two values differ."""

import dataclasses

import msgspec
import pytest

from kvoshim.errors import InvalidKeyError
from kvoshim.kvo.difference import difference
from kvoshim.kvo.keys import ABSENT, Key, Selector


@pytest.mark.parametrize(
    "pattern, yes, no",
    [
        (None, ["a", "a.b", "*"], []),
        ("*", ["a", "é"], ["a.b", ""]),
        ("**", ["a", "a.b.c"], []),
        ("a.*", ["a.b", "a.bc"], ["a", "a.", "a.b.c", "xa.b"]),
        ("a.**", ["a.b", "a.b.c"], ["a", "ab", "a."]),
        ("*.b", ["a.b", "b.b"], ["b", "a.a.b"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c"]),
        ("cyl*", ["cyl", "cyl1", "cylinder"], ["acyl", "cyl.1"]),
        ("a*z.b", ["az.b", "a--z.b"], ["a.z.b", "az"]),
        ("a+*", ["a+", "a+b"], ["aa", "aab"]),
        ("line\n*", ["line\n", "line\nx\ny"], ["line"]),
        (Key("a.*"), ["a.*"], ["a.b"]),
    ],
)
def test_patterns(pattern, yes, no):
    selector = Selector(pattern)
    assert [key for key in yes + no if selector.matches(key)] == yes
    which = selector.which  # names, or how to tell
    assert ([key for key in yes + no if which(key)] if callable(which) else which) == yes


def test_paths():
    selector = Selector("engine.oil.t")
    assert selector.keys == ["engine.oil.t", "engine.oil", "engine"] and selector.one == selector.path == "engine.oil.t"

    @dataclasses.dataclass
    class Oil:
        t: int

    class Oils(msgspec.Struct):
        oil: dict

    for value in ({"oil": {"t": 5}}, {"oil": Oil(5)}, Oils({"t": 5})):
        assert selector.dig("engine", value) == 5
    assert selector.dig("engine.oil", {"t": 6}) == 6 and selector.dig("engine.oil.t", 7) == 7
    for value in ({}, {"oil": 3}, 5, None, "oil", {"oil": [1]}, Oils({})):
        assert selector.dig("engine", value) is ABSENT
    assert Selector("list.1").dig("list", ["a", "b"]) == "b" and Selector("list.2").dig("list", ["a", "b"]) is ABSENT
    assert Selector("list.__class__").dig("list", {}) is ABSENT
    for plain in ("simple", "ends.", Key("a.b")):
        assert Selector(plain).path is None and Selector(plain).keys == [plain]
    assert Selector(".a").keys == [".a"]
    with pytest.raises(InvalidKeyError):
        Selector("")


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ([1, 2], [1, 2, 3, 4], ("insertion", (2, 3))),
        ([1, 4], [1, 2, 3, 4], ("insertion", (1, 2))),
        ([], [1], ("insertion", (0,))),
        ([1, 2, 3], [1, 3], ("removal", (1,))),
        ([1, 1, 1], [1, 1], ("removal", (2,))),
        ([1, 2, 3, 4], [1, 9, 3, 8], ("replacement", (1, 3))),
        ([1, 2], [3], ("setting", None)),
        ([1], [1], ("setting", None)),
        ([1], [1.0], ("replacement", (0,))),
        ({"a": 1}, {"a": 1, "b": 2}, ("insertion", ("b",))),
        ({"a": 1, "b": 2}, {"a": 1}, ("removal", ("b",))),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ("replacement", ("b",))),
        ({"a": 1}, {"b": 1}, ("setting", None)),
        ([1], {"a": 1}, ("setting", None)),
        ("ab", "abc", ("setting", None)),
        (None, [1], ("setting", None)),
    ],
)
def test_differences(old, new, expected):
    assert difference(old, new) == expected
