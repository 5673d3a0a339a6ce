"""Random stores, as a malicious or broken owner might write them, read by everything that reads one: Reader, view, Monitor.

A store is written here byte for byte into sealed memory of our own, from a good one's bytes with accidents; in half of them
the checksums are made to fit, so that what lies behind them is met. What must hold: a value, or one of our errors.
"""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import mmap
import os
import random
import struct
import types

import numpy
from kvoshim._delivery import Group, dispatch
from kvoshim._look import Looks, Watch
from kvoshim._monitor import Monitor
from kvoshim._store import Reader, Writer, crc32c
from kvoshim._table import Table, TableWriter
from kvoshim._values import accept

from kvoshim.errors import KvoshimError
from kvoshim.kvo.change import Options
from kvoshim.kvo.every import Every
from kvoshim.kvo.handle import Handle
from kvoshim.kvo.keys import Key, Selector
from kvoshim.kvo.observation import Observation
from kvoshim.kvo.tally import Tally

KEYS, HISTORY = 8, 1 << 12
SLOTS, RING = 4096 + 256 * KEYS, 4096
JOURNAL = (SLOTS + 320 * KEYS + 4 * RING + 4095) // 4096 * 4096
HEAP = JOURNAL + HISTORY
_SEALS = 0x10 | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL  # 0x10: F_SEAL_FUTURE_WRITE
_TYPES = [*range(13), 255]


@accept
@dataclasses.dataclass
class Accepted:
    number: int
    more: object = None


VALUES = [
    None, True, 5, -(1 << 70), 2.5, "text é", b"bytes", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    [1, {"a": [None, -0.5, 1 << 80]}], {"k" * 20: "v" * 30}, Accepted(3, [Accepted(4)]), numpy.arange(6.0).reshape(2, 3),
    numpy.zeros(3, [("a", "<i4"), ("b", "S3", (2,))]), [numpy.arange(3)], {1, "x", b"y"}, "long " * 60,
    numpy.arange(100), list(range(90)),
]  # fmt: skip


class Sealed:
    """Sealed memory with these bytes, which can still be written through `bytes`."""

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("kvoshim-store", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, len(data))
        self.good = data
        self.bytes = mmap.mmap(self.fd, len(data))
        self.bytes[:] = data
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._spoilt: list[tuple[int, int]] = []

    def put(self, at: int, data: bytes) -> None:
        data = data[: len(self.good) - at]
        self.bytes[at : at + len(data)] = data
        self._spoilt.append((at, at + len(data)))

    def mend(self) -> None:
        for begin, end in self._spoilt:
            self.bytes[begin:end] = self.good[begin:end]
        self._spoilt.clear()

    def close(self) -> None:
        self.bytes.close()
        os.close(self.fd)


def good_store() -> bytes:
    """One with values of all kinds in its slots and its journal."""
    writer = Writer("store", max_keys=KEYS, capacity=1 << 16, ring=RING, history=HISTORY)
    try:
        for turn, value in enumerate(VALUES):
            writer.set(f"key{turn % 6}", value)
        writer.transact({"key6": (1, 5.0, True), "key0": (2, 0, False)})
        writer.set("key7", 1)
        writer.remove("key7")
        return os.pread(writer.fd, HEAP + (1 << 16), 0)
    finally:
        writer.close()


def _number(dice: random.Random, size: int) -> bytes:
    small = dice.choice((0, 1, 2, 8, 79, 80, 81, 255, 256, 4095, 4096, 65536, dice.randrange(1 << 16)))
    value = dice.choice((small, -small, 1 << 8 * size - 1, (1 << dice.randrange(8 * size)) + dice.randrange(-1, 2), small, small))
    return (value % (1 << 8 * size)).to_bytes(size, "little")


def sealed_record(record: bytearray, data: bytes) -> bytes:
    """The record with the checksum that it needs for these bytes of its value."""
    fields = bytes(record[0:32]) + bytes(record[32:36]) + bytes(record[40:44])
    (ttl,) = struct.unpack_from("<I", record, 44)
    if ttl == 0:  # else it would have to begin with another number: left wrong, which is an accident too
        record[36:40] = crc32c(fields + data).to_bytes(4, "little")
    return bytes(record)


