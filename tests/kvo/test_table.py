"""The registration table and the dirty ring: who is woken when, and what an overrun does."""

import pytest
from kvoshim._monitor import Monitor
from kvoshim._store import Writer
from kvoshim._table import Table, TableWriter

from kvoshim.errors import LimitError


class Bells:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def scene():
    """A store with a ring of 8, the controller's view of it, the table, and a bell that counts."""
    table = TableWriter(bytes(16), 4, 4)
    seen = Table(table.fd)
    writer = Writer("store", ring=8, capacity=1 << 16)
    bells = Bells()
    writer.attach(seen, 2, bells)
    monitor = Monitor(writer.fd)
    parts = [writer, monitor, table, bells]
    yield parts
    parts.clear()  # the table is freed with its last reference
    writer.close()
    monitor.close()


def ask(table, slot=None, all=False, new=False):
    """As the controller does for somebody whom it has to tell."""
    if slot is not None:
        table.set_told(2, slot, True)
        table.set_observed(2, slot, True)
    table.set_told_flags(2, slot is not None, all, new)
    table.set_flags(2, slot is not None, all, new)


def test_unobserved_keys_leave_no_trace(scene):
    writer, monitor, table, bells = scene
    table.arm()
    for number in range(100):
        writer.set("k", number)
    assert not monitor.waiting() and monitor.drain() == [] and bells.count == 0


def test_one_bell_a_sleep_and_none_while_awake(scene):
    writer, monitor, table, bells = scene
    writer.set("k", 0)
    writer.set("other", 0)
    ask(table, 0)
    writer.set("k", 1)
    assert bells.count == 0, "awake: it will look by itself"
    assert monitor.waiting() and monitor.drain() == [0]
    for sleep in range(1, 4):
        table.arm()
        for number in range(5):
            writer.set("k", number)
        assert bells.count == sleep, "once a sleep"
        table.disarm()
        writer.set("k", -1)
        assert bells.count == sleep
        assert monitor.drain() == [0], "each slot once, however often it was set"
    writer.set("other", 1)
    assert not monitor.waiting()
    table.set_observed(2, 0, False)
    table.set_flags(2, False, False, False)
    writer.set("k", 9)
    assert not monitor.waiting()


def test_new_keys_and_all_keys(scene):
    writer, monitor, table, bells = scene
    table.arm()
    ask(table, new=True)
    writer.set("first", 1)
    assert bells.count == 1 and monitor.drain() == [0]
    writer.set("first", 2)
    assert monitor.drain() == [], "only its beginning was awaited"
    writer.remove("first")
    writer.set("first", 3)
    assert monitor.drain() == [0], "a key that begins anew is new"
    ask(table, all=True)
    writer.set("second", 1)
    writer.set("first", 2)
    assert monitor.drain() == [1, 0]
    assert monitor.key_of(1) == "second" and monitor.slot_version(0) == writer.read("first").count


def test_an_overrun_says_look_at_everything(scene):
    writer, monitor, table, bells = scene
    table.set_flags(2, False, True, False)
    for number in range(7):
        writer.set(f"key{number}", number)
    assert monitor.drain() == list(range(7))
    for number in range(8):
        writer.set(f"key{number}", number)
    assert monitor.waiting() and monitor.drain() is None
    assert not monitor.waiting() and monitor.drain() == []
    writer.set("key3", 1)
    assert monitor.drain() == [3], "and then it goes on as before"


def test_a_store_attached_anew_counts_as_changed(scene):
    writer, monitor, table, bells = scene
    other = TableWriter(b"x" * 16, 4, 4)
    writer.attach(Table(other.fd), 1, bells)
    assert monitor.drain() is None
    writer.detach()
    other.set_flags(1, False, True, False)
    writer.set("k", 1)
    assert monitor.drain() == []


def test_flags_and_bits_are_what_readers_see(scene):
    _, _, table, _ = scene
    seen = Table(table.fd)
    table.set_flags(3, True, False, True)
    for slot in (0, 63, 64, 65535):
        table.set_observed(3, slot, True)
        assert seen.observed(3, slot) and not seen.observed(2, slot)
    assert seen.flags(3) == {"some", "new"} and seen.flags(2) == set()
    table.set_observed(3, 63, False)
    assert not seen.observed(3, 63) and seen.observed(3, 64)
    table.clear(3)
    assert not any(seen.observed(3, slot) for slot in (0, 64, 65535)) and seen.flags(3) == set()
    for call in (
        lambda: seen.flags(4),
        lambda: seen.observed(0, 65536),
        lambda: table.set_flags(4, 0, 0, 0),
        lambda: table.set_observed(4, 0, True),
    ):
        with pytest.raises(IndexError):
            call()


def test_rows(scene):
    _, _, table, _ = scene
    seen = Table(table.fd)
    rows = [
        table.add_row(100 + number, 5, "näme", None if number % 2 else "k" * 255, 1_000_000_000)
        for number in range(4)
    ]
    with pytest.raises(LimitError, match="4 registrations"):
        table.add_row(1, 1, "n", "k", 0)
    table.bind_row(rows[1], 77, 2)
    assert [(row["observer_pid"], row["observable_pid"], row["key"]) for row in seen.rows()] == [
        (100, 0, "k" * 255),
        (101, 77, None),
        (102, 0, "k" * 255),
        (103, 0, None),
    ]
    assert seen.rows()[0]["name"] == "näme" and seen.rows()[0]["registered"] == 1.0
    table.remove_row(rows[0])
    assert len(seen.rows()) == 3
    table.add_row(9, 1, "n", "short", 0)
    assert seen.rows()[0]["key"] == "short", "nothing is left of the row's former content"


def test_the_controller_is_called_for_what_it_has_to_tell(scene):
    """Keys that only clients observe whom the owner rings itself leave it asleep, but for what it has to bind."""
    writer, monitor, table, bells = scene
    writer.set("k", 0)
    writer.set("told", 0)
    table.arm()
    table.set_observed(2, 0, True)
    table.set_flags(2, True, False, False)
    for number in range(6):
        writer.set("k", number)
    assert monitor.waiting() and not monitor.called() and bells.count == 0 and monitor.drain() == [0]
    ask(table, 1)
    writer.set("k", 1)
    assert not monitor.called() and bells.count == 0
    writer.set("told", 1)
    assert monitor.called() and bells.count == 1 and monitor.drain() == [0, 1] and not monitor.called()
    writer.remove("k")
    assert not monitor.called()
    writer.set("k", 2)
    assert monitor.called(), "it may stand in another slot now"
    for number in range(8):
        writer.set("k", number)
    assert monitor.called() and monitor.drain() is None, "an overrun may have hidden something"
