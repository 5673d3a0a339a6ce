"""The protocol is written down twice, in C and in Python: both say the same. And the program keeps within its size."""

import re
import struct
from pathlib import Path

import pytest

from kvoshim.errors import InvalidOrderError, SpawnerProtocolError
from kvoshim.services.spawner import packets, program, wire
from kvoshim.services.spawner.messages import Order

SOURCES = Path(__file__).parents[3] / "pyx" / "spawner"
HEADER = (SOURCES / "wire.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)


def enum(name: str) -> dict[str, int]:
    body = re.search(rf"enum {name} \{{(.*?)\}};", CODE, re.S)[1]
    return {key: int(value, 0) for key, value in re.findall(r"KVS_(\w+) = (\w+)", body)}


def test_numbers_are_the_same():
    defined = {name: int(value.rstrip("u"), 0) for name, value in re.findall(r"#define KVS_(\w+) (\w+)", CODE) if value[0].isdigit()}
    assert defined == {name: getattr(wire, name) for name in defined} and len(defined) > 8
    assert f'#define KVS_LISTEN_PID "LISTEN_PID={wire.LISTEN_PID}"' in CODE
    assert enum("kvs_type") == {one.name: one.value for one in wire.Type}
    assert enum("kvs_flag") == {one.name: one.value for one in wire.Flag}
    assert enum("kvs_step") == {f"AT_{one.name}": one.value for one in wire.Step}


def test_every_offset_is_asserted_and_the_same():
    asserted = {(name, field): int(offset) for name, field, offset in re.findall(r"KVS_IS\(kvs_(\w+), (\w+), (\d+)\)", CODE)}
    sizes = {name: int(size) for name, size in re.findall(r"KVS_SIZE\(kvs_(\w+), (\d+)\)", CODE)}
    for name, fields in wire.LAYOUTS.items():
        at = 0
        for field, kind in fields.items():
            if at and field != "zero" or (name, field) in asserted:
                assert asserted.pop((name, field)) == at, (name, field)
            at += struct.calcsize("<" + kind)
        assert sizes.pop(name) == at, name
    assert not asserted and not sizes


def test_the_program_is_tiny():
    lines = 0
    for path in sorted(SOURCES.glob("*.c")):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        lines += sum(bool(line.strip()) for line in code.splitlines())
    assert 100 < lines < 500


@pytest.mark.parametrize("fields, said", [
    ({"token": 0}, "token"),
    ({"token": 2**64}, "token"),
    ({"program": ""}, "program"),
    ({"args": ()}, "arguments"),
    ({"args": ("a\0b",)}, "NUL"),
    ({"args": ("\ud800",)}, "UTF-8"),
    ({"env": {"A=B": "c"}}, "A=B"),
    ({"env": {"A": "x" * wire.MESSAGE_MAX}}, "too long"),
    ({"fds": {-1: 0}}, "descriptor"),
    ({"fds": {number: 0 for number in range(wire.FDS_MAX + 1)}}, "descriptors"),
    ({"limits": ((7, -1, 1),)}, "range"),
    ({"ids": (-5, 0, ())}, "range"),
])  # fmt: skip
def test_bad_orders_are_not_sent(fields, said):
    order = {"token": 1, "program": "/bin/true", "args": ("true",)} | fields
    with pytest.raises(InvalidOrderError, match=said):
        packets.spawn(Order(**order), 1)


@pytest.mark.parametrize("name", ["", "x" * (wire.NAME_MAX + 1), "a\0b", "é" * 61])
def test_bad_names_are_not_sent(name):
    with pytest.raises(InvalidOrderError, match="name"):
        packets.named(wire.Type.HOLD, name, 1)


@pytest.mark.parametrize("data", [
    b"", b"x", b"\0" * 16, packets.header(wire.Type.SPAWN, 16, 1), packets.header(wire.Type.EXIT, 16, 1),
    packets.header(99, 16, 1), packets.header(wire.Type.DONE, 17, 1),
])  # fmt: skip
def test_what_is_no_message_of_a_spawner_is_refused(data):
    with pytest.raises(SpawnerProtocolError):
        packets.decode(data)


def test_the_document_names_every_message_limit_and_exit_code():
    text = (SOURCES.parents[1] / "docs" / "services-spawner.md").read_text()
    for kind in wire.Type:
        assert f"`{kind.name}`" in text or f"`{kind.name} " in text, kind
    for number in (wire.CHILDREN_MAX, wire.HELD_MAX):
        assert f"{number:,}" in text
    assert f"{wire.NAME_MAX} bytes" in text and f"{wire.MESSAGE_MAX // 1024} KiB" in text
    assert f"{wire.FDS_MAX} descriptors" in text and f"{wire.LIMITS_MAX} resource limits" in text
    assert f"| {', '.join(map(str, program.EXIT_MEANINGS))} |" in text
