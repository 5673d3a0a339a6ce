"""Where two lists, dicts or sets differ."""

from __future__ import annotations

from typing import Any


def difference(old: Any, new: Any) -> tuple[str, tuple | None]:
    """(kind, indexes): one insertion, removal or replacement if that is all; otherwise 'setting', None."""
    if type(old) is list and type(new) is list:
        return _of_lists(old, new)
    if type(old) is dict and type(new) is dict:
        return _of_dicts(old, new)
    if type(old) is set and type(new) is set:
        return _of_sets(old, new)
    return "setting", None


def _of_lists(old: list, new: list) -> tuple[str, tuple | None]:
    """What lies between the longest common beginning and end tells."""
    shorter = min(len(old), len(new))
    start = 0
    while start < shorter and _same(old[start], new[start]):
        start += 1
    end = 0
    while end < shorter - start and _same(old[-1 - end], new[-1 - end]):
        end += 1
    gone, come = len(old) - end - start, len(new) - end - start
    if gone == 0 and come:
        return "insertion", tuple(range(start, start + come))
    if come == 0 and gone:
        return "removal", tuple(range(start, start + gone))
    if come == gone and come:
        return "replacement", tuple(i for i in range(start, start + come) if not _same(old[i], new[i]))
    return "setting", None


def _of_dicts(old: dict, new: dict) -> tuple[str, tuple | None]:
    come = tuple(key for key in new if key not in old)
    gone = tuple(key for key in old if key not in new)
    other = tuple(key for key in new if key in old and not _same(old[key], new[key]))
    found = [(kind, keys) for kind, keys in (("insertion", come), ("removal", gone), ("replacement", other)) if keys]
    return found[0] if len(found) == 1 else ("setting", None)


def _of_sets(old: set, new: set) -> tuple[str, tuple | None]:
    come, gone = tuple(new - old), tuple(old - new)
    if come and gone or not (come or gone):
        return "setting", None
    return ("insertion", come) if come else ("removal", gone)


def _same(one: Any, other: Any) -> bool:
    """Equal and of one type; arrays and NaN count as different, which costs nothing but a wider range."""
    try:
        return type(one) is type(other) and bool(one == other)
    except ValueError:
        return False
