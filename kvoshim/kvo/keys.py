"""Which keys an observation is about: one, a path into values, a pattern, all.

    'rpm'            the key
    'engine.oil.t'   the key of that name; as long as there is none, what lies at 'oil.t' in the value of the key
                     'engine', or at 't' in that of 'engine.oil': of the longest that has it
    'engine.*'       `*`: any text without a dot (alone in its place: at least one character)
    'engine.**'      `**`: any text, at least one character
    None             every key
    Key('a.*')       the key, character by character
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kvoshim._values import check_key

ABSENT = object()


class Key(str):
    """A key to be taken literally: no pattern, no path."""

    __slots__ = ()


class Selector:
    """keys: those that have to be registered; None: all of them. path: of the one key that is delivered then."""

    def __init__(self, given: str | None) -> None:
        self.given = given
        self.keys: list[str] | None = None
        self.path: str | None = None
        self._match = None
        if given is None:
            return
        check_key(given)
        if isinstance(given, Key) or not ("*" in given or "." in given):
            self.given = str(given)
            self.keys = [self.given]
        elif "*" in given:
            self._match = re.compile(expression(given), re.DOTALL).fullmatch
        else:
            parts = given.split(".")
            self.keys = [".".join(parts[:length]) for length in range(len(parts), 0, -1) if parts[length - 1]]
            if self.keys and self.keys[0] != given:  # ends in a dot: no path leads there
                self.keys = [given]
            if len(self.keys) > 1:
                self.path = given

    @property
    def one(self) -> str | None:
        """The key that all changes are of; None: they are of several."""
        return None if self.keys is None else self.given

    def matches(self, key: str) -> bool:
        if self.keys is not None:
            return key in self.keys
        return self._match is None or self._match(key) is not None

    @property
    def which(self) -> list[str] | Callable[[str], bool]:
        """The keys of a store that it is about: their names, or how to tell."""
        return self.keys if self.keys is not None else self.matches

    def dig(self, key: str, value: Any) -> Any:
        """What the value of one of `keys` has at the path; ABSENT if nothing."""
        for part in self.path[len(key) + 1 :].split(".") if len(key) < len(self.path) else ():
            value = _step(value, part)
            if value is ABSENT:
                return ABSENT
        return value


class Sieve:
    """What a key must look like at least for a pattern to match it: how it begins and ends. The controller looks at keys with this:
    it takes the same short time whatever a client makes up as a pattern. InvalidKeyError."""

    __slots__ = ("prefix", "suffix", "flat")

    def __init__(self, pattern: str) -> None:
        check_key(pattern)
        self.prefix, _, rest = pattern.partition("*")
        self.suffix = rest.rpartition("*")[2]
        self.flat = pattern.count("*") == 1  # what stands for it has no dot

    def __bool__(self) -> bool:
        """False: it lets every key pass."""
        return bool(self.prefix or self.suffix or self.flat)

    def lets(self, key: str) -> bool:
        begin, end = len(self.prefix), len(key) - len(self.suffix)
        return begin <= end and key.startswith(self.prefix) and key.endswith(self.suffix) and not (self.flat and "." in key[begin:end])


def expression(pattern: str) -> str:
    """The regular expression of a pattern."""
    parts = []
    for part in pattern.split("."):
        if part == "**":
            parts.append(".+")
        elif part == "*":
            parts.append("[^.]+")
        else:
            parts.append("[^.]*".join(re.escape(text) for text in part.split("*")))
    return r"\.".join(parts)


def _step(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, ABSENT)
    if isinstance(value, list):
        return value[int(part)] if part.isdecimal() and int(part) < len(value) else ABSENT
    fields = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", ())
    return getattr(value, part, ABSENT) if part in fields else ABSENT
