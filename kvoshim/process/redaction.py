"""Secrets never reach a log, nor an answer to a caller that may only read.

A daemon declares where its section holds secrets: JSON paths from the section's root to the objects that have
them, without the last key. `[]` stands for every element of a list, and a final `*` for everything below. In such
an object every value is masked whose key contains "password" or "secret". An empty path is the section itself.

    {"database": {"password": ...}, "peers": [{"tls": {"secret": ...}}], "plug-in": {"anything": ...}}
    "database"                       "peers/[]/tls"                      "plug-in/*"

Paths and not keys alone: a declared path is looked up, an undeclared place costs nothing; and `uncovered` compares
the paths with the daemon's model, so that none is forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

MASK = "*****"
_WORDS = ("password", "secret")
_SHORTEST = 4  # characters of a secret that is looked for in other text: shorter ones are in every text


def is_secret(key: object) -> bool:
    """Whether the value under this key is masked."""
    return isinstance(key, str) and any(word in key.lower() for word in _WORDS)


class Redactor:
    """Masks what lies at the declared paths."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._tree: dict = {}
        for path in paths:
            node = self._tree
            for step in filter(None, path.split("/")):
                if "*" in node:
                    break
                if step == "*":
                    node.clear()
                node = node.setdefault(step, {})
            node[""] = {}

    def redact(self, value: Any) -> Any:
        """A copy of the section with its secrets masked."""
        return _copy(value, self._tree, lambda _: MASK)

    def secrets(self, value: Any) -> list[Any]:
        """The values that redact() masks."""
        found: list[Any] = []
        _copy(value, self._tree, found.append)
        return found


_BELOW = {"*": {}}


def _copy(value: Any, node: dict, mask) -> Any:
    everything = "*" in node
    if isinstance(value, dict):
        here = everything or "" in node
        return {
            key: mask(item) if here and is_secret(key) else _copy(item, _BELOW if everything else node.get(key, {}), mask)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        below = _BELOW if everything else node.get("[]", {})
        return [_copy(item, below, mask) for item in value]
    return value


def uncovered(model: type[msgspec.Struct], paths: Iterable[str]) -> list[str]:
    """The places of a model that hold secrets, or anything at all, and that no declared path reaches."""
    tree = Redactor(paths)._tree
    return sorted(set(_uncovered(msgspec.inspect.type_info(model), tree, (), ())))


def _uncovered(kind: msgspec.inspect.Type, node: dict, path: tuple[str, ...], around: tuple) -> Iterator[str]:
    inspect = msgspec.inspect
    structure = getattr(kind, "cls", None)
    if "*" in node or structure is not None and around.count(structure) > 1:  # it contains itself: one turn tells
        return
    around = (*around, structure)
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _uncovered(one, node, path, around)
    elif isinstance(kind, inspect.StructType | inspect.DataclassType | inspect.TypedDictType):
        for field in kind.fields:
            if is_secret(field.encode_name) and "" not in node:
                yield "/".join((*path, field.encode_name))
            else:
                yield from _uncovered(field.type, node.get(field.encode_name, {}), (*path, field.encode_name), around)
    elif isinstance(kind, inspect.DictType | inspect.AnyType):
        yield "/".join((*path, "*"))
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType):
        yield from _uncovered(kind.item_type, node.get("[]", {}), (*path, "[]"), around)


# --- access strings ---------------------------------------------

_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/?#@:]*)(?::(?P<password>[^\s/?#]*))?@", re.IGNORECASE)
_PAIR = re.compile(
    r"""(?P<key>\b[\w-]*(?:password|passwd|passphrase|pwd|secret|token)[\w-]*["']?\s*[=:]\s*)
    (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&;,'"]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def redact_access_string(text: str) -> str:
    """Masks the passwords in what opens a database or a broker: `host=db password='…'`, `redis://:…@host/0`,
    `postgresql://user:…@host/db?sslpassword=…`, `nats://token@host`; also where it stands amid other text."""

    def url(match: re.Match) -> str:
        if match["password"] is None:
            return f"{match['scheme']}{MASK}@"  # a lone word there is a token as often as a name
        return f"{match['scheme']}{match['user']}:{MASK}@"

    return _PAIR.sub(lambda match: match["key"] + MASK, _URL.sub(url, text))


class Cleaner:
    """Masks secrets in free text: access strings, and the very secrets of the configuration in force."""

    def __init__(self, secrets: Iterable[Any] = ()) -> None:
        words = sorted({word for word in _strings(secrets) if len(word) >= _SHORTEST}, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, text: str) -> str:
        if self._words is not None:
            text = self._words.sub(MASK, text)
        return redact_access_string(text)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if (quoted := repr(value)[1:-1]) != value:
            yield quoted
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for item in value:
            yield from _strings(item)
