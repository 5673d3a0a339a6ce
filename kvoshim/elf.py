"""What a program file is: enough of ELF to tell whether the preload library can get into it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

_MACHINES = {"x86_64": 62, "aarch64": 183}
_INTERPRETER, _NOTE = 3, 4  # program header types


@dataclass(frozen=True)
class Elf:
    """bits: 32 or 64. native: of this machine's kind. interpreter: the dynamic loader's path, None: statically linked.
    go: made by the Go compiler."""

    bits: int
    native: bool
    interpreter: str | None
    go: bool


def read(path: str) -> Elf | None:
    """None: not an ELF file (or a broken one). OSError: it cannot be read."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or len(head) < 64:
            return None
        if head[4] != 2 or head[5] != 1:
            return Elf(32 if head[4] == 1 else 64, False, None, False)
        try:
            native = struct.unpack_from("<H", head, 18)[0] == _MACHINES.get(os.uname().machine)
            at, = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            interpreter, go = None, False
            for i in range(count):
                file.seek(at + i * size)
                kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", file.read(40))
                if kind not in (_INTERPRETER, _NOTE) or length > 65536:
                    continue
                file.seek(offset)
                content = file.read(length)
                if kind == _INTERPRETER:
                    interpreter = os.fsdecode(content.rstrip(b"\0"))
                else:
                    go = go or content[12:16] == b"Go\0\0"
        except (struct.error, OSError, ValueError):
            return None
        return Elf(64, native, interpreter, go)
