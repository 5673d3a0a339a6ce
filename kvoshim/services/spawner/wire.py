"""Numbers and layouts of the messages between the spawner and its controller, as pyx/spawner/wire.h has them:
tests/services/spawner/test_wire.py compares the two."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final

MAGIC: Final = 0x3153564B  # "KVS1"
MESSAGE_MAX: Final = 131072
FDS_MAX: Final = 64
NAME_MAX: Final = 120
LIMITS_MAX: Final = 16
STRINGS_MAX: Final = 4096
TARGET_MAX: Final = 65535
CHILDREN_MAX: Final = 4096
HELD_MAX: Final = 8192
UNCHANGED: Final = 0xFFFFFFFF
LISTEN_PID: Final = "0000000000"  # as the variable LISTEN_PID of an order: the child's PID takes its place
TOKEN_MAX: Final = 2**64 - 1


class Type(IntEnum):
    SPAWN = 1
    LIST = 2
    ACK = 3
    SIGNAL = 4
    HOLD = 5
    FETCH = 6
    DROP = 7
    FINISH = 8
    DONE = 64
    REFUSED = 65
    FETCHED = 66
    CHILD = 67
    HELD = 68
    END = 69
    HELLO = 80
    SPAWNED = 81
    FAILED = 82
    EXIT = 83
    STRANGER = 84
    SIGNALLED = 85
    STOP = 86


class Flag(IntFlag):
    SESSION = 0x1
    GROUP = 0x2
    IDS = 0x4
    DIE_TOO = 0x8
    STARTING = 0x100
    RUNNING = 0x200
    ENDED = 0x400
    NOT_STARTED = 0x800
    CORE = 0x1000
    WHOLE_GROUP = 0x10000
    PID_1 = 0x100000
    STOPPING = 0x200000


class Step(IntEnum):
    """Where an order failed."""

    MESSAGE = 1
    TOKEN = 2
    ROOM = 3
    PIPE = 4
    FORK = 5
    DESCRIPTORS = 6
    SESSION = 7
    CGROUP = 8
    LIMITS = 9
    IDS = 10
    DIRECTORY = 11
    PARENT = 12
    EXEC = 13
    NAME = 14
    SIGNAL = 15
    END = 16

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Step.MESSAGE: "the message is not well formed",
    Step.TOKEN: "the token",
    Step.ROOM: f"there are {CHILDREN_MAX} children already, or ended ones that nobody has acknowledged",
    Step.PIPE: "the spawner has no descriptor left",
    Step.FORK: "no process can be made",
    Step.DESCRIPTORS: "the descriptors cannot be put in place",
    Step.SESSION: "no session or process group can be made",
    Step.CGROUP: "the control group cannot be joined",
    Step.LIMITS: "a resource limit cannot be set",
    Step.IDS: "user and groups cannot be changed",
    Step.DIRECTORY: "the working directory cannot be entered",
    Step.PARENT: "the spawner has ended",
    Step.EXEC: "the program cannot be run",
    Step.NAME: "the name of a descriptor",
    Step.SIGNAL: "the signal cannot be sent",
    Step.END: "the spawner is ending",
}

# Field -> format, in order; "" is the header. Offsets follow, as there is no padding.
LAYOUTS: Final[dict[str, dict[str, str]]] = {
    "header": {"magic": "I", "type": "H", "fds": "H", "size": "I", "serial": "I"},
    "spawn": {
        "h": "16s", "token": "Q", "flags": "I", "umask": "I", "uid": "I", "gid": "I", "limits": "H", "groups": "H", "args": "H",
        "envs": "H", "cgroup": "I", "text": "I",
    },
    "limit": {"resource": "I", "zero": "I", "soft": "Q", "hard": "Q"},
    "record": {
        "h": "16s", "token": "Q", "start": "Q", "ended": "Q", "user_us": "Q", "system_us": "Q", "max_rss": "Q", "pid": "i",
        "status": "i", "flags": "I", "step": "I",
    },
    "hello": {"h": "16s", "pid": "i", "flags": "I", "start": "Q", "children_max": "I", "held_max": "I"},
    "ack": {"h": "16s", "token": "Q"},
    "signal": {"h": "16s", "token": "Q", "signo": "i", "flags": "I"},
    "refused": {"h": "16s", "token": "Q", "error": "i", "step": "I"},
    "stranger": {"h": "16s", "pid": "i", "status": "i"},
    "finish": {"h": "16s", "status": "i", "zero": "I"},
    "signalled": {"h": "16s", "signo": "i", "zero": "I"},
    "stop": {"h": "16s", "signo": "i", "within_ms": "I"},
}  # fmt: skip
STRUCTS: Final = {name: struct.Struct("<" + "".join(fields.values())) for name, fields in LAYOUTS.items()}
HEADER: Final = STRUCTS["header"]