def observation(dice: random.Random, callback) -> Observation:
    """One of any kind, without a client."""
    client = types.SimpleNamespace(pid=os.getpid(), forked=False, forget=lambda one: None,
                                   ask_above=lambda one: None, tally=Tally())
    selector = Selector(dice.choice((None, "key*", "key0", "key4.a", Key("key1"))))
    options = Options.of(dice.choice(("new|old|initial", "old|prior|unchanged", "new|initial|synced", "new")))
    since = dice.choice((None, None, 0, 10, 1 << 40))
    own = dice.random() < 0.5
    made = dice.choice((Observation, Observation, Every))(client, set(), "store", selector, callback, options, since, own, True)
    made.numbers = dict(enumerate(selector.keys or [None]))
    return made


def watch(one: Observation) -> Watch:
    """What is noted of what the dirty ring says, for this observation."""
    made = Watch()
    for number, key in one.numbers.items():
        if key is None:
            made.everything[number] = not one.every
        else:
            made.by_key.setdefault(key, Group()).add(number, one)
    return made


class Stores:
    def __init__(self) -> None:
        self.memory = Sealed(good_store())
        self.reader = Reader(self.memory.fd)
        self.monitor = Monitor(self.memory.fd)
        self.payloads = [raw for key in self.reader.keys() if (raw := self.reader.raw(key))]
        self.table = TableWriter(bytes(16), 4, 16)
        self.table.add_row(os.getpid(), 1, "name", "key", 1)
        self.tables = Sealed(os.pread(self.table.fd, self.table_size(), 0))
        self.handle = Handle("store", os.getpid(), 0, self.reader.instance, True, Monitor(self.memory.fd))
        self.observation: Observation | None = None
        self.watch = Watch()
        self.head = 0  # of the dirty ring
        self.outcomes: dict[str, int] = {}

    def table_size(self) -> int:
        return os.fstat(self.table.fd).st_size

    def close(self) -> None:
        self.reader.close()
        self.monitor.close()
        self.handle.reader.close()
        self.memory.close()
        self.tables.close()

    def attempt(self, what) -> None:
        try:
            what()
            outcome = "read"
        except KvoshimError as error:
            outcome = type(error).__name__
        self.count(outcome)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    # --- one input each ---------------------------------------------

    def value(self, dice: random.Random) -> None:
        """Wild bytes under a checksum that fits, as the value of one key."""
        kind, data = dice.choice(self.payloads)[:2]
        data = bytearray(data)
        for _ in range(dice.choice((0, 1, 1, 2, 4))):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(5):
                case 0:
                    data[at : at + dice.randrange(9)] = b""
                case 1:
                    data[at:at] = dice.choice(_WILD)
                case 2 if data:
                    data[at % len(data)] = dice.randrange(256)
                case 3:
                    other = dice.choice(self.payloads)[1]
                    data[at : at + 9] = other[dice.randrange(len(other) + 1) :][:40]
                case 4:
                    data[at : at + 4] = _number(dice, 4)
        if dice.random() < 0.2:
            kind = dice.choice(_TYPES)
        slot = SLOTS + 320 * 1
        record = bytearray(self.memory.good[slot + 64 : slot + 192])
        record[24:32] = bytes(8)
        record[32:36] = len(data).to_bytes(4, "little")
        record[40:48] = kind.to_bytes(8, "little")
        if len(data) > 80:
            block = HEAP + (1 << 15)
            record[24:32] = block.to_bytes(8, "little")
            self.memory.put(block, bytes(data))
        else:
            record[48 : 48 + len(data)] = data
        self.memory.put(slot, struct.pack("<2Q", 8, 8))
        self.memory.put(slot + 64, sealed_record(record, bytes(data)))
        ways = [lambda: self.reader.get("key1"), lambda: self.reader.read("key1"), lambda: self._view("key1")]
        self.attempt(dice.choice(ways))
        self.memory.mend()

    def _view(self, key: str) -> None:
        with self.reader.view(key) as content:
            bytes(memoryview(content).cast("B")) if not isinstance(content, numpy.ndarray) else content.tobytes()

    def store(self, dice: random.Random) -> None:
        """Accidents anywhere in the store, while it is open."""
        self.spoil(dice)
        self.attempt(dice.choice(self._ways(dice)))
        self.memory.mend()
        if dice.random() < 0.01:
            self.monitor = Monitor(self.memory.fd)
            self.reader = Reader(self.memory.fd)

    def spoil(self, dice: random.Random) -> None:
        for _ in range(dice.choice((1, 1, 2, 3))):
            slot = SLOTS + 320 * dice.randrange(KEYS)
            match dice.randrange(6):
                case 0:  # the owner's moving words; a low revision means that reading is in vain for a while: seldom
                    word = dice.choice((0, 1, 2, 8, 17, 18, 19, 20) if dice.random() < 0.999 else (16,))
                    self.memory.put(512 + 8 * word, _number(dice, 8))
                case 1:  # and so does `begin` far ahead
                    self.memory.put(slot + 8 * dice.choice((2, 3) if dice.random() < 0.999 else (0, 1)), _number(dice, 8))
                case 2 | 3:
                    self._spoil_record(dice, slot + 64 + 128 * dice.randrange(2))
                case 4:
                    self._spoil_journal(dice)
                case 5:
                    self.memory.put(4096 + 256 * dice.randrange(KEYS) + dice.randrange(8), dice.randbytes(2))

    def _spoil_record(self, dice: random.Random, at: int) -> None:
        record = bytearray(self.memory.good[at : at + 128])
        first = 0 if dice.random() < 0.1 else 16
        field, size = dice.choice(((first, 8), (24, 8), (32, 4), (40, 4), (44, 4), (48 + dice.randrange(79), 1)))
        record[field : field + size] = _number(dice, size)
        block, length = struct.unpack_from("<QI", record, 24)
        if length < len(self.memory.good) and dice.random() < 0.5:
            data = bytes(record[48 : 48 + length]) if block == 0 else self.memory.good[block : block + length]
            self.memory.put(at, sealed_record(record, data))
        else:
            self.memory.put(at, bytes(record))

    def _spoil_journal(self, dice: random.Random) -> None:
        (tail,) = struct.unpack_from("<Q", self.memory.good, 656)
        at = JOURNAL + tail % HISTORY
        entry = bytearray(self.memory.good[at : at + 72])
        (size,) = struct.unpack_from("<I", entry, 40)
        field, width = dice.choice(((0, 8), (8, 8), (32, 8), (40, 4), (48, 4), (52, 4), (56, 4), (64, 4)))
        entry[field : field + width] = _number(dice, width)
        body = bytearray(self.memory.good[at + 72 : at + size])
        if body and dice.random() < 0.5:
            body[dice.randrange(len(body))] = dice.randrange(256)
        key_length, length = struct.unpack_from("<I", entry, 64)[0], struct.unpack_from("<I", entry, 56)[0]
        if dice.random() < 0.7:
            entry[44:48] = bytes(4)
            entry[44:48] = crc32c(bytes(entry) + bytes(body[: key_length + length])).to_bytes(4, "little")
        self.memory.put(at, bytes(entry) + bytes(body))

    def _ways(self, dice: random.Random) -> list:
        reader, monitor, key = self.reader, self.monitor, f"key{dice.randrange(8)}"
        return [
            lambda: reader.get(key), lambda: reader.read(key), lambda: reader.newer(dice.choice((0, 10))),
            lambda: reader.newer(0, [key], False), lambda: reader.history(dice.choice((0, 1000))), lambda: self._view(key),
            lambda: reader.raw(key), lambda: (reader.keys(), reader.directory(), reader.key_of(dice.randrange(10))),
            lambda: (reader.revision(key), reader.finished, reader.oldest, reader.history_bounds()),
            lambda: reader.history(0, dice.randrange(20), True),
            lambda: (monitor.waiting(), monitor.drain(), monitor.highest(), monitor.slots_used(), monitor.directory()),
            lambda: [monitor.slot_version(n) + monitor.slot_binding(n) for n in range(10)],
            lambda: (monitor.name_slot(dice.randrange(10), True), monitor.name_all(dice.random() < 0.5), monitor.compare()),
            lambda: (monitor.changes(dice.randrange(1, 10)), monitor.comparing(), monitor.discovering()),
            lambda: (dice.random() < 0.2 and monitor.rediscover(), monitor.discover(dice.randrange(10)), monitor.slot_of(key)),
            lambda: [monitor.key_of(n) for n in range(10)],
        ]  # fmt: skip

    def observed(self, dice: random.Random) -> None:
        """The same accidents, met by an observation that goes on; a new one now and then."""
        self.spoil(dice)
        if self.observation is None or dice.random() < 0.2:
            self.observation = observation(dice, self._told)
            self.watch = watch(self.observation)
            self.attempt(lambda: self.observation.begin(self.handle))
            self.attempt(lambda: self.observation.refresh(self.handle, None))
        self.handle.live = dice.random() < 0.9
        if dice.random() < 0.5:
            self.attempt(lambda: self.observation.refresh(self.handle, dice.choice((None, None, *range(KEYS), 1 << 20))))
        else:
            self._announce(dice)
            self.attempt(self._look)
        self.attempt(lambda: self.observation.bookmark(self.handle))
        self.memory.mend()
        self.handle.instance = dice.choice((self.reader.instance, self.handle.instance, dice.randbytes(16)))

    def _told(self, change) -> None:
        self.count(f"told: {change.kind}")

    def _announce(self, dice: random.Random) -> None:
        """Entries in the dirty ring, some of them wild."""
        for _ in range(dice.choice((1, 2, 5))):
            slot = dice.choice((*range(KEYS), *range(KEYS), dice.randrange(1 << 32)))
            self.memory.put(SLOTS + 320 * KEYS + 4 * (self.head % RING), slot.to_bytes(4, "little"))
            self.head += 1
        head = self.head if dice.random() < 0.95 else dice.randrange(1 << 64)
        self.memory.put(576, head.to_bytes(8, "little"))

    def _look(self) -> None:
        """What a client does that was rung."""
        todo, fresh, looks = {}, {}, Looks()
        looks.hold([self.watch], [self.handle])
        if looks.at_once(todo, []):
            return
        looks.look(todo, fresh)
        observations = dict.fromkeys(self.observation.numbers, self.observation)
        dispatch(todo, [], fresh, observations, {"store": self.handle})

    def opened(self, dice: random.Random) -> None:
        """A store or a table with accidents in its header, being opened."""
        memory = dice.choice((self.memory, self.tables))
        for _ in range(dice.choice((1, 1, 2))):
            memory.put(dice.randrange(0, 384, dice.choice((4, 8))), _number(dice, dice.choice((4, 8))))
        if memory is self.tables:
            memory.put(4096 + 64 * 4 + 8192 * 4 + 4 * dice.randrange(10), _number(dice, 4))
            self.attempt(lambda: (lambda table: (table.rows(), table.epoch, table.controller))(Table(memory.fd)))
        else:
            kind = dice.choice((Reader, Monitor))
            self.attempt(lambda: (lambda store: (store.keys(), store.history(0), store.close()))(kind(memory.fd)))
        memory.mend()


_WILD = [b"\xc7\x05\x03\x92\xa1a\x81", b"\xd4\x04", b"\x91" * 80, b"\x81\xa1a" * 40, b"\xc9\xff\xff\xff\xff\x04",
         b"\xdf\xff\xff\xff\xff", b"\xdd\x00\xff\xff\xff", b"\xd7\xff" + bytes(8), b"\xc7\x0c\xff" + b"\xff" * 12,
         b"\xd9\xff", b"\xa1\xff", b"\x93\xa2|O\x90",
         b"\xa3<f8", b"\xa5|V999", b"\x92\xcf" + b"\xff" * 8, b"2026-13-01", b"\xed\xa0\x80", b"\xc1"]  # fmt: skip
