"""Values beyond the plain ones: dataclasses, Structs, arrays, large ones; and what comes out of wild bytes."""

import dataclasses
import random
import sys

import msgspec
import numpy
import pytest
from kvoshim._store import Reader, Writer
from kvoshim._values import accept

from kvoshim.errors import (
    CorruptStoreError,
    ExpiredViewError,
    InvalidValueError,
    KvoshimError,
    UnknownKeyError,
    ValueTooLargeError,
)


@pytest.fixture
def pair():
    writer = Writer("store", max_keys=64, capacity=1 << 24, history=1 << 14)
    reader = Reader(writer.fd)
    yield writer, reader
    writer.close()
    reader.close()


@dataclasses.dataclass
class Plain:
    rpm: int
    oil: object = None


@accept
@dataclasses.dataclass(frozen=True)
class Oil:
    temperature: float
    grades: list = dataclasses.field(default_factory=list)


@accept
@dataclasses.dataclass(slots=True)
class Engine:
    name: str
    oil: Oil
    spare: tuple = ()


@accept
class Gear(msgspec.Struct):
    number: int
    ratios: dict[str, float] = {}


def test_a_dataclass_is_read_as_what_it_is_where_its_class_is_accepted(pair):
    writer, reader = pair
    engine = Engine("V8", Oil(90.5, [1, 2]))
    writer.set("engine", engine)
    assert reader.get("engine") == Engine("V8", Oil(90.5, [1, 2]), []) and type(reader.get("engine").oil) is Oil
    writer.set("list", [engine.oil, {"k": Gear(3, {"first": 2.5})}])
    assert reader.get("list") == [engine.oil, {"k": Gear(3, {"first": 2.5})}]
    writer.set("gear", Gear(4))
    assert reader.get("gear") == Gear(4)


def test_sets(pair):
    writer, reader = pair
    for value in (set(), {1, "x", b"y", None, 2.5, 1 << 80}, {"k": [{1, 2}]}):
        writer.set("set", value)
        assert reader.get("set") == value
    writer.set("set", frozenset("abc"))
    assert reader.get("set") == {"a", "b", "c"} and type(reader.get("set")) is set
    writer.set("set", set("cba"))
    found = reader.read("set")
    assert found.changed == found.count - 1, "an equal set changes nothing"


def test_a_class_that_was_not_accepted_is_read_as_a_dict(pair):
    writer, reader = pair
    writer.set("plain", Plain(900, Oil(80.0)))
    assert reader.get("plain") == {"rpm": 900, "oil": Oil(80.0)}
    with pytest.raises(InvalidValueError, match="neither a dataclass nor"):
        accept(int)
    with pytest.raises(InvalidValueError, match=r"value\.oil"):
        writer.set("plain", Plain(1, object()))


def test_fields_that_do_not_fit_their_class_are_an_error_of_that_key(pair):
    writer, reader = pair

    @dataclasses.dataclass
    class Impostor:
        temperatur: float = 1.0

    Impostor.__module__, Impostor.__qualname__ = Oil.__module__, Oil.__qualname__
    writer.set("bad", Impostor())
    writer.set("good", 1)
    with pytest.raises(CorruptStoreError, match="temperature"):
        reader.get("bad")
    assert reader.get("good") == 1


ARRAYS = [
    numpy.arange(12, dtype="<i4").reshape(3, 4),
    numpy.arange(12, dtype=">f8"),
    numpy.zeros((0, 3)),
    numpy.array(5.5),
    numpy.array([True, False]),
    numpy.array(["a", "bc"]),
    numpy.array(["2024-01-01"], dtype="datetime64[D]"),
    numpy.array([(1, 2.5, [1, 2])], dtype=[("a", "<i4"), ("b", "<f8"), ("c", "<i2", (2,))]),
    numpy.arange(100_000, dtype=numpy.float32)[::7],
    numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype} {value.shape}")
def test_arrays(pair, value):
    writer, reader = pair
    writer.set("k", value)
    writer.set("nested", {"a": [value]})
    for read in (reader.get("k"), reader.get("nested")["a"][0]):
        assert read.dtype == value.dtype and read.shape == value.shape and (read == value).all()
        assert read.flags.writeable
    with reader.view("k") as shown:
        assert shown.dtype == value.dtype and (shown == value).all() and (not shown.size or not shown.flags.writeable)


def test_scalars_and_what_numpy_cannot_give(pair):
    writer, reader = pair
    writer.set("k", numpy.int16(-3))
    assert reader.get("k") == -3 and type(reader.get("k")) is int
    writer.set("k", [numpy.float32(0.5)])
    assert reader.get("k") == [0.5]
    with pytest.raises(InvalidValueError, match="Python objects"):
        writer.set("k", numpy.array([object()]))


