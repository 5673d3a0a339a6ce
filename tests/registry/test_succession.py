"""The registry dies, and another one takes its place: all who live are there again, nobody who is dead, and searches go on."""

import os
import signal

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import ControlUnavailableError


def kill_registry(stage) -> int:
    pid = until(stage.registry_pid)
    os.kill(pid, signal.SIGKILL)
    return pid


def successor(stage, dead: int) -> int:
    """The PID of the registry after that one; once it is settled."""
    pid = until(lambda: (found := stage.registry_pid()) != dead and found)
    until(lambda: settled(stage), "the registry settles")
    return pid


def settled(stage) -> bool:
    try:
        return stage.ask("status-get")["settled"]
    except ControlUnavailableError:  # its control channel comes last
        return False


@pytest.mark.parametrize("kind", [(), ("asyncio",)], ids=["thread", "asyncio"])
def test_what_was_registered_is_registered_again_as_it_was(stage, kind):
    peer, other = stage.peer(*kind), stage.peer(*kind)
    before = peer.do("register", "engine", {"address": "/e", "metadata": {"a": 1}})
    peer.do("register", "second", {})
    waiting = other.do("register", "engine", {})
    peer.do("close", "second")
    peer.do("update", "engine", {"address": "/new"})
    other.do("watch", "*")
    dead = kill_registry(stage)
    successor(stage, dead)
    entries = until(lambda: len(found := registry.find()) == 2 and found)
    assert [entry.id for entry in entries] == [before["id"], waiting["id"]]
    assert entries[0].token == before["token"] and entries[1].token == 0
    assert (entries[0].address, entries[0].metadata, entries[0].since) == ("/new", {"a": 1}, before["since"])
    assert peer.do("state", "engine")["token"] == before["token"]
    assert not other.seen("lost") and not other.seen("removed") and not other.seen("added")
    peer.do("close", "engine")
    assert other.do("wait_owner", "engine", 30)
    assert other.do("state", "engine")["token"] > before["token"]


def test_requests_that_the_registry_died_over_are_done_by_the_next(stage):
    peer = stage.peer()
    peer.do("register", "anchor", {})
    dead = kill_registry(stage)
    for number in range(5):  # asked while there is none
        peer.do("register", f"n{number}", {})
    peer.do("close", "n0")
    peer.do("update", "n1", {"address": "/x"})
    successor(stage, dead)
    assert [entry.name for entry in registry.find()] == ["anchor", "n1", "n2", "n3", "n4"]
    assert registry.owner("n1").address == "/x"


@pytest.mark.parametrize("kind", [(), ("asyncio",)], ids=["thread", "asyncio"])
def test_who_has_looked_at_nothing_yet_waits_for_the_next_registry(stage, kind):
    peer = stage.peer(*kind)
    mine = peer.do("register", "engine", {})
    until(lambda: registry.find("engine"))
    kill_registry(stage)
    assert [entry["id"] for entry in until(lambda: peer.do("find", "*"))] == [mine["id"]]
    other = stage.peer(*kind)
    other.do("register", "other", {})
    kill_registry(stage)
    other.do("watch", "*")
    until(lambda: other.seen("end"))
    until(lambda: len({name for _, name, _ in other.seen()} - {None}) == 2)


def test_the_name_of_who_died_with_the_registry_goes_to_the_next_in_line(stage):
    first, second, watcher = (stage.peer() for _ in range(3))
    theirs = first.do("register", "engine", {})
    second.do("register", "engine", {})
    watcher.do("watch", "*")
    pid = stage.registry_pid()
    os.kill(pid, signal.SIGSTOP)  # so that it does not see the one die
    first.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: second.seen("owned"))
    assert second.events[-1]["token"] > theirs["token"]
    until(lambda: watcher.seen("removed") == [("engine", first.pid)])
    assert [entry.pid for entry in registry.find("engine")] == [second.pid]
    assert ("engine", second.pid) not in watcher.seen("removed")


def test_nobody_new_takes_a_name_whose_owner_is_on_its_way_back(stage):
    """A process that is stopped over the succession keeps its name for the time that it may take to come back."""
    owner, thief = stage.peer(), stage.peer()
    theirs = owner.do("register", "engine", {})
    thief.do("register", "other", {})
    os.kill(owner.pid, signal.SIGSTOP)
    dead = kill_registry(stage)
    until(lambda: (found := stage.registry_pid()) != dead and found)
    thief.tell("register", "engine", {"queue": False})
    until(lambda: "1 processes were registered" in stage.log_text() or "2 processes were registered" in stage.log_text())
    os.kill(owner.pid, signal.SIGCONT)
    with pytest.raises(AssertionError, match="NameInUseError"):
        thief.answer()
    assert registry.owner("engine").token == theirs["token"]


