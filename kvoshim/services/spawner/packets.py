"""Messages to packets and back. One message is one packet of the socket."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kvoshim.errors import InvalidOrderError, SpawnerProtocolError
from kvoshim.services.spawner.messages import (
    Done,
    End,
    Exited,
    Failed,
    Fetched,
    Held,
    Hello,
    Listed,
    Message,
    Order,
    Record,
    Refused,
    Signalled,
    Spawned,
    Stop,
    Stranger,
)  # fmt: skip
from kvoshim.services.spawner.wire import (
    FDS_MAX,
    HEADER,
    LIMITS_MAX,
    MAGIC,
    MESSAGE_MAX,
    NAME_MAX,
    STRINGS_MAX,
    STRUCTS,
    TARGET_MAX,
    TOKEN_MAX,
    UNCHANGED,
    Flag,
    Step,
    Type,
)  # fmt: skip

# --- out ---------------------------------------------


def header(kind: Type, size: int, serial: int, fds: int = 0) -> bytes:
    return HEADER.pack(MAGIC, kind, fds, size, serial)


def _fixed(kind: Type, layout: str, serial: int, *values: int) -> bytes:
    try:
        return STRUCTS[layout].pack(header(kind, STRUCTS[layout].size, serial), *values)
    except struct.error as error:
        raise InvalidOrderError(f"{kind.name}: {values}: {error}") from None


def simple(kind: Type, serial: int) -> bytes:
    """LIST."""
    return header(kind, HEADER.size, serial)


def acknowledge(token: int, serial: int) -> bytes:
    return _fixed(Type.ACK, "ack", serial, token)


def signal(token: int, signo: int, whole_group: bool, serial: int) -> bytes:
    return _fixed(Type.SIGNAL, "signal", serial, token, signo, Flag.WHOLE_GROUP if whole_group else 0)


def finish(status: int, serial: int) -> bytes:
    return _fixed(Type.FINISH, "finish", serial, status, 0)


def named(kind: Type, name: str, serial: int) -> bytes:
    """HOLD (one descriptor goes along), FETCH, DROP. InvalidOrderError."""
    text = _encoded("the name", name)
    if not 1 <= len(text) <= NAME_MAX or b"\0" in text:
        raise InvalidOrderError(f"the name of a descriptor has 1 to {NAME_MAX} bytes and no NUL: {name[:60]!r} has {len(text)}")
    return header(kind, HEADER.size + len(text), serial, kind is Type.HOLD) + text


def _encoded(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidOrderError(f"{what} {text[:60]!r} cannot be written in UTF-8") from None


def _text(what: str, text: str) -> bytes:
    data = _encoded(what, text)
    if b"\0" in data:
        raise InvalidOrderError(f"{what} {text[:60]!r} has a NUL in it")
    return data + b"\0"


def spawn(order: Order, serial: int) -> tuple[bytes, list[int]]:
    """The packet, and the descriptors that go along. InvalidOrderError, which names what is wrong."""
    flags = (order.session and Flag.SESSION) | (order.group and Flag.GROUP) | (order.die_too and Flag.DIE_TOO)
    uid, gid, groups = UNCHANGED, UNCHANGED, ()
    if order.ids is not None:
        flags |= Flag.IDS
        uid, gid, groups = order.ids
    targets = [*order.fds, *([-1] if order.cgroup is not None else [])]
    fds = [*order.fds.values(), *([order.cgroup] if order.cgroup is not None else [])]
    _check(order, targets)
    text = [_text("the directory", order.directory), _text("the program", order.program)]
    text += [_text("the argument", one) for one in order.args]
    text += [_text("the variable", f"{name}={value}") for name, value in order.env.items()]
    strings = b"".join(text)
    try:
        parts = [
            *(STRUCTS["limit"].pack(resource, 0, soft, hard) for resource, soft, hard in order.limits),
            struct.pack(f"<{len(groups)}I", *groups),
            struct.pack(f"<{len(targets)}i", *targets),
            strings,
        ]
        size = STRUCTS["spawn"].size + sum(map(len, parts))
        if size > MESSAGE_MAX:
            raise InvalidOrderError(f"arguments and environment are too long: the order has {size} bytes, {MESSAGE_MAX} are allowed")
        head = STRUCTS["spawn"].pack(
            header(Type.SPAWN, size, serial, len(fds)), order.token, flags, UNCHANGED if order.umask is None else order.umask,
            uid, gid, len(order.limits), len(groups), len(order.args), len(order.env),
            len(fds) if order.cgroup is not None else 0, len(strings),
        )  # fmt: skip
    except struct.error as error:
        raise InvalidOrderError(f"a number of the order is out of range: {error}") from None
    return b"".join([head, *parts]), fds


def _check(order: Order, targets: Sequence[int]) -> None:
    if not 1 <= order.token <= TOKEN_MAX:
        raise InvalidOrderError(f"a token is from 1 to 2^64 - 1, not {order.token}")
    if not order.program or not 1 <= len(order.args) <= STRINGS_MAX or len(order.env) > STRINGS_MAX:
        raise InvalidOrderError(f"an order has a program, 1 to {STRINGS_MAX} arguments and up to {STRINGS_MAX} variables")
    if len(order.limits) > LIMITS_MAX or len(targets) > FDS_MAX:
        raise InvalidOrderError(f"an order has up to {LIMITS_MAX} limits and {FDS_MAX} descriptors")
    for name in order.env:
        if not name or "=" in name:
            raise InvalidOrderError(f"{name[:60]!r} is no name of a variable")
    for target in order.fds:
        if not 0 <= target <= TARGET_MAX:
            raise InvalidOrderError(f"a descriptor is from 0 to {TARGET_MAX}, not {target}")


# --- in ---------------------------------------------


def _body(layout: str, data: bytes) -> tuple:
    if len(data) != STRUCTS[layout].size:
        raise SpawnerProtocolError(f"a {layout} of the spawner has {len(data)} bytes, not {STRUCTS[layout].size}")
    return STRUCTS[layout].unpack(data)[1:]


def _record(data: bytes) -> Record:
    token, start, ended, user_us, system_us, max_rss, pid, status, flags, step = _body("record", data)
    flags = Flag(flags)
    failed = bool(flags & Flag.NOT_STARTED)
    return Record(
        token, pid, start, flags, 0 if failed else status, ended / 1e9, user_us / 1e6, system_us / 1e6, max_rss,
        status if failed else 0, Step(step) if failed else None,
    )  # fmt: skip


def _name(data: bytes) -> str:
    return data[HEADER.size :].decode("utf-8", "surrogateescape")


def decode(data: bytes) -> Message:
    """SpawnerProtocolError for what is no message of this version's spawner."""
    try:
        magic, number, _, size, serial = HEADER.unpack_from(data)
        if magic != MAGIC or size != len(data):
            raise SpawnerProtocolError(f"this is no message of a spawner of this version: {data[:32].hex()}")
        match kind := Type(number):
            case Type.CHILD:
                return Listed(_record(data), serial)
            case Type.SPAWNED:
                return Spawned(_record(data))
            case Type.FAILED:
                return Failed(_record(data))
            case Type.EXIT:
                return Exited(_record(data))
            case Type.DONE:
                return Done(serial)
            case Type.END:
                return End(serial)
            case Type.HELD:
                return Held(_name(data), serial)
            case Type.FETCHED:
                return Fetched(_name(data), serial)
            case Type.REFUSED:
                token, errno, step = _body("refused", data)
                return Refused(serial, token, errno, Step(step))
            case Type.HELLO:
                pid, flags, start, _, _ = _body("hello", data)
                return Hello(pid, start, bool(flags & Flag.PID_1), bool(flags & Flag.STOPPING))
            case Type.STRANGER:
                return Stranger(*_body("stranger", data))
            case Type.SIGNALLED:
                return Signalled(_body("signalled", data)[0])
            case Type.STOP:
                signo, within_ms = _body("stop", data)
                return Stop(signo, within_ms / 1000)
            case _:
                raise SpawnerProtocolError(f"{kind.name} is no message of a spawner")
    except (struct.error, ValueError) as error:
        raise SpawnerProtocolError(f"this is no message of a spawner of this version: {error} ({data[:32].hex()})") from None