def test_a_view_shows_memory_without_copying_and_says_when_it_was_overwritten(pair):
    writer, reader = pair
    for number in (1, 2, 3):
        writer.set("k", numpy.full(100_000, number))
    view = reader.view("k")
    with view as shown:
        assert not shown.flags.owndata and not shown.flags.writeable
        assert shown.ctypes.data % 64 == 0
        with pytest.raises(ValueError):
            shown[0] = 1
        writer.set("k", numpy.full(100_000, 4))
        assert (shown == 3).all(), "one more write goes elsewhere"
    view.check()
    with pytest.raises(ExpiredViewError), reader.view("k") as shown:
        writer.set("k", 1)
        writer.set("k", 2)
    writer.set("small", numpy.arange(2, dtype="u1"))
    with reader.view("small") as small:
        writer.remove("small")
        assert list(small) == [0, 1], "what lies in its record is a copy"
    writer.set("bytes", b"b" * 1000)
    with reader.view("bytes") as shown:
        assert bytes(shown) == b"b" * 1000 and shown.readonly
    with pytest.raises(InvalidValueError):
        reader.view("k")
    with pytest.raises(UnknownKeyError):
        reader.view("nothing")


def test_a_view_outlives_the_reader(pair):
    writer, _ = pair
    other = Reader(writer.fd)
    writer.set("k", numpy.full(100_000, 7))
    shown = numpy.asarray(other.view("k").content)
    other.close()
    assert (shown == 7).all()
    del shown
    with open("/proc/self/maps") as maps:
        assert sum("kvoshim-store" in line for line in maps) == 2, "the mapping goes with the last view"


@pytest.mark.watchdog(240)
def test_64_mib():
    writer = Writer("large", max_keys=4)
    reader = Reader(writer.fd)
    value = bytes(range(256)) * (1 << 18)
    for turn in range(2):
        writer.set("k", value)
        assert reader.get("k") == value
    with pytest.raises(ValueTooLargeError):
        writer.set("k", value + b"x")
    with reader.view("k") as shown:
        assert shown.nbytes == 64 << 20 and shown[-1] == 255
    del shown
    writer.close()
    reader.close()


def test_a_view_of_a_key_that_has_the_slot_of_another(pair):
    writer, reader = pair
    for number in range(64):
        writer.set(f"key{number}", number)
    writer.remove("key0")
    writer.set("late", numpy.arange(100))
    with reader.view("late") as array:
        assert array[99] == 99
    view = reader.view("late")
    writer.set("late", numpy.arange(100))
    writer.set("late", numpy.arange(100))
    with pytest.raises(ExpiredViewError):
        view.check()


def _mapping():
    with open("/proc/self/maps") as maps:
        (line,) = [line for line in maps if "kvoshim-store" in line and "rw-s" in line]
    return int(line.split("-")[0], 16)


def test_wild_contents_of_a_store_are_a_typed_error_of_that_key_only(pair):
    """Whatever a malicious owner writes over the slot of one key, checksum included: the others stay readable."""
    writer, reader = pair
    from kvoshim._store import crc32c

    writer.set("evil", [1])
    writer.set("good", "value")
    source = random.Random(4)
    beginnings = [b"\xc7\x05\x03\x92\xa1a\x81", b"\xd4\x04", b"\x91" * 70, b"\x0a\0\0\0\x08\0\0\0\x92\xa3<f8"]
    record = _mapping() + 4096 + 256 * 64 + 64 + 128
    outcomes = {}
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(record)
        original = bytearray(memory.read(128))
        for turn in range(5_000):
            wild = bytearray(original)
            wild[32:36] = source.randrange(81).to_bytes(4, "little")
            wild[40] = source.choice([*range(13), 255])
            length = int.from_bytes(wild[32:36], "little")
            if turn % 2:
                # The type and fields of what could be a value: MessagePack with extensions, arrays.
                wild[48:128] = (source.choice(beginnings) + source.randbytes(80))[:80]
            else:
                wild[48:128] = source.randbytes(80)
            fields = bytes(wild[0:32]) + bytes(wild[32:36]) + bytes(wild[40:44])
            seed = int.from_bytes(wild[44:48], "little")
            assert seed == 0
            wild[36:40] = crc32c(fields + bytes(wild[48:48 + length])).to_bytes(4, "little")
            memory.seek(record)
            memory.write(wild)
            try:
                reader.get("evil", None)
                outcome = "read"
            except KvoshimError as error:
                outcome = type(error).__name__
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            assert reader.get("good") == "value"
            found = {one.key: one.state for one in reader.newer(0)[1]}
            assert found["good"] == "set"
    assert outcomes["read"] > 100 and outcomes["CorruptStoreError"] > 100 and len(outcomes) == 2, outcomes


def test_numpy_is_not_imported_for_values_without_arrays():
    import subprocess

    program = (
        "import sys\nfrom kvoshim._store import Reader, Writer\nw = Writer('x')\nr = Reader(w.fd)\n"
        "w.set('k', [1]); r.get('k')\nassert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)
