"""Revisions of a store, transactions, the journal: what a reader sees of them, also if the writer dies half-way."""

import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import threading

import pytest
from kvo_harness import until
from kvoshim._store import Reader, Writer

from kvoshim.errors import ConflictError, CorruptStoreError, LimitError, UnknownKeyError


@pytest.fixture
def pair():
    writer = Writer("store", max_keys=16, capacity=1 << 22, history=1 << 14)
    reader = Reader(writer.fd)
    yield writer, reader
    writer.close()
    reader.close()


def everything(reader, position=0):
    changes, position, gap = reader.history(position)
    seen = [(change.revision, change.key, change.value if change.state == "set" else change.reason) for change in changes]
    return seen, position, gap


def test_one_revision_for_the_store_and_each_key_has_that_of_its_last_change(pair):
    writer, reader = pair
    assert reader.revision() == 0
    assert [writer.set("a", 1), writer.set("b", 1), writer.set("a", 2), writer.remove("b")] == [1, 2, 3, 4]
    assert reader.revision() == 4 and reader.revision("a") == 3 and reader.revision("b") == 4 and reader.revision("c") == 0
    revision, found = reader.newer(2)
    assert revision == 4 and [(one.key, one.state, one.revision) for one in found] == [("a", "set", 3), ("b", "removed", 4)]


def test_a_transaction_is_one_revision_and_all_or_nothing(pair):
    writer, reader = pair
    writer.set("a", 1)
    writer.set("spent", 1)
    assert writer.transact({"a": (2, 0, False), "b": ("x" * 1000, 0, False)}, {"spent": "deleted"}) == 3
    assert [(one.key, one.revision, one.together) for one in reader.newer(2)[1]] == [(key, 3, True) for key in ("a", "spent", "b")]
    before = reader.newer(0)[0], reader.get("a")
    for sets, removals, expect, error in (
        ({"a": (3, 0, False)}, {}, {"a": 2}, ConflictError),
        ({"new": (3, 0, False)}, {}, {"a": 3, "b": 0}, ConflictError),
        ({"a": (3, 0, False)}, {"spent": "deleted"}, {}, UnknownKeyError),
        ({"a": (3, 0, False), **{f"k{n}": (b"x" * 900_000, 0, False) for n in range(8)}}, {}, {}, LimitError),
        ({f"many{n}": (n, 0, False) for n in range(20)}, {}, {}, LimitError),
    ):
        with pytest.raises(error):
            writer.transact(sets, removals, expect)
        assert (reader.revision(), reader.get("a")) == before
        assert reader.keys() == ["a", "b"]
    assert writer.transact({"new": (1, 0, False)}, {}, {"new": 0}) == 4, "create if absent"
    with pytest.raises(ConflictError):
        writer.transact({"new": (1, 0, False)}, {}, {"new": 0})
    for number in range(13):  # the slots of what was refused are free again
        writer.set(f"other{number}", number)


_MOVER = """
import sys
from kvoshim._store import Writer
writer = Writer("mover", max_keys=8, capacity=1 << 22)
print(writer.fd, flush=True)
number = 0
while True:
    number += 1
    writer.transact({key: (number if key < "d" else bytes([number & 255]) * (200 + number % 1000), 0, False) for key in "abcdef"})
"""


def start(program):
    process = subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE)
    fd = os.open(f"/proc/{process.pid}/fd/{int(process.stdout.readline())}", os.O_RDONLY)
    reader = Reader(fd)
    os.close(fd)
    return process, reader


def whole(reader):
    revision, found = reader.newer(0)
    assert {one.revision for one in found} <= {revision}
    values = {one.key: one.value for one in found}
    assert {values[key] for key in "abc"} == {revision}
    assert all(set(values[key]) == {revision & 255} for key in "def")
    return revision


def test_a_transaction_is_seen_whole_or_not_at_all_and_survives_the_writers_death_so():
    source = random.Random(5)
    for _ in range(10):
        process, reader = start(_MOVER)
        try:
            until(lambda: reader.revision() > 10)
            for _ in range(source.randrange(1, 200)):
                assert whole(reader)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert whole(reader) == whole(reader), "the dead write nothing"
            changes, _, _ = reader.history(reader.history_bounds()[0])
            assert changes[-1].revision == reader.revision(), "the journal ends with what is in force"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            reader.close()


def test_the_journal_has_every_change_in_order(pair):
    writer, reader = pair
    writer.set("a", 1)
    writer.set("a", 1)
    writer.transact({"b": ("two", 0, False), "c": ([3], 0, False)})
    writer.remove("a")
    changes, position, gap = everything(reader)
    assert changes == [(1, "a", 1), (2, "a", 1), (3, "b", "two"), (3, "c", [3]), (4, "a", "deleted")] and not gap
    assert everything(reader, position) == ([], position, False)
    first, second = reader.history(0)[0][:2]
    assert (first.count, first.changed, second.count, second.changed) == (1, 1, 2, 1), "the second changed nothing"
    writer.set("d", 4)
    assert everything(reader, position)[0] == [(5, "d", 4)]
    found, position, _ = reader.history(0, revision=3)
    assert [change.revision for change in found] == [1, 2, 3, 3] and reader.history(0, revision=3, skim=True) == ([], position, False)