def test_who_comes_back_too_late_is_told_that_its_name_is_lost(stage):
    owner, heir = stage.peer(), stage.peer()
    theirs = owner.do("register", "engine", {})
    heir.do("register", "engine", {})
    os.kill(owner.pid, signal.SIGSTOP)
    kill_registry(stage)
    until(lambda: heir.seen("owned"))
    os.kill(owner.pid, signal.SIGCONT)
    until(lambda: owner.seen("lost") == [("engine", owner.pid)])
    assert heir.do("state", "engine")["token"] > theirs["token"]
    until(lambda: [entry.pid for entry in registry.find("engine")] == [heir.pid, owner.pid])


def test_a_receipt_that_is_another_process_is_no_use(stage):
    """Shown with the same connection's rights, but made for another PID or name: it is registered as if it were new."""
    from kvoshim.registry.client import pool

    peer = stage.peer()
    theirs = peer.do("register", "engine", {})
    with registry.register("mine") as mine:
        client = pool.client()
        from kvoshim.registry import wire

        answers = []
        for name, receipt in (("mine2", mine._receipt), ("engine", wire.Receipt(theirs["id"], 1, theirs["token"], 1.0, b"x" * 16))):
            offer = registry.Offer(name)
            answers.append(client.request(lambda number, offer=offer, receipt=receipt: wire.Register(number, offer, receipt)))
        assert answers[0].entry.id not in (mine.id, theirs["id"]) and answers[1].entry.id != theirs["id"]
        assert registry.owner("engine").pid == peer.pid


def test_the_clock_may_go_back(stage):
    """Numbers rise by what is written down, or by the clock: here by the former alone."""
    peer = stage.peer()
    before = peer.do("register", "engine", {})
    ledger = stage.run / "kvoshim" / "registry.ledger"
    data = bytearray(ledger.read_bytes())
    ahead = int.from_bytes(data[8:16], "little") + (1 << 60)
    data[8:16] = ahead.to_bytes(8, "little")
    ledger.write_bytes(data)
    successor(stage, kill_registry(stage))
    until(lambda: registry.find("engine"))
    assert peer.do("register", "other", {})["token"] > ahead > before["token"]


@pytest.mark.parametrize("spoil", ["lost", "empty", "garbage", "others", "link"])
def test_a_ledger_that_is_of_no_use(stage, spoil):
    """All are registered again, though not as they were; numbers rise all the same."""
    peer = stage.peer()
    before = peer.do("register", "engine", {})
    ledger = stage.run / "kvoshim" / "registry.ledger"
    if spoil == "lost":
        ledger.unlink()
    elif spoil == "empty":
        ledger.write_bytes(b"")
    elif spoil == "garbage":
        ledger.write_bytes(os.urandom(5000))
    elif spoil == "others":
        ledger.chmod(0o644)
    else:
        ledger.unlink()
        ledger.symlink_to("/dev/null")
    kill_registry(stage)
    until(lambda: [entry.pid for entry in registry.find("engine")] == [peer.pid] and peer.do("state", "engine")["id"] != before["id"])
    assert peer.do("state", "engine")["token"] > before["token"]


@pytest.mark.watchdog(480)
def test_twenty_processes_and_ten_dead_registries(stage):
    peers = [stage.peer(*(("asyncio",) if number % 4 == 0 else ())) for number in range(20)]
    for number, peer in enumerate(peers):
        peer.tell("register", f"n{number % 10}", {"address": f"/{number}"})
    for peer in peers:
        peer.answer()
    for peer in peers:
        peer.do("watch", "*")
    for peer in peers:
        until(lambda peer=peer: peer.seen("end"))
        peer.events.clear()
    live, tokens = set(peers), {}
    for turn in range(10):
        victim = None
        if turn in (3, 6):  # with one of the registered
            victim = peers[turn]
            live.discard(victim)
        before = until(stage.registry_pid)
        os.kill(before, signal.SIGKILL)
        if victim is not None:
            victim.kill()
        after = successor(stage, before)
        pids = sorted(peer.pid for peer in live)
        until(lambda pids=pids: sorted(entry.pid for entry in registry.find()) == pids, f"turn {turn}: {pids}")
        entries = registry.find()
        assert stage.registry_pids() == [after], f"turn {turn}: exactly one registry"
        assert stage.ask("status-get")["entries"] == len(live)
        for entry in entries:
            if entry.token:
                assert entry.token >= tokens.get(entry.name, 0)
                tokens[entry.name] = entry.token
        assert {entry.name for entry in entries if entry.owner} == {entry.name for entry in entries}
    dead = {peer.pid for peer in peers} - {peer.pid for peer in live}
    for peer in live:
        until(lambda peer=peer: {pid for _, pid in peer.seen("removed")} == dead, "the dead are told of")
        kinds = {event["kind"] for event in peer.events}
        assert kinds <= {"removed", "changed", "owned"}, "no search has a gap: nobody is added who was there"
    last = stage.peer()
    last.do("register", "last", {})
    for peer in live:
        until(lambda peer=peer: ("last", last.pid) in peer.seen("added"), "every search goes on")
