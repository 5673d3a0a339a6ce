"""The value store by itself: values, versions, memory, and readers beside a writer that hammers or dies."""

import datetime
import enum
import json
import math
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time

import fuzz_store
import pytest
from kvo_harness import until
from kvoshim._store import Reader, Writer, crc32c

from kvoshim.errors import (
    ClosedError,
    CorruptStoreError,
    InvalidKeyError,
    InvalidValueError,
    LimitError,
    ReadContentionError,
    UnknownKeyError,
    ValueTooLargeError,
)

UTC = datetime.UTC


@pytest.fixture
def writer():
    writer = Writer("store", max_keys=64, capacity=1 << 22)
    yield writer
    writer.close()


@pytest.fixture
def reader(writer):
    reader = Reader(writer.fd)
    yield reader
    reader.close()


class Colour(enum.IntEnum):
    RED = 3


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    2**64,
    -(2**2000),
    0.0,
    -0.0,
    1.5,
    math.inf,
    "",
    "text",
    "é" * 40,
    "x" * 80,
    "x" * 81,
    "null\0byte",
    b"",
    b"\0\xff",
    b"b" * 100_000,
    datetime.datetime(2024, 2, 29, 23, 59, 59, 999999),
    datetime.datetime(1, 1, 1, tzinfo=UTC),
    datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=45))),
    [],
    {},
    [1, [2, [None, {"a": b"bytes"}]]],
    {"big": 2**100, "when": datetime.datetime(2020, 1, 1), "neg": -(2**70)},
    {7: "int key", True: "bool", b"k": 1, None: 2, 1.5: 3},
    list(range(10_000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_what_is_set_is_what_is_read(writer, reader, value):
    for key in ("a", "b"):
        for turn in range(3):  # both records of the slot, and one again
            assert writer.set(key, value) == 3 * (key == "b") + turn + 1
            for read in (reader.get(key), writer.get(key)):
                assert read == value and type(read) is type(value)


def test_special_floats_and_subclasses(writer, reader):
    writer.set("nan", math.nan)
    assert math.isnan(reader.get("nan"))
    writer.set("zero", -0.0)
    assert math.copysign(1, reader.get("zero")) == -1
    writer.set("enum", Colour.RED)
    assert reader.get("enum") == 3 and type(reader.get("enum")) is int
    writer.set("tuple", (1, (2,)))
    assert reader.get("tuple") == [1, [2]], "tuples are read back as lists"
    writer.set("array", bytearray(b"abc"))
    assert reader.get("array") == b"abc"


def deep(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, what",
    [
        (object(), "builtins.object"),
        ({1, (2,)}, "of type tuple of a set"),
        (print, "builtin_function_or_method"),
        (1j, "complex"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        ([1, {"a": [object()]}], r"value\[1\]\['a'\]\[0\]"),
        ({(1, 2): 3}, "dict key of type tuple"),
        ({2**70: 1}, "dict key of type int"),
        ("\ud800", "surrogate"),
        (["\ud800"], "surrogate"),
        (deep(65), "64 deep"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_cannot_be_stored_is_refused_by_name(writer, reader, value, what):
    writer.set("k", "before")
    with pytest.raises(InvalidValueError, match=what) as caught:
        writer.set("k", value)
    assert isinstance(caught.value, TypeError)
    if not any(word in what for word in ("surrogate", "deep", "key", "set")):
        assert "allowed are None, bool, int, float, str, bytes, datetime, and lists, dicts and sets" in str(
            caught.value
        )
    assert reader.get("k") == "before" and reader.revision("k") == 1
    writer.set("k", deep(64))
    loop = []
    loop.append(loop)
    with pytest.raises(InvalidValueError, match="contains itself"):
        writer.set("k", loop)


def test_crc32c_is_castagnolis_and_both_ways_agree():
    assert crc32c(b"123456789") == crc32c(b"123456789", table=True) == 0xE3069283
    source = random.Random(1)
    for length in (*range(400), *range(3060, 3090), 6143, 6144, 6145, 100_000):  # in strands and folded, too
        data = source.randbytes(length)
        assert crc32c(data) == crc32c(data, table=True)


def test_keys_and_limits(writer, reader):
    for number in range(64):
        writer.set(f"key{number}", number)
    with pytest.raises(LimitError, match="max_keys=64"):
        writer.set("one more", 0)
    assert reader.keys() == [f"key{number}" for number in range(64)]
    with pytest.raises(InvalidKeyError):
        writer.set("", 0)
    with pytest.raises(ValueTooLargeError, match="1048577 bytes.*admits 1048576") as caught:
        writer.set("key0", b"x" * (1 << 20) + b"y")
    assert isinstance(caught.value, ValueError)
    writer.set("key0", b"x" * (1 << 20))
    for options in (
        {"max_keys": 0},
        {"max_keys": 65537},
        {"capacity": 3 << 20},
        {"capacity": 4096},
        {"ring": 100},
    ):
        with pytest.raises(LimitError):
            Writer("bad", **options)


def test_memory_that_runs_out_spoils_nothing(writer, reader):
    kept = {}
    with pytest.raises(LimitError, match="capacity=4194304"):
        for number in range(64):
            writer.set(f"key{number}", bytes([number]) * 200_000)
            kept[f"key{number}"] = bytes([number]) * 200_000
    assert 4 < len(kept) < 64
    for key, value in kept.items():
        assert reader.get(key) == value
    with pytest.raises(UnknownKeyError):
        reader.get(f"key{len(kept)}")
    for key in kept:
        writer.remove(key)
    for _ in range(3):
        writer.set("whole", b"w" * (1 << 20))  # freed blocks join up again
    assert reader.get("whole") == b"w" * (1 << 20)


def test_values_of_changing_size(writer, reader):
    source = random.Random(2)
    expected = {}
    for turn in range(5000):
        key = f"key{source.randrange(8)}"
        if source.random() < 0.1 and key in expected:
            writer.remove(key)
            del expected[key]
        else:
            expected[key] = source.randbytes(int(2 ** source.uniform(0, 17)))
            writer.set(key, expected[key])
        if turn % 50 == 0:
            assert {key: reader.get(key) for key in reader.keys()} == expected
    assert {key: reader.get(key) for key in reader.keys()} == expected


def test_removal_scrubs_and_versions_go_on(writer, reader):
    secrets = [b"small secret 4711", b"large secret 4711 " * 1000]
    for secret in secrets:
        for _ in range(3):
            writer.set("k", secret)
        writer.set("other", 1)
        with mmap.mmap(writer.fd, 0, prot=mmap.PROT_READ) as memory:
            assert memory.find(b"secret 4711") > 0
            version = writer.remove("k", "purged")
            assert memory.find(b"secret 4711") < 0, "nothing of a removed value is left in shared memory"
        found = reader.read("k")
        assert (found.state, found.value, found.revision, found.reason) == ("removed", None, version, "purged")
        assert reader.keys() == ["other"]
        with pytest.raises(UnknownKeyError):
            writer.remove("k")
        assert writer.set("k", 1) == version + 1


def test_a_shorter_value_leaves_nothing_of_the_longer_one():
    writer = Writer("short", max_keys=64, capacity=1 << 22, history=0)  # the journal keeps former values
    for long, short in ((b"4711" * 20, b"x"), (b"4711" * 1000, b"y" * 2000), (b"4711" * 1000, b"z")):
        for _ in range(2):
            writer.set("k", long)
        for _ in range(2):
            writer.set("k", short)
        with mmap.mmap(writer.fd, 0, prot=mmap.PROT_READ) as memory:
            assert memory.find(b"4711") < 0
    writer.close()


def test_a_slot_that_goes_to_another_key():
    writer = Writer("tight", max_keys=2, capacity=1 << 16)
    reader = Reader(writer.fd)
    writer.set("a", 1)
    writer.set("b", 2)
    assert reader.get("a") == 1
    versions = [writer.remove("a")]
    for turn in range(50):
        other, key = ("c", "a") if turn % 2 else ("a", "c")
        versions.append(writer.set(key, turn))
        assert reader.get(key) == turn and reader.get(other, "none") == "none"
        assert reader.get("b") == 2
        versions.append(writer.remove(key))
    assert versions == sorted(set(versions)), "no version comes twice, whatever key has the slot"
    assert reader.keys() == ["b"]
    writer.close()
    reader.close()


def test_versions_can_be_raised_above_those_of_a_predecessor(writer, reader):
    writer.set("small", 1)
    writer.set("large", b"x" * 1000)
    writer.set("removed", 1)
    writer.remove("removed")
    for floor in (10, 11, 100, 5):
        values = reader.get("small"), reader.get("large")
        writer.raise_floor(floor)
        assert (reader.get("small"), reader.get("large")) == values
        assert min(reader.revision(key) for key in ("small", "large", "removed")) > floor
    assert reader.read("removed").state == "removed"
    assert writer.set("new", 1) > 100
    before = reader.revision()
    assert writer.set("small", 2) == before + 1


def test_taking_over_from_another_store(writer, reader):
    successor = Writer("store", max_keys=64, capacity=1 << 22)
    heir = Reader(successor.fd)
    for turn in range(1, 6):
        for number, value in enumerate(VALUES[:12]):
            writer.set(f"key{number}", value)
    for key in reader.keys():
        successor.restore(key, *reader.raw(key))
    for number, value in enumerate(VALUES[:12]):
        assert heir.get(f"key{number}") == value
        assert heir.raw(f"key{number}") == reader.raw(f"key{number}")
        assert successor.set(f"key{number}", "next") == reader.revision() + number + 1
        assert heir.get(f"key{number}") == "next"
    successor.close()
    heir.close()


def test_setting_from_several_threads(writer, reader):
    large = [bytes([number]) * 200_000 for number in range(4)]  # copied without the GIL

    def work(number):
        for turn in range(300):
            writer.set("shared", large[number] if turn % 2 else number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        value = reader.get("shared", 0)
        assert value in (0, 1, 2, 3) or len(set(value)) == 1 and len(value) == 200_000
    for thread in threads:
        thread.join()
    assert reader.revision("shared") == 1200


def test_closing_while_threads_are_inside():
    for _ in range(20):
        writer = Writer("closing", capacity=1 << 24)
        reader = Reader(writer.fd)
        writer.set("k", b"x" * 1_000_000)

        def use(call):
            try:
                while True:
                    call()
            except ClosedError:
                pass

        threads = [
            threading.Thread(target=use, args=(call,))
            for call in (
                lambda: writer.set("k", b"y" * 1_000_000),
                lambda: reader.get("k"),
                lambda: writer.get("k"),
            )
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.005)
        writer.close()
        reader.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


# --- two processes ---------------------------------------------

SIZES = (1, 8, 80, 81, 500, 70_000)


# Writes values whose bytes are all the same, of changing sizes, until it is killed.
_HAMMER = """
import json, sys
from kvoshim._store import Writer
sizes = json.loads(sys.argv[1])
writer = Writer("hammer", capacity=1 << 22)
writer.set("k", bytes(1))
print(writer.fd, flush=True)
number = 0
while True:
    number += 1
    writer.set("k", bytes([number & 255]) * sizes[number % len(sizes)])
"""


@pytest.fixture
def hammer():
    """Starts writers in processes of their own; gives (process, reader)."""
    running = []

    def start(sizes=SIZES):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _HAMMER, json.dumps(sizes)], stdout=subprocess.PIPE
        )
        fd = os.open(f"/proc/{process.pid}/fd/{int(process.stdout.readline())}", os.O_RDONLY)
        reader = Reader(fd)
        os.close(fd)
        running.append((process, reader))
        return process, reader

    yield start
    for process, reader in running:
        process.kill()
        process.wait()
        process.stdout.close()
        reader.close()


@pytest.mark.parametrize("sizes", [(8,), (80,), (500,), (70_000,), SIZES], ids=str)
def test_no_read_is_torn(hammer, sizes):
    _, reader = hammer(sizes)
    last, versions = 0, set()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline or len(versions) < 100:  # on a busy machine the writer may be late; pytest's watchdog ends it
        found = reader.read("k")
        value, version = found.value, found.revision
        assert len(set(value)) == 1, "all bytes are of one write"
        assert value[0] == (version - 1) & 255 and len(value) == (
            1 if version == 1 else sizes[(version - 1) % len(sizes)]
        )
        assert version >= last, "versions never fall"
        last = version
        versions.add(version)


def test_a_writer_killed_at_any_moment_leaves_a_whole_value(hammer):
    source = random.Random(3)
    for _ in range(12):
        process, reader = hammer((80, 300, 70_000))
        until(lambda: reader.revision("k") > 10)
        time.sleep(source.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
        first = reader.raw("k")
        assert len(set(first[1])) == 1
        assert reader.raw("k") == first, "the dead write nothing"


# --- damage ---------------------------------------------


def _poke(offset: int, data: bytes) -> None:
    """What a stray pointer in the owner would do: writes into its mapping."""
    with open("/proc/self/maps") as maps:
        (line,) = [line for line in maps if "kvoshim-store" in line and "rw-s" in line]
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(int(line.split("-")[0], 16) + offset)
        memory.write(data)


def _slot() -> int:
    return 4096 + 256 * 64  # the first slot of a store with 64 keys


def test_a_store_whose_owner_died_while_it_gave_a_slot_away_is_read_without_that_key():
    memory = fuzz_store.Sealed(fuzz_store.good_store())
    reader = Reader(memory.fd)
    try:
        keys = set(reader.keys())
        slot = fuzz_store.SLOTS + 320 * reader.directory()["key3"]
        memory.put(slot + 16, struct.pack("<Q", 3))  # its binding: being changed
        found = {one.key: one.state for one in reader.newer(0)[1]}
        assert found.keys() - {"key7"} == keys - {"key3"} and set(found.values()) == {"set", "removed"}
        memory.mend()
        assert {one.key for one in reader.newer(0)[1]} >= keys
    finally:
        reader.close()
        memory.close()


def test_a_store_that_is_below_its_values_spoils_these_only():
    """No transaction leaves two writes of a key that are not in force: who reads all does not wait for it to end."""
    memory = fuzz_store.Sealed(fuzz_store.good_store())
    reader = Reader(memory.fd)
    try:
        revision, keys = reader.revision(), reader.keys()
        assert {one.state for one in reader.newer(0)[1]} == {"set", "removed"}
        memory.put(640, struct.pack("<Q", 6))
        found = {one.key: one.state for one in reader.newer(0)[1]}
        assert found.keys() >= set(keys) - {"key6"} and "corrupt" in found.values()  # key6 has not come to be yet
        memory.mend()
        assert reader.revision() == revision and {one.state for one in reader.newer(0)[1]} == {"set", "removed"}
    finally:
        reader.close()
        memory.close()


def test_damaged_values_are_noticed(writer, reader):
    writer.set("k", b"intact")
    record = _slot() + 64 + 128  # version 1
    for offset, data in ((48, b"X"), (0, b"\x07"), (8, b"\xff"), (40, b"\x07"), (32, b"\x05")):
        with open("/proc/self/mem", "rb", buffering=0):
            writer.set("k", b"other")
            writer.set("k", b"intact")
        at = record if reader.read("k").count % 2 else record - 128
        _poke(at + offset, data)
        with pytest.raises(CorruptStoreError, match="contradicts its checksum"):
            reader.get("k")
    # Offsets and lengths that point outside are noticed before they are used.
    for offset, data in ((24, (1 << 62).to_bytes(8, "little")), (32, b"\xff\xff\xff\xff"), (24, b"\x08")):
        writer.set("k", b"x" * 1000)
        at = record if reader.read("k").count % 2 else record - 128
        _poke(at + offset, data)
        with pytest.raises(CorruptStoreError):
            reader.get("k")
        writer.set("k", 1)
        writer.set("k", 1)
    assert reader.get("k") == 1


def test_a_counter_gone_mad_does_not_hang_the_reader(writer, reader):
    writer.set("k", 1)
    _poke(_slot(), (1000).to_bytes(8, "little"))
    with pytest.raises(ReadContentionError, match="'store'"):
        reader.get("k")


@pytest.mark.parametrize(
    "offset, data",
    [
        (0, b"BAD!"),
        (4, b"\x09"),
        (16, bytes(4)),
        (16, b"\xff\xff\xff\xff"),
        (28, b"\x03\0\0\0"),
        (32, b"\x01"),
        (40, b"\xff" * 8),
        (56, b"\xff" * 8),
        (64, b"\xff" * 8),
        (8, b"\xff" * 8),
        (76, b"\xff\xff"),
        (104, b"\xff"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(writer, offset, data):
    _poke(offset, data)
    with pytest.raises(CorruptStoreError):
        Reader(writer.fd)