def test_what_the_journal_has_no_room_for_is_announced(pair):
    writer, reader = pair
    source = random.Random(6)
    written, position = [], 0
    for turn in range(3000):
        value = source.randbytes(int(2 ** source.uniform(0, 11)))
        written.append((writer.set(f"key{turn % 5}", value), f"key{turn % 5}", value))
        if turn % 7 == 0:
            changes, position, gap = everything(reader, position)
            assert changes == written[-len(changes):] and (gap or len(changes) == (7 if turn else 1))
    changes, _, gap = everything(reader, 0)
    assert gap and 5 < len(changes) < 3000 and changes == written[-len(changes):]
    assert reader.oldest[0] == changes[0][0] - 1
    writer.set("big", b"x" * 5000)
    last = reader.history(position)[0][-1]
    assert not last.kept and last.value is None and last.state == "set"


def test_a_journal_read_while_it_is_overwritten_gives_whole_entries(pair):
    writer, reader = pair
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            writer.set("k", bytes([number & 255]) * (number % 300))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        position, last, seen = 0, 0, 0
        while seen < 1500:
            changes, position, _ = reader.history(position)
            seen += len(changes)
            for change in changes:
                assert change.revision > last and change.value == bytes([change.revision & 255]) * (change.revision % 300)
                last = change.revision
    finally:
        stop.set()
        thread.join()


def test_purging_leaves_nothing_in_the_journal(pair):
    writer, reader = pair
    for _ in range(3):
        writer.set("k", b"secret 4711")
        writer.set("other", 1)
    with mmap.mmap(writer.fd, 0, prot=mmap.PROT_READ) as memory:
        writer.remove("k")
        assert memory.find(b"secret 4711") > 0, "what was deleted is history"
        writer.set("k", 1)
        writer.remove("k", "purged")
        assert memory.find(b"secret 4711") < 0
    kept = [(change.key, change.kept) for change in reader.history(0)[0]]
    assert kept.count(("k", False)) == 4 and kept.count(("other", True)) == 3
    assert reader.history(0)[0][-1].reason == "purged"


def test_a_store_without_history(pair):
    writer = Writer("bare", max_keys=4, capacity=1 << 16, history=0)
    reader = Reader(writer.fd)
    writer.set("a", 1)
    assert reader.history(0) == ([], 0, False) and reader.oldest == (1, 0) and reader.get("a") == 1
    writer.close()
    reader.close()


def test_deletions_whose_slot_was_given_away_are_forgotten():
    writer = Writer("tight", max_keys=1, capacity=1 << 16)
    reader = Reader(writer.fd)
    writer.set("a", 1)
    writer.remove("a")
    assert reader.oldest[1] == 0
    writer.set("b", 1)
    assert reader.oldest[1] == 2
    assert [one.key for one in reader.newer(0)[1]] == ["b"]
    writer.close()
    reader.close()


def test_revisions_nobody_can_have_come_to_are_refused(pair):
    writer, reader = pair
    writer.set("a", 1)
    with pytest.raises(LimitError):
        writer.raise_floor(2**63)
    assert writer.set("a", 2) == 2


def test_a_wild_journal_is_an_error_not_a_crash(pair):
    writer, reader = pair
    for number in range(50):
        writer.set(f"key{number % 5}", "x" * number)
    with open("/proc/self/maps") as maps:
        (line,) = [line for line in maps if "kvoshim-store" in line and "rw-s" in line]
    start = int(line.split("-")[0], 16)
    page = 4096
    journal = start + (4096 + (256 + 320) * 16 + 4 * 4096 + page - 1) // page * page
    source = random.Random(8)
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(journal)
        saved = memory.read(1 << 14)
        outcomes = set()
        for _ in range(1000):
            memory.seek(journal)
            memory.write(saved)
            memory.seek(journal + source.randrange(4000) // 4 * 4)
            memory.write(source.choice([b"\xff" * 8, bytes(8), source.randbytes(4)]))
            try:
                changes, _, _ = reader.history(0)
                outcomes.add("corrupt" if any(change.state == "corrupt" for change in changes) else "read")
            except CorruptStoreError:
                outcomes.add("refused")
        memory.seek(journal)
        memory.write(saved)
    assert outcomes >= {"corrupt", "refused"}
    assert reader.get("key0") == "x" * 45


GROWING = """
import socket, sys
from kvoshim._store import Writer
with socket.socket(fileno=int(sys.argv[1])) as line:
    writer = Writer("growing", max_keys=20000, capacity=1 << 24)
    socket.send_fds(line, [b"x"], [writer.fd])
    line.recv(1)
    for number in range(20000):
        writer.set(f"key{number}", number)
    line.recv(1)
    writer.close()
"""


@pytest.mark.parametrize("keys", [None, lambda key: key.startswith("key")], ids=["all", "some"])
def test_what_is_read_of_a_store_to_which_keys_come_has_all_up_to_its_revision(keys):
    """Who goes on from the revision that newer() returns misses no key that is bound meanwhile."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen([sys.executable, "-P", "-c", GROWING, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        reader = Reader(fd)
        ours.sendall(b"x")
        revision, seen = 0, set()
        while revision < 20000:
            after, found = reader.newer(revision, keys)
            assert [one.revision for one in found] == list(range(revision + 1, after + 1))
            seen |= {one.key for one in found}
            revision = after
        assert len(seen) == 20000
        ours.sendall(b"x")
        assert process.wait(30) == 0
        reader.close()
        os.close(fd)
