"""JSON as people write it: comments, other files, and errors that name the place.

    text --clean()--> the same length, comments and includes blanked --json--> value
                                                       positions() <-- only where an error needs a place

`#`, `//` and `/* */` begin comments. `<?include "file"?>` stands for a value: the one in that file. Beyond what
the json module refuses, these are errors: a key twice in one object, more than DEPTH_MAX levels, NaN and
Infinity, numbers too large for a float, text that is no Unicode.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvoshim.errors import ConfigurationError

DEPTH_MAX = 64  # levels of objects and lists, over all included files
FILE_MAX = 16 << 20  # bytes of one file
_INCLUDES_MAX = 8  # files inside one another
_FILES_MAX = 256  # in all
_DIGITS_MAX = 400

_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_TOKEN = re.compile(
    rf"""(?P<string>{_STRING})
    | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
    | <\?include\s+(?P<include>{_STRING})\s*\?>
    | (?P<open>[\[{{]) | (?P<close>[\]}}])
    | (?P<digits>[0-9]{{{_DIGITS_MAX + 1},}})
    | (?P<stray>NaN|-?Infinity|/\*|<\?|"|/)""",
    re.VERBOSE | re.DOTALL,
)
_STRAYS = {"/*": "a comment without an end", '"': "a string without an end", "<?": 'no directive: <?include "file"?> is one'}
_NOT_NEWLINE = re.compile(r"[^\n]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_PLACEHOLDER = "NaN"  # what an included value looks like to the json module; nothing else may look like it

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A text and its value. includes: the documents that its include directives stand for, in their order."""

    name: str
    value: object
    text: str = ""
    includes: tuple[Document, ...] = ()

    def place(self, offset: int) -> str:
        """file:line:column, both from 1."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        return f"{self.name}:{line}:{column}"

    def where(self, path: Path) -> str:
        """The place of the value at `path`, or of the nearest one around it; "" without a text. A key counts as a
        value's place."""
        if not self.text:
            return ""
        best, length, inside = 0, -1, None
        include = -1
        for at, offset, is_include, _ in _walk(self.text):
            include += is_include
            if (len(at) > length or is_include) and path[: len(at)] == at:
                best, length = offset, len(at)
                inside = self.includes[include] if is_include else None
        return self.place(best) if inside is None else inside.where(path[length:])


def parse(text: str, name: str = "", *, depth: int = DEPTH_MAX, include: Callable[[str, int], Document] | None = None) -> Document:
    """The document of a text. ConfigurationError.

    include: gives the document of a file's name, as written, that may have so many levels; None: includes are
    not allowed.
    """
    blank = Document(name, None, text)  # for places in errors

    def fail(problem: str, offset: int):
        raise ConfigurationError(problem, blank.place(offset))

    pieces, includes, end, level = [], [], 0, 0
    for token in _TOKEN.finditer(text):
        kind, start = token.lastgroup, token.start()
        if kind == "open":
            level += 1
            if level > depth:
                fail(f"more than {DEPTH_MAX} levels", start)
        elif kind == "close":
            level -= 1
        elif kind == "comment":
            pieces += text[end:start], _NOT_NEWLINE.sub(" ", token.group())
            end = token.end()
        elif kind == "include":
            if include is None:
                fail("an include is not allowed here", start)
            try:
                includes.append(include(json.loads(token["include"]), depth - level))
            except ConfigurationError as error:
                raise error if error.place else ConfigurationError(error.problem, blank.place(start)) from None
            except ValueError:
                fail("the file's name is no JSON string", start)
            pieces += text[end:start], _PLACEHOLDER, _NOT_NEWLINE.sub(" ", token.group())[len(_PLACEHOLDER) :]
            end = token.end()
        elif kind == "digits":
            fail(f"a number has more than {_DIGITS_MAX} digits", start)
        elif kind == "stray":
            fail(_STRAYS.get(token.group(), f"{token.group()} is no JSON"), start)
    pieces.append(text[end:])
    cleaned = Document(name, None, "".join(pieces), tuple(includes))
    return Document(name, _value(cleaned), cleaned.text, cleaned.includes)


class _Flaw(ValueError):
    """The json module has no words for it; the place is found by a second, slower look."""


def _value(document: Document) -> object:
    values = iter(document.includes)

    def pairs(items: list[tuple[str, object]]) -> dict:
        found = dict(items)
        if len(found) != len(items):
            raise _Flaw
        return found

    def number(text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise _Flaw
        return value

    try:
        value = json.loads(
            document.text,
            object_pairs_hook=pairs,
            parse_float=number,
            parse_constant=lambda _: next(values).value,
        )
        if _SURROGATE.search(document.text):
            _look_again(document)
        return value
    except json.JSONDecodeError as error:
        raise ConfigurationError(error.msg, document.place(error.pos)) from None
    except _Flaw:
        _look_again(document)
        raise ConfigurationError("a number is too large, or a key stands twice", document.place(0)) from None


def _look_again(document: Document) -> None:
    """Raises the ConfigurationError of the first flaw, if there is one."""
    for _, offset, _, flaw in _walk(document.text):
        if flaw:
            raise ConfigurationError(flaw, document.place(offset))
    try:
        json.loads(document.text)  # the flaw may be part of what is no JSON at all, such as 1e999-1
    except json.JSONDecodeError as error:
        raise ConfigurationError(error.msg, document.place(error.pos)) from None


_PIECE = re.compile(rf"(?P<string>{_STRING})|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<comma>,)|(?P<scalar>[^\s,:\[\]{{}}\"]+)")


def _walk(text: str) -> Iterator[tuple[Path, int, bool, str]]:
    """(path, offset, whether it is an include, flaw) of each value and key of a cleaned text."""
    stack: list[list] = []  # [is an object, key or index, keys seen, whether a key comes next]
    for piece in _PIECE.finditer(text):
        kind, word, offset = piece.lastgroup, piece.group(), piece.start()
        if kind == "close":
            if stack:
                stack.pop()
        elif kind == "comma":
            if stack and stack[-1][0]:
                stack[-1][3] = True
            elif stack:
                stack[-1][1] += 1
        elif kind == "string" and stack and stack[-1][3]:
            top = stack[-1]
            key, flaw = _text(word)
            if key in top[2]:
                flaw = flaw or f"the key {key!r} stands here a second time"
            top[2].add(key)
            top[1], top[3] = key, False
            yield tuple(level[1] for level in stack), offset, False, flaw
        else:
            flaw = ""
            if kind == "string":
                _, flaw = _text(word)
            elif kind == "scalar" and word[0] in "-0123456789" and _infinite(word):
                flaw = "a number is too large"
            yield tuple(level[1] for level in stack), offset, word == _PLACEHOLDER, flaw
            if kind == "open":
                stack.append([word == "{", None if word == "{" else 0, set(), word == "{"])


def _text(word: str) -> tuple[str, str]:
    try:
        text = json.loads(word)
        text.encode()
    except UnicodeEncodeError:
        return word, "a string is no Unicode: half of a surrogate pair"
    except ValueError:
        return word, ""  # the json module has said so, or will
    return text, ""


def _infinite(word: str) -> bool:
    try:
        return math.isinf(float(word))
    except ValueError:
        return False


def read(path: str) -> Document:
    """The document of a file and of those that it includes, relative to itself. ConfigurationError."""
    return _Reader().read(os.path.abspath(path), (), DEPTH_MAX)


class _Reader:
    """Counts the files of one document."""

    def __init__(self) -> None:
        self._files = 0

    def read(self, path: str, around: tuple[str, ...], depth: int) -> Document:
        self._files += 1
        if path in around:
            raise ConfigurationError(f"{path} includes itself")
        if len(around) > _INCLUDES_MAX or self._files > _FILES_MAX:
            raise ConfigurationError(f"more than {_INCLUDES_MAX} files inside one another, or {_FILES_MAX} in all")

        def include(name: str, depth: int) -> Document:
            return self.read(os.path.normpath(os.path.join(os.path.dirname(path), name)), (*around, path), depth)

        return parse(_text_of(path), path, depth=depth, include=include)


def _text_of(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigurationError(f"{path} is not a file")
    with open(fd, "rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ConfigurationError(f"{path} is longer than {FILE_MAX} bytes")
    return decode(data.removeprefix(b"\xef\xbb\xbf"), path)


def decode(data: bytes, name: str) -> str:
    """UTF-8 to text. ConfigurationError with the place of the first byte that is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise ConfigurationError("this is not UTF-8", Document(name, None, before).place(len(before))) from None
